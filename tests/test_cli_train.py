"""``ssm-manual train``: help that comes from the task, what it writes, what it refuses."""

import json
import os
import re
import types

import numpy as np
import pytest

from ssm_manual import checkpoint
from ssm_manual.cli import _train_report, main
from ssm_manual.models import SequenceModel
from ssm_manual.tasks import training_run
from ssm_manual.tasks.catalogue import TASKS, task_class
from ssm_manual.tasks.protocol import CHOICE_SEED

QUICK = ["train", "previous-bit", "--quick"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def helped(capsys, *argv):
    with pytest.raises(SystemExit) as end:
        main([*argv, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_task(capsys):
    out = helped(capsys, "train")
    for name, entry in TASKS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}", out, re.M)


@pytest.mark.parametrize("name", TASKS)
def test_help_of_a_task_teaches_it(name, capsys):
    out = helped(capsys, "train", name)
    task = task_class(name)
    assert task.description.strip()[:60] in out
    for option, known in task.options.items():
        assert f"--{option} N" in out
        assert f"(default {known.default})" in re.sub(r"\s+", " ", out)
    assert ("--data FILE" in out) == bool(task.needs_data)


def test_a_run_is_told_drawn_and_kept(folder, capsys):
    assert main([*QUICK, "--json", "run.json", "--save", "m.safetensors", "--seed", "1"]) == 0
    captured = capsys.readouterr()
    assert sorted(os.listdir(folder)) == ["m.safetensors", "previous-bit.png", "run.json"]
    assert (folder / "previous-bit.png").read_bytes().startswith(b"\x89PNG")
    run = json.loads((folder / "run.json").read_text())
    assert [r["model"] for r in run["runs"]] == ["s4d", "lstm"]
    assert (run["task"], run["seed"], run["quick"]) == ("previous-bit", 1, True)
    for line, found in zip(("*  S4D", "   LSTM"), run["runs"]):
        row = next(x for x in captured.out.splitlines() if x.startswith(line))
        assert f"{found['parameters']:,}" in row
        assert row.endswith(f"{100 * found['test']['accuracy']:.2f} %")
        assert len(found["history"]["loss"]) == found["updates"]
    assert "training S4D" in captured.err

    model = checkpoint.load("m.safetensors", expected=SequenceModel)
    task = task_class("previous-bit")(quick=True)
    again = training_run.compare(task, ("s4d",), seed=1, progress=False)
    for name, value in again.runs[0].model.params.items():
        assert np.array_equal(value, model.params[name])
    assert checkpoint.read("m.safetensors").metadata == {
        "task": "previous-bit", "options": {"length": 10}, "quick": True, "seed": 1,
    }  # fmt: skip


def test_choosing_prints_every_candidate(folder, capsys, monkeypatch):
    seeds, train = [], training_run.train
    monkeypatch.setattr(
        training_run, "train", lambda *a, **o: seeds.append(o["seed"]) or train(*a, **o)
    )
    assert main([*QUICK, "--model", "lstm", "--choose"]) == 0
    assert set(seeds) == {CHOICE_SEED}
    lines = capsys.readouterr().out.splitlines()
    tried = task_class("previous-bit")(quick=True).candidates("lstm")
    assert len(lines) == len(tried) + 2
    assert all(re.match(r" +[\d.]+ % ", line) for line in lines[1:-1])
    assert lines[-1].startswith("the best of them is ")
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--length", "1"], "--length is 1; it must be"),
        (["--seed", "-1"], "--seed is -1"),
        (["--beside", "gru"], "--beside is 'gru'; it must be none, or some of"),
        (["--beside", "s4d"], "--beside is 's4d'"),
        (["--beside", "lstm,lstm"], "each once"),
        (["--figure", "x.txt"], "--figure is 'x.txt'"),
        (["--save", "x.npz"], "--save is 'x.npz'"),
        (["--json", "nowhere/x.json"], "--json is 'nowhere/x.json'"),
        (["--choose", "--json", "x.json"], "--json does not go with --choose"),
        (["--choose", "--beside", "rnn"], "--beside does not go with --choose"),
        (["--choose", "--seed", "2"], "--seed does not go with --choose"),
        (["--choose", "--seed", "0"], "--seed does not go with --choose"),
    ],
)
def test_bad_options_are_refused_before_any_work(argv, message, folder, capsys, monkeypatch):
    monkeypatch.setattr(training_run, "train", lambda *a, **o: pytest.fail("it trained"))
    assert main([*QUICK, *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssm-manual train: ")
    assert message in error
    assert os.listdir(folder) == []


def test_a_file_that_is_not_there_is_named(capsys):
    assert main(["train", "mnist", "--data", "nowhere.npz"]) == 2
    assert "--data is 'nowhere.npz'; there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: TASK"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["digits", "--model", "x"], "argument --model: invalid choice: 'x'"),
        (["previous-bit", "--length", "1e3"], "argument --length: invalid int value: '1e3'"),
        (["previous-bit", "--delay", "3"], "unrecognized arguments: --delay 3"),
        (["previous-bit", "--figure", "x.png", "--no-figure"], "not allowed with argument"),
        (["mnist"], "the following arguments are required: --data"),
        (["digits", "--data", "x.npz"], "unrecognized arguments: --data x.npz"),
    ],
)
def test_what_argparse_refuses(argv, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", *argv])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "higher", "verdict"),
    [
        ((0.9, 0.8), True, "not what is used"),
        ((0.8, 0.9), True, "is what is used"),
        ((0.9, 0.9), True, "is what is used"),  # none is better
        ((0.1, 0.2), False, "not what is used"),
        ((0.2, 0.1), False, "is what is used"),
    ],
)
def test_the_verdict_on_the_candidates(values, higher, verdict):
    task = types.SimpleNamespace(
        metric="score", higher_is_better=higher, settings=lambda model: "second"
    )
    runs = [types.SimpleNamespace(validation={"score": value}) for value in values]
    told = _train_report.choice_verdict(task, "s4d", ("first", "second"), runs)
    assert verdict in told
