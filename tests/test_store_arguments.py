"""The store refuses in words what it could not give back, before anything has been written."""

import io
import math
import os
import sqlite3

import numpy as np
import pytest

from ssm_manual.cli import main
from ssm_manual.models import LinearRegression
from ssm_manual.store import Store, StoreError, _plain, describe, strict


def nested(depth):
    data = {}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


ITSELF = {}
ITSELF["a"] = [ITSELF, ITSELF]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "x" * (2**20 + 1)}, "name has 1048577 characters; it must have at most 1048576"),
        ({"tags": dict}, "tags is <class 'dict'>; it must be a list of texts"),
        ({"tags": 3}, "tags is 3"),
        ({"tags": [3]}, r"tags\[0\] is 3"),
        ({"seed": 2.5}, "seed is 2.5; it must be an integer"),
        ({"seed": True}, "seed is True"),
        ({"seed": [1, "2"]}, "seed is '2'"),
        ({"seed": 10**5000}, "seed does not fit into JSON"),
        ({"versions": {"x": 1}}, "versions is 1; it must be a text"),
        ({"versions": {1: "x"}}, "versions is 1; it must be a text"),
        ({"config": {1: "a", "1": "b"}}, "config does not fit into JSON: the key 1 is no text"),
        ({"config": {"x": [{None: 1}]}}, "the key None is no text"),
        ({"config": nested(_plain.DEEPEST + 1)}, "more than 100 dicts and lists"),
        ({"config": nested(900)}, "more than 100 dicts and lists"),
        ({"config": nested(10**5)}, "config does not fit into JSON"),
        ({"config": ITSELF}, "config does not fit into JSON: Circular"),
    ],
)
def test_what_start_refuses(arguments, message, store):
    with pytest.raises(ValueError, match=message):
        store.start(**{"name": "a"} | arguments)
    assert store.runs() == []


@pytest.mark.parametrize("seed", [None, 0, -1, 2**70, [1, 2], []])
def test_seeds_come_back(seed, store):
    assert store.run(store.start("a", seed=seed).id).seed == seed


def test_seeds_of_numpy(store):
    assert store.start("a", seed=np.uint8(3)).seed == 3
    assert store.start("a", seed=np.arange(3)).seed == [0, 1, 2]


def test_the_deepest_configuration_can_be_shown_and_exported(store, path, tmp_path, capsys):
    config = nested(_plain.DEEPEST)
    with store.start("a", config) as run:
        pass
    store.export(run, tmp_path / "out")
    assert strict(describe(run))["config"] == config
    assert main(["runs", "show", path, "1"]) == 0
    assert main(["runs", "list", path]) == 0


def test_strict_ends(store):
    with pytest.raises(ValueError, match="value has too many dicts and lists"):
        strict(ITSELF)
    with pytest.raises(ValueError, match="run is 3; it must be a Run"):
        describe(3)


def test_tags_that_are_looked_for(store):
    store.start("a", tags=["x"])
    for tag in (3, "", np.array(["x", "y"])):
        with pytest.raises(ValueError, match=r"tag is .*; it must be a text"):
            store.runs(tag=tag)


def test_a_masked_block_leaves_no_signal(store):
    run = store.start("a")
    with pytest.raises(ValueError, match="masked"):
        run.append("x", np.ma.zeros(3))
    assert run.signals == {}


@pytest.mark.parametrize(
    "dtype", [{"names": ["a"]}, "a", "(", "f4,f4", "M8[", type("T", (), {"dtype": 5})()]
)
def test_what_is_no_dtype(dtype, store):
    run = store.start("a")
    with pytest.raises(ValueError, match=r"dtype is .*; it must be one of float32"):
        run.signal("x", dtype=dtype)


def test_a_name_in_a_message_is_no_more_than_a_name(store):
    run = store.start("a")
    with pytest.raises(ValueError, match=r"^values\['\\x1b\[2J'\] is None; it must be a"):
        run.log(0, **{"\x1b[2J": None})
    with pytest.raises(ValueError, match=r"^values\['x{50,80}\.\.\.\] is None; it must be a"):
        run.log(0, **{"x" * 10**5: None})


def test_a_number_beyond_float64(store):
    run = store.start("a")
    beyond = np.longdouble("1e4000")
    if np.isfinite(beyond):  # where the format is longer
        with pytest.raises(ValueError, match=r"values\['a'\] is .*; it is beyond float64"):
            run.log(0, a=beyond)
    run.log(0, a=np.longdouble("-inf"))
    assert run.metrics("a")[1].tolist() == [-math.inf]


def test_an_error_without_words(store):
    class Wordless(Exception):
        def __str__(self):
            raise RuntimeError

    with pytest.raises(Wordless), store.start("a") as run:
        raise Wordless
    assert (run.status, run.error) == ("failed", "Wordless")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (3, "folder is 3; it must be a path"),
        (b"x", "folder is b'x'; it must be a path"),
        ("", "folder is ''; it must be a path"),
        ("a\0b", "no file can have this name"),
        ("\ud800", "no file can have this name"),
    ],
)
def test_what_is_no_folder(folder, message, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with store.start("a") as run:
        pass
    before = os.listdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        store.export(run, folder)
    assert os.listdir(tmp_path) == before


def test_a_checkpoint_is_written_to_a_file(store):
    run = store.start("a")
    run.save_checkpoint(LinearRegression(np.ones(2), 0.5))
    with pytest.raises(ValueError, match="file is 3; it must be a file"):
        run.write_checkpoint("model", 3)
    run.write_checkpoint("model", io.BytesIO())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE checkpoint SET size = '[]'", "checkpoint 'model' has no size"),
        ("DELETE FROM metric", "is damaged: a metric of run 1"),
        ("UPDATE run SET config = '" + '{"a":' * 500 + "1" + "}" * 500 + "'", "its description"),
    ],
)
def test_damage_that_only_a_reader_meets(change, message, path, tmp_path, capsys):
    with Store(path) as store, store.start("a") as run:
        run.log(0, loss=1.0)
        run.save_checkpoint(LinearRegression(np.ones(2), 0.5))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(change)
    connection.commit()
    connection.close()
    with Store(path, readonly=True) as store, pytest.raises(StoreError, match=message):
        store.export(1, tmp_path / "out")
    assert main(["runs", "export", path, "1", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
