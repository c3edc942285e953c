"""Test vectors for ports: both formats hold the same numbers, and a port in C passes on them."""

import json
import pathlib
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
            assert part("grad")


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


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_port_in_c_passes_and_a_wrong_one_does_not(folder, tmp_path):
    def run(source):
        (tmp_path / "port.c").write_text(source)
        flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        build = [COMPILER, *flags, "-o", tmp_path / "port", tmp_path / "port.c", "-lm"]
        subprocess.run(build, check=True, capture_output=True)
        return subprocess.run(
            [tmp_path / "port", folder], capture_output=True, text=True, timeout=60
        )

    source = PORT.read_text()
    done = run(source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all pass\n")
    assert done.stdout.count("cases, worst relative error") == 3
    forgotten = "lambda *= conj(A.data[a])"
    assert forgotten in source
    done = run(source.replace(forgotten, "lambda *= A.data[a]"))
    assert done.returncode == 1
    assert "grad/A_bar" in done.stdout
