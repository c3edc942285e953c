"""A run that was killed and resumed ends with the bits of one that was not.

The whole end is compared: parameters, optimiser state, history. The run has everything that could
be forgotten: schedule, groups, moments, clipping, accumulation, dropout, shuffling, stopping.
"""

import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import PACKAGE
from small_model import EPOCHS, bits, fit, task, trainer

from ssm_manual import checkpoint
from ssm_manual.checkpoint import CheckpointError
from ssm_manual.models import SequenceModel
from ssm_manual.training import SGD, AdamW, Batches, EarlyStopping, Group, Trainer, TrainingState

UPDATES = 4 * EPOCHS  # 7 batches an epoch, two an update


@functools.cache
def uninterrupted():
    run = trainer()
    fit(run)
    assert len(run.history["loss"]) == UPDATES
    return bits(run)


class Killed(Exception):
    pass


def plain(epoch, data):
    """The data as it is; runs with and without interruptions have a curriculum of one name."""
    return data


def interrupted_fit(path, number, **options):
    """A run that ends with an exception before its batch ``number``, counted over all epochs."""
    left = iter(range(number))

    def cut(epoch, data):
        return lambda epoch, rng: map(lives, data(epoch, rng))

    def lives(batch):
        if next(left, None) is None:
            raise Killed
        return batch

    cut.__qualname__ = plain.__qualname__
    try:
        fit(trainer(), checkpoint=path, curriculum=cut, **options)
    except Killed:
        return True
    return False


@pytest.mark.parametrize(("every", "between"), [(None, 13), (1, 13), (3, 19)])
def test_a_run_cut_anywhere_ends_with_the_same_bits(every, between, tmp_path):
    expected = uninterrupted()
    resumed = 0
    for number in range(3, 7 * EPOCHS, between):
        path = tmp_path / f"{number}"
        assert interrupted_fit(path, number, checkpoint_every=every)
        resumed += path.exists()
        run = trainer()
        fit(run, checkpoint=path, checkpoint_every=every, curriculum=plain, resume=True)
        assert bits(run) == expected, number
    assert resumed >= 2


def test_a_run_of_many_pieces_ends_with_the_same_bits(tmp_path):
    """Each piece dies after ten batches, those left out included: it must have saved to get on."""
    path = tmp_path / "run"
    pieces = 0
    while interrupted_fit(path, 10, checkpoint_every=1, resume=True):
        pieces += 1
        assert pieces < 50
    run = trainer()
    fit(run, checkpoint=path, checkpoint_every=1, curriculum=plain, resume=True)
    assert pieces >= 5
    assert bits(run) == uninterrupted()


def test_a_run_that_is_done_stays_done(tmp_path):
    path = tmp_path / "run"
    first = trainer()
    fit(first, checkpoint=path)
    assert bits(first) == uninterrupted()  # saving changes nothing
    before = path.read_bytes()
    again = trainer()
    fit(again, checkpoint=path, resume=True)
    assert bits(again) == bits(first)
    assert again.reason == "finished"
    assert path.read_bytes() == before
    longer, once = trainer(), trainer()
    fit(longer, checkpoint=path, resume=True, epochs=EPOCHS + 2)
    fit(once, epochs=EPOCHS + 2)
    assert bits(longer) == bits(once)


