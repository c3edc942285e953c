"""``ssm-manual regress``: what it prints and writes, and what it refuses before any work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.cli import _regress_report, main
from ssm_manual.models import LinearRegression
from ssm_manual.tasks import tables
from ssm_manual.training import regression

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(path, n=60, seed=0):
    rng = np.random.default_rng(seed)
    rooms, area = rng.integers(1, 8, n), rng.uniform(30, 200, n).round(1)
    price = 12.5 * rooms + 3.25 * area + 40 + rng.standard_normal(n)
    lines = ["rooms;area;town;price"]
    lines += [f'{r};{a};"here; there";{p!r}' for r, a, p in zip(rooms, area, price.tolist())]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return np.column_stack([rooms, area]).astype(float), price


def cells(text, name):
    """The numbers of a line of the printed table."""
    line = next(x for x in text.splitlines() if x.startswith(f"{name} "))
    return line[len(name) :].split()


def test_the_default_is_the_published_run(folder, capsys):
    assert main(["regress"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fish: 3 rows, weight from length, width\nfloat32, one update a row")
    assert cells(out, "length")[0] == "0.50356865"
    assert cells(out, "width")[0] == "0.18419152"
    assert cells(out, "bias")[0] == "0.012379333"
    assert float(cells(out, "length")[1]) == pytest.approx(0.5, abs=1e-5)
    assert cells(out, "length")[2] == "0.5"
    assert cells(out, "length 25, width 7")[::2] == ["13.89094", "13.9"]
    assert (cells(out, "length")[3], cells(out, "width")[3]) == ("1.00714", "0.92095")
    assert "meets the truth to 99.93 %" in out
    assert "19432 epochs, the last has the index 19431: mean e^2 9.99958e-06 reached 1e-05" in out
    assert "condition number of the features with a column of ones: 124" in out
    assert os.listdir(folder) == ["regress.png"]
    assert (folder / "regress.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_halves_as_said(capsys):
    """The printed time in which the slowest direction halves is that of the run."""
    assert main(["regress", "--no-figure"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "halves" in x)
    said = int(line.split("every")[1].split("epochs")[0].replace(",", ""))
    X, y = (a.astype(float) for a in (tables.FISH.X, tables.FISH.y))
    model = LinearRegression.initial(2, dtype="float64")
    losses = model.fit(X, y, epochs=30_001 + said, rate=0.001).losses  # the others have died away
    assert losses[30_000 + said] / losses[30_000] == pytest.approx(0.25, rel=0.01)  # of e^2


def test_a_table_of_ones_own(folder, capsys):
    X, y = write_table(folder / "houses.csv")
    argv = ["regress", "--data", "houses.csv", "--target", "price", "--features", "area", "rooms"]
    assert main([*argv, "--figure", "houses.svg", "--json", "out.json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("houses.csv: 60 rows, price from area, rooms\nfloat64, one update an")
    assert ", features standardised" in out
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(60)]), y, rcond=None)[0]
    for name, value in zip(("rooms", "area", "bias"), expected):
        learnt, closed, *ratio = map(float, cells(out, name))
        assert ratio == ([] if name == "bias" else [1.0])
        assert learnt == pytest.approx(value, rel=1e-6)
        assert closed == pytest.approx(value, rel=1e-7)
    assert b"<svg" in (folder / "houses.svg").read_bytes()
    data = json.loads((folder / "out.json").read_text())
    assert data["features"] == ["area", "rooms"]
    assert data["learnt"]["weights"] == pytest.approx([expected[1], expected[0]], rel=1e-9)
    assert data["epochs"] == data["epochs_in_all"] == 10_000
    assert data["options"]["standardise"] is True
    assert len(data["losses"]["values"]) == 500
    assert data["rate"] == LinearRegression.safe_rate(
        X[:, ::-1], updates="full_batch", standardise=True
    )
    assert "truth" not in data
    assert data["start"] == {"weights": [0.0, 0.0], "bias": 0.0}


@pytest.mark.parametrize("updates", ["per_sample", "full_batch"])
@pytest.mark.parametrize("standardise", ["--standardise", "--no-standardise"])
def test_the_default_rate_of_a_table_converges(folder, capsys, updates, standardise):
    write_table(folder / "houses.csv")
    argv = ["regress", "--data", "houses.csv", "--target", "price", "--features", "rooms", "area"]
    argv += ["--updates", updates, standardise, "--quick", "--no-figure", "--json", "a.json"]
    assert main(argv) == 0
    data = json.loads((folder / "a.json").read_text())
    assert data["epochs"] == 1000
    assert data["losses"]["last"] < data["losses"]["values"][0] / 100
    assert ("--standardise would bring" in capsys.readouterr().out) == ("no" in standardise)


def test_options_reach_the_training(folder, capsys):
    argv = ["regress", "--no-figure", "--json", "a.json", "--dtype", "float64", "--l2", "0.25"]
    argv += ["--updates", "full_batch", "--standardise", "--rate", "0.3", "--epochs", "77"]
    assert main([*argv, "--seed", "5", "--target-loss", "0"]) == 0
    data = json.loads((folder / "a.json").read_text())
    model = LinearRegression.initial(2, rng=np.random.default_rng(5), dtype="float64")
    assert data["start"]["weights"] == model.params["weights"].tolist()
    table = tables.FISH.astype("float64")
    shared = {"l2": 0.25, "standardise": True}
    model.fit(table.X, table.y, epochs=77, rate=0.3, updates="full_batch", **shared)
    closed = LinearRegression.least_squares(table.X, table.y, **shared)
    assert data["learnt"]["weights"] == model.params["weights"].tolist()
    assert data["least_squares"]["weights"] == closed.params["weights"].tolist()
    assert data["reason"] == "finished"
    assert data["stop"] == 76
    assert data["prediction"]["truth"] == pytest.approx(13.9)
    assert "l2 0.25, features standardised" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [[], ["--standardise", "--rate", "0.1", "--dtype", "float64"]])
def test_a_saved_run_goes_on_with_the_same_bits(folder, capsys, extra):
    common = ["regress", "--no-figure", "--target-loss", "0"]
    assert main([*common, *extra, "--epochs", "900", "--save", "whole.safetensors"]) == 0
    saving = ["--save", "part.safetensors", "--checkpoint-every", "200"]
    assert main([*common, *extra, "--epochs", "500", *saving]) == 0
    keep = extra[:-2]  # the precision is the model's
    going = [*common, *keep, "--epochs", "900", "--resume", "part.safetensors"]
    assert main([*going, "--save", "part.safetensors"]) == 0
    assert "500 epochs were made before, by the model of part.safetensors" in (
        capsys.readouterr().out
    )
    whole, part = (
        checkpoint.load(f"{name}.safetensors", expected=LinearRegression)
        for name in ("whole", "part")
    )
    assert whole.epochs == part.epochs == 900
    for name, value in whole.params.items():
        assert value.tobytes() == part.params[name].tobytes()
    names = checkpoint.read("part.safetensors").metadata
    assert names == {"features": ["length", "width"], "target": "weight"}


def test_checkpoints_are_written_on_the_way(monkeypatch, capsys):
    seen = []
    save = checkpoint.save

    def watch(path, model, **options):
        seen.append(model.epochs)
        save(path, model, **options)
        # also what an interrupted run leaves knows its columns
        assert checkpoint.read(path).metadata["features"] == ["length", "width"]

    monkeypatch.setattr(checkpoint, "save", watch)
    argv = ["--epochs", "25", "--save", "a.safetensors", "--checkpoint-every", "10"]
    assert main(["regress", "--no-figure", *argv]) == 0
    assert seen == [10, 20, 25, 25]


def test_the_model_is_saved_even_if_nobody_reads_the_table(monkeypatch, capsys):
    def closed(result):
        raise BrokenPipeError

    monkeypatch.setattr(_regress_report, "text", closed)
    assert main(["regress", "--quick", "--no-figure", "--save", "a.safetensors"]) == 0
    assert checkpoint.load("a.safetensors").epochs == 1000


def test_dependent_columns_are_told(folder, capsys):
    lines = ["a,b,y", *(f"{i},{2 * i},{3 * i + i % 2}" for i in range(9))]
    (folder / "t.csv").write_text("\n".join(lines))
    assert main(["regress", "--data", "t.csv", "--target", "y", "--figure", "t.png"]) == 0
    out = capsys.readouterr().out
    assert "condition number: infinite; some columns depend on each other" in out
    a, b = (float(cells(out, name)[1]) for name in "ab")
    assert b == pytest.approx(2 * a, rel=1e-6) or a == pytest.approx(2 * b, rel=1e-6)


def test_one_feature_and_many(folder, capsys):
    rng = np.random.default_rng(1)
    table = rng.standard_normal((30, 6))
    header = ",".join(["v", "w", "x", "y", "z", "target"])
    np.savetxt(folder / "t.csv", table, delimiter=",", header=header, comments="")
    for features in (["v"], ["v", "w", "x"], []):
        chosen = ["--features", *features] if features else []
        assert main(["regress", "--data", "t.csv", "--target", "target", *chosen, "--quick"]) == 0
        assert (folder / "regress.png").stat().st_size > 5000
    assert "target from v, w, x, y, z" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- refusals


@pytest.fixture
def no_training(monkeypatch):
    """Whatever is wrong must be found before any training."""

    def train(*args, **options):
        pytest.fail("training began")

    monkeypatch.setattr(regression, "fit", train)


DATA = ["--data", "t.csv", "--target", "y"]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "0"], "--epochs is 0; it must be at least 1"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--rate", "0"], "--rate is 0.0; it must be greater than 0"),
        (["--rate", "nan"], "--rate is nan"),
        (["--l2", "-1"], "--l2 is -1.0; it must be 0 or greater"),
        (["--target-loss", "nan"], "--target-loss is nan; it must be 0 or greater"),
        (["--target", "y"], "--target names columns of a table; it goes with --data FILE"),
        (["--features", "a"], "--features names columns of a table"),
        (["--data", "t.csv"], "--data needs --target COLUMN"),
        (["--checkpoint-every", "5"], "--checkpoint-every goes with --save"),
        (["--save", "a.safetensors", "--checkpoint-every", "0"], "--checkpoint-every is 0"),
        (["--save", "a.bin"], "--save is 'a.bin'; its name must end in .safetensors"),
        (["--save", "none/a.safetensors"], "there is no folder"),
        (["--figure", "a.txt"], "--figure is 'a.txt'; its name must end in one of"),
        (["--json", "none/a.json"], "--json is 'none/a.json', but there is no folder"),
        (["--json", "regress.png"], "--json is 'regress.png', the file of --figure"),
        ([*DATA, "--json", "t.csv"], "--json is 't.csv', the file of --data"),
        (["--resume", "fish.safetensors", "--json", "fish.safetensors"], "the file of --resume"),
        (["--resume", "fish.safetensors", "--seed", "1"], "--seed does not go with --resume"),
        (["--resume", "fish.safetensors", "--epochs", "3"], "has made 3; it counts them all"),
        (["--resume", "t.csv"], "t.csv: is"),
        (["--resume", "none.safetensors"], "--resume is 'none.safetensors'; there is no such file"),
        ([*DATA, "--resume", "fish.safetensors"], "a model of length, width; the table has a, b"),
        (["--data", "none.csv", "--target", "y"], "--data is 'none.csv'; there is no such file"),
        (["--data", "t.csv", "--target", "z"], "t.csv has no column 'z'; it has 'a', 'b', 'y'"),
        ([*DATA, "--features", "A"], "t.csv has no column 'A'"),
        ([*DATA, "--features", "y"], "the target 'y' is among the features"),
        ([*DATA, "--features", "a", "a"], "each name must be given once"),
        ([*DATA[2:], "--data", "only.csv"], "only.csv has no column but the target 'y'"),
        ([*DATA[2:], "--data", "words.csv"], "column 'a' holds 'red' at line 2; column 'b' holds"),
        ([*DATA[2:], "--data", "gap.csv"], "column 'b' holds '' at line 3; every chosen cell"),
        ([*DATA[2:], "--data", "nan.csv"], "column 'y' holds 'nan' at line 2"),
        ([*DATA[2:], "--data", "digits.csv"], "column 'a' holds '1_0' at line 2"),
        ([*DATA[2:], "--data", "bare.csv"], "the first line holds numbers; it must hold the"),
        ([*DATA[2:], "--data", "ragged.csv"], "line 3 has 2 cells, the line of names has 3"),
        ([*DATA[2:], "--data", "twice.csv"], "the column name 'y' is given twice"),
        ([*DATA[2:], "--data", "nameless.csv"], "the column name '' is empty"),
        ([*DATA[2:], "--data", "head.csv"], "has a line of names but no row below it"),
        ([*DATA[2:], "--data", "empty.csv"], "empty.csv is empty"),
        ([*DATA[2:], "--data", "bytes.csv"], "bytes.csv is not a text in UTF-8"),
        ([*DATA[2:], "--data", "quote.csv"], "quote.csv: line"),
        (
            [*DATA[2:], "--data", "large.csv", "--dtype", "float32"],
            "column 'a' holds a value beyond float32",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, message, folder, capsys):
    texts = {
        "t": "a,b,y\n1,2,3\n2,2,1\n",
        "only": "y\n1\n",
        "words": "a,b,y\nred,1,2\n1,blue,2\n",
        "gap": "a,b,y\n1,1,2\n1,,2\n",
        "nan": "a,b,y\n1,1,nan\n",
        "digits": "a,b,y\n1_0,1,2\n",
        "bare": "1,2,3\n1,1,2\n",
        "ragged": "a,b,y\n1,1,2\n1,2\n",
        "twice": "a,y,y\n1,1,2\n",
        "nameless": "a,,y\n1,1,2\n",
        "head": "a,b,y\n",
        "empty": "\n\n",
        "quote": 'a,b,y\n1,"2"3,4\n',
        "large": "a,b,y\n1e39,2,3\n2,2,1\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "bytes.csv").write_bytes(b"a,b,y\n\xff,2,3\n")
    model = LinearRegression.initial(2)
    model.epochs = 3
    names = {"features": ["length", "width"], "target": "weight"}
    checkpoint.save(folder / "fish.safetensors", model, metadata=names)
    before = sorted(os.listdir(folder))
    assert main(["regress", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("ssm-manual regress: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(os.listdir(folder)) == before


def test_divergence_is_one_line(folder, capsys):
    assert main(["regress", "--rate", "0.1"]) == 2
    captured = capsys.readouterr()
    assert "ssm-manual regress: --rate is 0.1: training diverged at epoch " in captured.err
    assert captured.out == ""
    assert os.listdir(folder) == []


def test_columns_are_read_as_written(folder):
    (folder / "t.csv").write_text('﻿"x, 1"\ty\tz\n 1e-3\t2\t0.1\n\n3\t-4\t5\n', "utf-8")
    table = tables.read_csv(folder / "t.csv", "y")
    assert table.features == ("x, 1", "z")
    assert table.X.tolist() == [[0.001, 0.1], [3.0, 5.0]]
    assert table.y.tolist() == [2.0, -4.0]
    assert tables.read_csv(folder / "t.csv", "y", ["z"]).X.tolist() == [[0.1], [5.0]]


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["regress", "--help"])
    out = capsys.readouterr().out
    for option in ("data", "target", "features", "rate", "epochs", "l2", "updates", "target-loss"):
        assert f"--{option}" in out
    assert "largest lambda" in out
    assert "examples" in out
    assert max(map(len, out.splitlines())) <= 100


def test_no_progress_bar_where_stderr_is_no_terminal(capsys):
    assert main(["regress", "--no-figure", "--quick"]) == 0
    assert "epoch/s" not in capsys.readouterr().err


def test_help_does_not_wait_for_slow_imports():
    code = (
        "import sys, ssm_manual.cli.regress\n"
        "slow = {'numba', 'matplotlib', 'scipy', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_more_epochs_than_memory_is_one_line(capsys):
    assert main(["regress", "--no-figure", "--epochs", str(10**12)]) == 2
    assert "Unable to allocate" in capsys.readouterr().err
