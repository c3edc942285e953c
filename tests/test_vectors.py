"""Test vectors for ports: both formats hold the same numbers, and a port in C passes on them."""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from ssm_manual import gradcheck, vectors
from ssm_manual.cli import main

OPS = ("tustin", "scan", "mse", "softmax_cross_entropy", "pool")
PORT = pathlib.Path(__file__).resolve().parents[1] / "examples" / "port" / "port.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "new" / "folder"
    vectors.write(folder, OPS)
    return folder


def test_the_index_names_what_is_there(folder):
    index = json.loads((folder / "index.json").read_text())
    assert [op["op"] for op in index["ops"]] == list(OPS)
    assert (index["seed"], index["tolerance"]) == (0, vectors.TOLERANCE)
    told = (folder / "README.md").read_text()
    assert f"<= {vectors.TOLERANCE:g} norm(a)" in told
    assert f"error <= {vectors.TOLERANCE:g})" in PORT.read_text().replace("1e-9", "1e-09")
    files = {name for op in index["ops"] for name in op["files"]}
    assert files | {"README.md", "index.json"} == {path.name for path in folder.iterdir()}
    for op in index["ops"]:
        (pair,) = gradcheck.registered([op["op"]])
        assert op["cases"] == len(gradcheck.registry_examples(pair, 0)[0])
        assert op["arguments"] == list(pair.arguments)


@pytest.mark.parametrize("name", OPS)
def test_both_formats_hold_the_same_numbers(name, folder):
    told = json.loads((folder / f"{name}.json").read_text())["cases"]
    kinds = {"in": "inputs", "option": "options", "out": "outputs", "cotangent": "cotangents"}
    kinds["grad"] = "gradients"
    with np.load(folder / f"{name}.npz") as arrays:
        seen = 0
        for key in arrays:
            k, kind, own = key.split("/")
            a, b = arrays[key], told[int(k)][kinds[kind]][own]
            if a.dtype.kind == "S":
                assert b == a.item().decode()
            else:
                assert (b["dtype"], b["shape"]) == (a.dtype.name, list(a.shape))
                data = np.array(b["data"])
                data = data[::2] + 1j * data[1::2] if a.dtype.kind == "c" else data
                assert np.array_equal(data.reshape(a.shape), a)
            seen += 1
        assert seen == sum(len(case[kind]) for case in told for kind in kinds.values())


@pytest.mark.parametrize("name", OPS)
def test_the_gradients_are_those_of_the_op(name, folder):
    """Read back and run again: every array, from what is in the file alone."""
    (pair,) = gradcheck.registered([name])
    with np.load(folder / f"{name}.npz") as arrays:
        cases = 1 + max(int(key.split("/")[0]) for key in arrays)
        for k in range(cases):

            def part(kind, k=k):
                start = f"{k}/{kind}/"
                return {key[len(start) :]: a for key, a in arrays.items() if key.startswith(start)}

            args = [part("in").get(argument) for argument in pair.arguments]
            options = {
                key: a.item().decode() if a.dtype.kind == "S" else a if a.ndim else a.item()
                for key, a in part("option").items()
            }
            if "lengths" in options:
                options["lengths"] = tuple(options["lengths"].tolist())
            out, residuals = pair.fwd(*args, **options)
            outputs = out if isinstance(out, tuple) else (out,)
            for i, y in enumerate(outputs):
                assert np.array_equal(y, part("out")[str(i)])
            cotangents = [part("cotangent")[str(i)] for i in range(len(outputs))]
            given = tuple(cotangents) if isinstance(out, tuple) else cotangents[0]
            grads = dict(zip(pair.arguments, pair.vjp(residuals, given)))
            for argument, grad in part("grad").items():
                assert np.array_equal(grads[argument], grad)
            numbers = {key for key, a in part("in").items() if a.dtype.kind in "fc"}
            assert set(part("grad")) == numbers, "one gradient for each argument that has one"


@pytest.mark.parametrize("name", OPS)
def test_numbers_are_double_and_cotangents_random(name, folder):
    """Ones would not see time run backwards, nor real ones a conjugate."""
    with np.load(folder / f"{name}.npz") as arrays:
        for key, a in arrays.items():
            kind = key.split("/")[1]
            whole = kind == "option" or (kind == "in" and a.dtype.kind not in "fc")
            assert whole or a.dtype in (np.float64, np.complex128), key
            if kind == "cotangent":
                assert np.unique(a).size == a.size, key
                assert a.dtype.kind == "f" or np.all(a.imag != 0), key