def test_a_deep_model_trains_with_dropout_and_resumes(tmp_path):
    """`SequenceModel` in the loop: unequal lengths, cut within an epoch, a file of the model."""
    u, labels = task(32, 60)
    u = np.ascontiguousarray(u.swapaxes(1, 2))  # (items, length, features)
    lengths = np.random.default_rng(3).integers(40, 61, len(u))
    data = Batches(u, labels, lengths=lengths, batch_size=8)

    def new(dropout=0.2):
        rng = np.random.default_rng(4)
        model = SequenceModel(4, 16, 3, 2, modes=8, dropout=dropout, rng=rng)
        optimizer = AdamW(model.params, lr=0.02)
        return Trainer(model, "softmax_cross_entropy", optimizer, max_norm=1.0, seed=5)

    def cut(epoch, data):
        return data if epoch < 3 else half

    def half(epoch, rng):
        yield from itertools.islice(data(epoch, rng), 2)
        raise Killed

    cut.__qualname__ = plain.__qualname__
    once, undropped, resumed = new(), new(dropout=0.0), new()
    start = {name: a.copy() for name, a in once.model.params.items()}
    losses = once.fit(data, epochs=6)["epoch_loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert all((a != start[name]).any() for name, a in once.model.params.items())
    assert undropped.fit(data, epochs=1)["loss"] != once.history["loss"][:4]
    options = {"epochs": 6, "checkpoint": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(Killed):
        new().fit(data, curriculum=cut, **options)
    resumed.fit(data, curriculum=plain, resume=True, **options)
    assert bits(resumed) == bits(once)
    checkpoint.save(tmp_path / "model", resumed.model)
    model = checkpoint.load(tmp_path / "model")
    again = Trainer(model, "softmax_cross_entropy", AdamW(model.params, lr=0.02), seed=5)
    assert again.evaluate(data) == once.evaluate(data)
    deeper = SequenceModel(4, 16, 3, 3, modes=8, rng=np.random.default_rng(4))
    other = Trainer(deeper, "softmax_cross_entropy", AdamW(deeper.params, lr=0.02))
    with pytest.raises(CheckpointError, match=r"nothing for 'blocks\.2\.norm\.scale' of the model"):
        other.fit(data, resume=True, **options)


def test_early_stopping_is_remembered(tmp_path):
    """Killed while it waits: what was best, and how long it has waited, are in the file."""

    def stopped(path, **options):
        run = trainer(schedule=lambda step: 30.0 if step > 6 else 1.0)  # it soon gets worse
        options = {"early_stopping": EarlyStopping(patience=3), "epochs": 30} | options
        fit(run, checkpoint=path, **options)
        return run

    one = stopped(tmp_path / "one")
    epochs = len(one.history["epoch_loss"])
    assert one.reason == "early_stopping"
    for cut in range(1, epochs):
        stopped(tmp_path / str(cut), epochs=cut)
        two = stopped(tmp_path / str(cut), resume=True)
        assert bits(two) == bits(one)
        assert two.reason == "early_stopping"
    again = stopped(tmp_path / "one", resume=True)
    assert bits(again) == bits(one)


def test_an_optimiser_that_had_made_updates_before(tmp_path):
    def warmed():
        run = trainer()
        run.optimizer.step({name: np.ones_like(a) for name, a in run.model.params.items()})
        return run

    one = warmed()
    fit(one, epochs=2)
    fit(warmed(), epochs=1, checkpoint=tmp_path / "run")
    two = trainer()
    fit(two, epochs=2, checkpoint=tmp_path / "run", resume=True)
    assert bits(two) == bits(one)


# ---------------------------------------------------------------------------------------- kill -9

CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from small_model import batches, fit, trainer

data = batches()

def told(epoch, rng):
    for batch in data(epoch, rng):
        print("batch", flush=True)
        yield batch

def plain(epoch, data):
    return told

fit(trainer(), checkpoint=sys.argv[1], checkpoint_every=1, curriculum=plain, resume=True)
print("end", flush=True)
"""


def start(path):
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill(child, rng, number):
    """SIGKILL at a random moment within the update after batch ``number``."""
    for _ in range(number):
        line = child.stdout.readline()
        assert line == "batch\n", (line, child.wait())
    time.sleep(rng.uniform(0, 0.006))
    child.send_signal(signal.SIGKILL)
    with child:
        child.stdout.read()
    return child.returncode == -signal.SIGKILL


def killed_and_resumed(tmp_path, rng, kills):
    children = [(tmp_path / str(i), start(tmp_path / str(i))) for i in range(kills)]
    killed = [kill(child, rng, int(rng.integers(3, 7 * EPOCHS - 2))) for _, child in children]
    assert sum(killed) >= kills - 1  # one may have been quicker
    for path, _ in children:
        run = trainer()
        fit(run, checkpoint=path, curriculum=plain, resume=path.exists())
        assert bits(run) == uninterrupted()


def test_three_runs_killed_at_random_moments(tmp_path, rng):
    killed_and_resumed(tmp_path, rng, 3)


@pytest.mark.slow
def test_twenty_runs_killed_at_random_moments(tmp_path, rng):
    for i in range(5):
        (tmp_path / str(i)).mkdir()
        killed_and_resumed(tmp_path / str(i), rng, 4)


# ------------------------------------------------------------------------------- what is refused


def sgd_trainer(**options):
    run = trainer()
    return Trainer(run.model, "softmax_cross_entropy", SGD(run.model.params, lr=0.02), **options)


OTHER = {
    "seed was 7 and is 8": lambda path: fit(trainer(seed=8), checkpoint=path, resume=True),
    "max_norm was 1.0 and is 2.0": lambda path: fit(
        trainer(max_norm=2.0), checkpoint=path, resume=True
    ),
    "accumulate was 2 and is 1": lambda path: fit(
        trainer(accumulate=1), checkpoint=path, resume=True
    ),
    "optimizer.rule was 'AdamW' and is 'SGD'": lambda path: fit(
        sgd_trainer(), checkpoint=path, resume=True
    ),
    "schedule gave lr 0.004 at update 0 and gives 0.02": lambda path: fit(
        trainer(schedule=None), checkpoint=path, resume=True
    ),
    "data.batch_size was 3 and is 4": lambda path: fit(
        trainer(), Batches(*task(), batch_size=4), checkpoint=path, resume=True
    ),
    r"data.u was \[": lambda path: fit(
        trainer(), Batches(*task(seed=99), batch_size=3), checkpoint=path, resume=True
    ),
    "early_stopping.patience was 9 and is 5": lambda path: fit(
        trainer(), checkpoint=path, resume=True, early_stopping=EarlyStopping(5)
    ),
    "curriculum was 'NoneType' and is 'plain'": lambda path: fit(
        trainer(), checkpoint=path, resume=True, curriculum=plain
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run"
    fit(trainer(), epochs=1, checkpoint=path)
    return path


@pytest.mark.parametrize("message", OTHER)
def test_a_file_of_another_run_is_refused(message, saved):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        OTHER[message](saved)
    assert saved.read_bytes() == before


def test_a_file_of_another_model_or_kind_is_refused(saved, tmp_path):
    run = trainer()
    run.model.params["head.bias"] = run.optimizer.params["head.bias"] = np.zeros(4, np.float32)
    with pytest.raises(CheckpointError, match=r"shape \(3,\) for 'head.bias' of the model"):
        fit(run, checkpoint=saved, resume=True)
    checkpoint.save(tmp_path / "layer", trainer().model.ssm)
    with pytest.raises(CheckpointError, match="it must hold a TrainingState"):
        fit(trainer(), checkpoint=tmp_path / "layer", resume=True)


def test_a_damaged_file_is_refused_and_a_checkpoint_can_be_read(saved, tmp_path):
    found = checkpoint.load(saved)
    assert isinstance(found, TrainingState)
    assert found.run.epoch == 1
    assert set(found.params) == set(trainer().model.params)
    raw = bytearray(saved.read_bytes())
    raw[-1] ^= 1
    (tmp_path / "bad").write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        fit(trainer(), checkpoint=tmp_path / "bad", resume=True)


def test_groups_are_part_of_the_settings(saved):
    run = trainer()
    groups = [Group("all", lambda name: True, lr=0.02)]
    run.optimizer = AdamW(run.model.params, lr=0.02, groups=groups)
    with pytest.raises(CheckpointError, match=r"optimizer.lr.ssm.A_imag was 0.001 and is 0.02"):
        fit(run, checkpoint=saved, resume=True)
