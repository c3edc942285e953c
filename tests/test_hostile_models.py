"""Models and training states from strangers: a test for each fault that `tests/fuzz` has found."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_checkpoint import forged
from test_hostile_files import filters, folder, put, saved

from ssm_manual import checkpoint
from ssm_manual.checkpoint import CheckpointError
from ssm_manual.models import DiagonalSSM, RecordingFilter

__all__ = ["folder"]  # every test has one of its own


TENSORS = {
    "more axes than an array can have": lambda t, o: t["D"].update(shape=[1] * 65),
    "nothing, of absurd size": lambda t, o: t.update(
        E={"dtype": "F64", "shape": [0, 2**62, 9], "data_offsets": [0, 0]}
    ),
    "integers that take hours to multiply": lambda t, o: t["D"].update(shape=[10**1000] * 200),
    "an array that is complex twice": lambda t, o: o["complex"].append("A"),
    "names of complex arrays as a text": lambda t, o: o.update(complex="ABC"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_header_that_makes_no_sense(case):
    path = saved(DiagonalSSM([0.5], 1.0, 0.5, 0.1), change=TENSORS[case])
    with pytest.raises(CheckpointError, match=r"m\.safetensors: has a header that makes no sense"):
        checkpoint.load(path)


def test_a_format_version_below_the_first():
    path = saved(DiagonalSSM([0.5], 1.0, 0.5), change=lambda t, o: o.update(format_version=-1))
    with pytest.raises(CheckpointError, match="format version -1"):
        checkpoint.load(path)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_json_has_not(text):
    """Python's reader takes them."""
    data = Path(saved(filters(rate=8000.0))).read_bytes()
    marked = forged(data, lambda t, o: o["hyperparameters"].update(rate=4321.5))
    length = int.from_bytes(marked[:8], "little")
    header = marked[8 : 8 + length].replace(b"4321.5", text.encode())
    bad = len(header).to_bytes(8, "little") + header
    path = put("m.safetensors", _resummed(bad) + marked[8 + length :])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


def test_a_key_given_twice():
    """Readers differ in which of the two they take."""
    data = Path(saved(DiagonalSSM([0.5], 1.0, 0.5, 0.1))).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    twice = json.loads(header)["D"]
    header = header[:-1] + b',"D":' + json.dumps(twice).encode() + b"}"
    bad = _resummed(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(put("m.safetensors", bad + data[8 + length :]))


def _resummed(raw):
    """The same with a fitting sum, so that the sum is not the reason."""
    place = checkpoint._place_of("header_sha256", raw)
    sound = bytearray(raw)
    sound[place] = checkpoint._header_sum(raw)
    return bytes(sound)


HYPERPARAMETERS = {
    "a model too many": lambda t, o: t.update({"models.9.D": t.pop("models.0.D")}),
    "a model before the first": lambda t, o: t.update({"models.-2.D": t.pop("models.0.D")}),
    "no number": lambda t, o: t.update({"models.x": t.pop("models.0.D")}),
    "400 digits": lambda t, o: o["hyperparameters"].update(rate=10**400),
    "a delay of hours": lambda t, o: o["hyperparameters"].update(delay=2**33),
    "a number for all": lambda t, o: o["hyperparameters"].update(models=5),
}


@pytest.mark.parametrize("case", HYPERPARAMETERS)
def test_hyperparameters_that_make_no_sense(case):
    path = saved(filters(), change=HYPERPARAMETERS[case])
    with pytest.raises(CheckpointError, match=r"m\.safetensors: does not hold a sound Rec"):
        checkpoint.load(path)


def test_options_that_are_no_object():
    from ssm_manual.models import SequenceModel

    model = SequenceModel(1, 2, 1, 1, block="rnn", rng=np.random.default_rng(0))
    for value in ([], None, 5, "x"):
        path = saved(model, change=lambda t, o, v=value: o["hyperparameters"].update(options=v))
        with pytest.raises(CheckpointError, match="sound SequenceModel"):
            checkpoint.load(path)


def test_texts_of_a_file_are_quoted_and_cut():
    """A terminal would obey them."""
    hostile = "\x1b[2J" + "x" * 5000
    for change in ({"format_version": 2, "library": hostile}, {"class": hostile}):
        path = saved(DiagonalSSM([0.5], 1.0, 0.5), change=lambda t, o, c=change: o.update(c))
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500


def test_a_filter_for_a_rate_out_of_reach():
    slow = DiagonalSSM([-250.0], 250.0, 0.5, parameters="continuous", dt=1e-3)
    with pytest.raises(ValueError, match=r"rate is 48000, and the filter's own .* closer"):
        RecordingFilter(slow, delay=3, rate=5e-324).resampled(48000.0)


# --------------------------------------------------------------------------------- training states


def test_a_refused_resume_changes_nothing():
    """The model was copied before the optimiser's state was looked at."""
    from small_model import fit, trainer

    fit(trainer(), epochs=1, checkpoint="run")
    sound = Path("run").read_bytes()

    def lose(tensors, ours):
        ours["hyperparameters"]["slots"] = ours["hyperparameters"]["slots"][:-1]

    def rename(tensors, ours):
        ours["hyperparameters"]["slots"][-1] = "other"

    def before(tensors, ours):
        ours["hyperparameters"]["counters"]["epoch"] = -1

    for change in (lose, rename, before):
        put("run", forged(sound, change))
        run = trainer()
        kept = {name: a.copy() for name, a in run.model.params.items()}
        with pytest.raises(CheckpointError, match=r"^run: "):
            fit(run, checkpoint="run", resume=True)
        assert all(np.array_equal(a, run.model.params[name]) for name, a in kept.items())


@pytest.mark.parametrize("group", ["best", "optimizer", "history"])
def test_a_training_state_with_nan(group):
    """It ended in NaN, or was taken for a divergence of this run."""
    from ssm_manual.training import TrainingState
    from ssm_manual.training.state import Run

    a = np.array([1.0, np.nan])
    groups = {name: {} for name in ("best", "optimizer", "history")}
    groups[group] = {"loss": a} if group == "history" else {"A": a}
    run = Run(best_params=groups["best"], history=groups["history"])
    saved(TrainingState(run, {"A": np.ones(2)}, {"mean": groups["optimizer"]}, {}))
    with pytest.raises(CheckpointError, match="holds a number that is not finite"):
        checkpoint.load("m.safetensors")