def test_nothing_that_fails_its_proof_is_written(tmp_path, monkeypatch):
    (pair,) = gradcheck.registered(["mse"])
    wrong = pair._replace(vjp=lambda r, g: tuple(1.001 * a for a in pair.vjp(r, g)))
    monkeypatch.setattr(gradcheck, "registered", lambda names: [wrong])
    with pytest.raises(RuntimeError, match="mse, real"):
        vectors.write(tmp_path, ["mse"])
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    assert main(["vectors", str(tmp_path / "v"), "mse", "--seed", "5"]) == 0
    assert capsys.readouterr().out == f"9 cases of 1 op: {tmp_path / 'v'}\n"
    first = (tmp_path / "v" / "mse.npz").read_bytes()
    vectors.write(tmp_path / "w", ["mse"], seed=5)
    assert np.array_equal(*(_values(tmp_path / name / "mse.npz") for name in "vw"))
    assert len(first) > 1000
    vectors.write(tmp_path / "z", ["mse"])
    with np.load(tmp_path / "v" / "mse.npz") as five, np.load(tmp_path / "z" / "mse.npz") as zero:
        for key in five:
            assert "option" in key or not np.array_equal(five[key], zero[key]), key
    assert json.loads((tmp_path / "v" / "index.json").read_text())["seed"] == 5
    (tmp_path / "file").write_text("")
    for argv, message in [
        (["x", "nothing"], "op is 'nothing'"),
        (["x", "--seed", "-1"], "--seed is -1"),
        ([str(tmp_path / "file"), "mse"], "which cannot be made"),
    ]:
        assert main(["vectors", *argv]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["vectors"])
    assert capsys.readouterr().err.endswith("the following arguments are required: DIR\n")


def _values(path):
    with np.load(path) as arrays:
        return np.concatenate([a.ravel() for a in arrays.values()])


@pytest.fixture
def run(folder, tmp_path):
    """Compile a port and run it."""

    def run(source, folder=folder):
        (tmp_path / "port.c").write_text(source)
        flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        build = [COMPILER, *flags, "-o", tmp_path / "port", tmp_path / "port.c", "-lm"]
        subprocess.run(build, check=True, capture_output=True)
        return subprocess.run(
            [tmp_path / "port", folder], capture_output=True, text=True, timeout=60
        )

    return run


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_port_in_c_passes_and_a_wrong_one_does_not(run, folder):
    source = PORT.read_text()
    done = run(source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all pass\n")
    for name, line in zip(("tustin", "scan", "mse"), done.stdout.splitlines(), strict=False):
        with np.load(folder / f"{name}.npz") as arrays:
            judged = sum("/out/" in key or "/grad/" in key for key in arrays)
        assert re.match(rf"{name} .* {judged} arrays, worst relative error \d\.\de-1\d$", line)
    forgotten = "lambda *= conj(A.data[a])"
    assert forgotten in source
    done = run(source.replace(forgotten, "lambda *= A.data[a]"))
    assert done.returncode == 1
    assert "grad/A_bar" in done.stdout


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_port_asks_for_exact_zeros_and_for_double_precision(run, folder, tmp_path):
    """A small error against zero passes in no norm; float32 must not be read as bytes."""
    shutil.copytree(folder, tmp_path / "v")
    with np.load(folder / "mse.npz") as arrays:
        one = {key: a for key, a in arrays.items() if key.startswith("0/")}
    one |= {key: 0 * a for key, a in one.items() if "/cotangent/" in key or "/grad/" in key}
    np.savez(tmp_path / "v" / "mse.npz", **one)
    assert run(PORT.read_text(), tmp_path / "v").returncode == 0
    right = "2 * e / p.size * g.data[0]"
    assert right in PORT.read_text()
    done = run(PORT.read_text().replace(right, right + " + 1e-7"), tmp_path / "v")
    assert "grad/prediction: relative error inf" in done.stdout

    np.savez(tmp_path / "v" / "mse.npz", **{key: a.astype(np.float32) for key, a in one.items()})
    done = run(PORT.read_text(), tmp_path / "v")
    assert (done.returncode, "neither double precision" in done.stderr) == (2, True)
