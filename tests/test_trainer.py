"""The training loop: it learns, its history is right to the number, and it says what goes wrong."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close, run_python
from small_model import Classifier, bits, fit, task, trainer

from ssm_manual import plots
from ssm_manual.layers import S4D
from ssm_manual.ops import PAIRS
from ssm_manual.training import (
    SGD,
    AdamW,
    Batch,
    Batches,
    DivergenceError,
    EarlyStopping,
    GradientDescent,
    StepDivergenceError,
    Trainer,
    accuracy,
)


class Line:
    """``y = a u``: a model whose training can be followed with a pencil."""

    def __init__(self, a=0.0, dtype=np.float64):
        self.params = {"a": np.array([a], dtype)}

    def forward(self, u):
        return self.params["a"] * u, u

    def backward(self, grad_y, cache):
        return {"a": np.sum(grad_y * cache).reshape(1)}


def line_trainer(lr=0.1, rule=GradientDescent, **options):
    model = Line()
    return Trainer(model, "half_mse", rule(model.params, lr=lr), **options)


# ------------------------------------------------------------------------------------- what it does


def test_every_update_is_the_one_that_a_pencil_finds():
    model = Line()
    optimizer = GradientDescent(model.params, lr=0.1)
    run = Trainer(model, "half_mse", optimizer, schedule=lambda step: 0.5**step)
    u, target = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 7.0])
    history = run.fit([(u[:2], target[:2]), (u[2:], target[2:])], epochs=2)
    a, losses, norms = 0.0, [], []
    for step in range(4):
        rows = slice(0, 2) if step % 2 == 0 else slice(2, 3)
        e = a * u[rows] - target[rows]
        grad = np.mean(e * u[rows])
        losses.append(0.5 * np.mean(e**2))
        norms.append(abs(grad))
        a -= 0.1 * 0.5**step * grad
    assert model.params["a"][0] == pytest.approx(a, rel=1e-14)
    assert history["loss"] == pytest.approx(losses, rel=1e-14)
    assert history["grad_norm"] == pytest.approx(norms, rel=1e-14)
    assert history["lr"] == [0.1, 0.05, 0.025, 0.0125]
    means = [(2 * losses[i] + losses[i + 1]) / 3 for i in (0, 2)]  # by items, not by batches
    assert history["epoch_loss"] == pytest.approx(means, rel=1e-14)
    assert all(type(value) is float for values in history.values() for value in values)


def test_it_learns_and_every_parameter_moves():
    model = Classifier()
    run = Trainer(model, "softmax_cross_entropy", AdamW(model.params, lr=0.05))
    run._passes.taken -= {"seed"}  # no dropout
    before = {name: a.copy() for name, a in model.params.items()}
    u, labels = task(60)
    run.fit(Batches(u, labels, batch_size=10), epochs=15)
    found = run.evaluate(Batches(u, labels, batch_size=7))
    assert found["loss"] < 0.7 < 1.05 < run.history["loss"][0]
    for name, a in model.params.items():
        assert not np.array_equal(a, before[name]), name


def test_accumulated_batches_are_one_large_batch(rng):
    """Of unequal sizes and weights too: a mean over all positions [OPTIM-8]."""
    u, target = rng.standard_normal((2, 7, 3))
    found = []
    for groups in ([7], [3, 3, 1]):
        run = line_trainer(accumulate=len(groups), max_norm=0.01)
        ends = np.cumsum([0, *groups])
        run.fit([(u[i:j], target[i:j]) for i, j in itertools.pairwise(ends)], epochs=2)
        found.append((run.model.params["a"], run.history["loss"], run.history["grad_norm"]))
    for one, many in zip(*found):
        assert_close(np.array(many), np.array(one), 1e-13)


def test_weights_of_positions_count_in_means(rng):
    u, labels = task(8)
    weights = rng.uniform(0.1, 1, 8).astype(np.float32)
    found = []
    for pieces in ([slice(0, 8)], [slice(0, 3), slice(3, 8)]):
        model = Classifier(dtype="float32")
        run = Trainer(
            model, "softmax_cross_entropy", SGD(model.params, lr=0.1), accumulate=len(pieces)
        )
        run._passes.taken -= {"seed"}  # no dropout: the batches differ
        data = [Batch(u[p], labels[p], weights=weights[p]) for p in pieces]
        run.fit(data, epochs=1)
        loss = run.evaluate([b._replace(weights=2 * b.weights) for b in data])["loss"]
        assert loss == pytest.approx(run.evaluate(data)["loss"], rel=1e-6)
        found.append((*model.params.values(), np.array([*run.history["loss"], loss])))
    assert_close(*found[::-1], 1e-5)


def test_gradients_are_clipped_and_the_history_tells_their_norm_before():
    run = line_trainer(max_norm=0.5)
    run.fit([(np.ones(4), np.full(4, 10.0))], epochs=1)
    assert run.history["grad_norm"] == [10.0]
    assert run.model.params["a"] == pytest.approx(0.05)


def test_evaluation_has_neither_dropout_nor_caches():
    run = trainer(metrics={"accuracy": accuracy})
    fit(run, epochs=2)
    training = [c for c in run.model.calls if c["seed"] is not None]
    evaluation = [c for c in run.model.calls if c["seed"] is None]
    assert len({c["seed"] for c in training}) == len(training) == 14  # each its own
    assert all(c["cache"] for c in training)
    assert len(evaluation) == 4
    assert not any(c["cache"] for c in evaluation)
    found = run.evaluate(Batches(*task(6, seed=6), batch_size=4))
    u, labels = task(6, seed=6)
    y = run.model.forward(u)[0]
    assert found["loss"] == pytest.approx(float(PAIRS["softmax_cross_entropy"].fwd(y, labels)[0]))
    assert found["accuracy"] == pytest.approx(np.mean(y.argmax(axis=-1) == labels))
    assert run.history["validation_accuracy"][-1] == pytest.approx(found["accuracy"])
    assert run.history["validation_loss"][-1] == pytest.approx(found["loss"])


def test_lengths_reach_the_model():
    u, labels = task(8)
    lengths = np.arange(33, 41)
    model = Classifier()
    run = Trainer(model, "softmax_cross_entropy", SGD(model.params, lr=0.1))
    run.fit(Batches(u, labels, lengths=lengths, batch_size=4, shuffle=False), epochs=1)
    assert [c["lengths"].tolist() for c in model.calls] == [[33, 34, 35, 36], [37, 38, 39, 40]]
    with pytest.raises(ValueError, match="forward takes none"):
        line_trainer().fit([(np.ones(2), np.ones(2), np.ones(2, int))], epochs=1)


def test_a_layer_alone_and_a_loss_of_ones_own(rng):
    layer = S4D(2, 3, rng=rng, view="scan")
    pair = PAIRS["mse"]
    run = Trainer(layer, (pair.fwd, pair.vjp), AdamW(layer.params, lr=0.01))
    u = rng.standard_normal((4, 2, 20), dtype=np.float32)
    history = run.fit(Batches(u, np.roll(u, 1, -1), batch_size=4), epochs=20)
    assert history["loss"][-1] < 0.9 * history["loss"][0]


# --------------------------------------------------------------------------------- data, curriculum


def test_every_item_comes_once_an_epoch_in_another_order():
    data = Batches(np.arange(10.0), np.arange(10), batch_size=4)
    epochs = [
        [b.u.tolist() for b in data(epoch, np.random.default_rng([3, epoch]))] for epoch in (0, 1)
    ]
    assert [len(b) for b in epochs[0]] == [4, 4, 2]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(10))
    assert epochs[0] != epochs[1]
    short = Batches(np.arange(10.0), np.arange(10), batch_size=4, drop_last=True)
    assert len(list(short(0, np.random.default_rng(0)))) == len(short) == 2
    assert short.items == 8


def test_a_seed_decides_the_order_and_the_dropout():
    runs = [trainer(seed=seed) for seed in (1, 1, 2)]
    for run in runs:
        fit(run, epochs=2)
    assert bits(runs[0]) == bits(runs[1])
    assert bits(runs[0]) != bits(runs[2])


def test_a_callable_gets_the_epoch_and_a_generator():
    seen = []

    def data(epoch, rng):
        seen.append((epoch, rng.integers(1000)))
        yield np.ones(2), np.ones(2)

    for _ in range(2):
        line_trainer(seed=4).fit(data, epochs=3)
    assert seen[:3] == seen[3:]
    assert [epoch for epoch, _ in seen[:3]] == [0, 1, 2]
    assert len({number for _, number in seen}) == 3


def test_a_curriculum_chooses_the_data_of_each_epoch():
    def curriculum(epoch, data):
        return data[: epoch + 1]

    run = line_trainer()
    run.fit([(np.ones(2), np.ones(2))] * 3, epochs=3, curriculum=curriculum)
    assert len(run.history["loss"]) == 1 + 2 + 3


# ----------------------------------------------------------------------------------- early stopping


def stopping_run(values, **options):
    """A run whose validation loss takes the given values, and whose parameter counts epochs."""
    given = iter(values)
    run = line_trainer(metrics={"score": lambda y, target: next(given)})
    run.optimizer.step = lambda grads, factor: run.model.params["a"].__iadd__(1.0)
    data = [(np.ones(2), np.ones(2))]
    stopping = EarlyStopping(metric="validation_score", **options)
    run.fit(data, epochs=len(values), validation=data, early_stopping=stopping)
    return run


@pytest.mark.parametrize(
    ("options", "values", "epochs", "best"),
    [
        ({"patience": 2}, [5, 4, 4, 4.5, 1], 4, 2),
        ({"patience": 2}, [5, 4, 4.5, 3, 4, 4, 1], 6, 4),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 2, 9], 4, 3),
        ({"patience": 1, "min_change": 0.5}, [5, 4, 3.6, 1], 3, 2),
        ({"patience": 2}, [np.nan, np.nan, 4, 5, 6, 1], 2, None),
        ({"patience": 2}, [np.nan, 4, 5, 6, 1], 4, 2),
        ({"patience": 2, "restore": False}, [5, 4, 4, 4.5, 1], 4, None),
        ({"patience": 9}, [5, 4, 6], 3, 2),
        ({"patience": 9, "enough": 4}, [5, 6, 4, 1], 3, 3),
        ({"patience": 9, "enough": 4, "mode": "max"}, [3, 2, 4.5, 9], 3, 3),
        ({"patience": 9, "enough": 4, "min_change": 2}, [5, 4, 1], 2, 2),  # though not better by 2
    ],
)
def test_a_run_that_has_ceased_to_improve_ends_at_its_best(options, values, epochs, best):
    run = stopping_run(values, **options)
    assert len(run.history["validation_score"]) == epochs
    assert run.reason == ("early_stopping" if epochs < len(values) else "finished")
    assert run.model.params["a"] == (epochs if best is None else best)
    if best is not None:
        assert run._run.best_epoch == best - 1


# --------------------------------------------------------------------------------------- divergence


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path):
    run = line_trainer(lr=1e200, rule=SGD)
    path = tmp_path / "run.safetensors"
    data = [(np.ones(2), np.full(2, 2.0))]
    with pytest.raises(StepDivergenceError, match="learning rate") as caught:
        run.fit(data, epochs=9, checkpoint=path, checkpoint_every=1)
    error = caught.value
    assert isinstance(error, DivergenceError)
    assert (error.step, error.epoch, error.batch) == (1, 1, 0)
    assert error.parameter == "a"
    assert len(error.losses) == 1
    for words in ("update 1", "epoch 1", "max_norm", "'a' (learning rate 1e+200)"):
        assert words in str(error)
    assert run.model.params["a"] == 0  # before the update that spoilt it
    assert not path.exists()  # no parameters but the first had a finite loss


def test_the_checkpoint_keeps_parameters_whose_loss_is_finite(tmp_path):
    path = tmp_path / "run.safetensors"
    data = [(np.ones(2), np.full(2, 2.0))]
    options = {"epochs": 9, "checkpoint": path, "checkpoint_every": 1}

    def schedule(step):
        return 1e200 if step == 3 else 1.0

    run = line_trainer(rule=SGD, schedule=schedule)
    with pytest.raises(StepDivergenceError, match=r"run.safetensors holds update 3"):
        run.fit(data, **options)
    sound = line_trainer(rule=SGD, schedule=schedule)
    sound.fit(data, epochs=3)
    assert run.model.params["a"] == sound.model.params["a"]
    again = line_trainer(rule=SGD, schedule=schedule)
    with pytest.raises(StepDivergenceError, match="update 4"):
        again.fit(data, resume=True, **options)
    assert again.model.params["a"] == sound.model.params["a"]


def test_gradients_and_last_parameters_that_are_not_finite_are_found():
    run = line_trainer()
    run.model.backward = lambda grad_y, cache: {"a": np.array([np.inf])}
    with pytest.raises(StepDivergenceError, match="a gradient is not finite"):
        run.fit([(np.ones(2), np.ones(2))], epochs=1)
    run = line_trainer(lr=1e308, rule=SGD)
    with pytest.raises(StepDivergenceError, match="is nan"):
        run.fit([(np.full(2, 1e4), np.ones(2))], epochs=1)
    assert run.model.params["a"] == 0


def test_data_that_is_not_finite_is_told_from_divergence():
    bad = [(np.ones(2), np.ones(2)), (np.array([1.0, np.nan]), np.ones(2))]
    with pytest.raises(ValueError, match="data, batch 1 of epoch 0, holds a number"):
        line_trainer().fit(bad, epochs=1)
    with pytest.raises(ValueError, match="validation holds a number"):
        line_trainer().fit(bad[:1], epochs=1, validation=bad)


# ------------------------------------------------------------------------------------------ threads

THREADS = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import numba
from small_model import Classifier, bits, task
from ssm_manual.training import AdamW, Batches, Trainer
for threads in (1, 2):
    numba.set_num_threads(threads)
    model = Classifier(8, 16, view="chunked")
    u, labels = task(8, 300)
    u = u.repeat(2, axis=1)
    assert u.size // 2 * 16 >= 100_000  # enough for the layer to be shared out
    trainer = Trainer(model, "softmax_cross_entropy", AdamW(model.params, lr=0.01), max_norm=1.0)
    trainer.fit(Batches(u, labels, batch_size=4), epochs=3)
    print(hashlib.sha256(repr(bits(trainer)).encode()).hexdigest())
"""


def test_one_and_two_threads_give_the_same_bits():
    code = THREADS.format(tests=str(Path(__file__).parent))
    one, two = run_python(code, NUMBA_NUM_THREADS="2", timeout=600).split()
    assert one == two


# ---------------------------------------------------------------------------------- progress, input


def test_the_bar_shows_loss_and_throughput(capsys):
    fit(trainer(), progress=True, epochs=2)
    shown = capsys.readouterr().err
    for words in ("40.0/40.0", "epoch=2/2", "loss=", "item/s"):
        assert words in shown
    fit(trainer(), epochs=1)  # not a terminal
    assert capsys.readouterr().err == ""


ONE = [(np.ones(2), np.ones(2))]


BAD = [
    (lambda: Trainer(object(), "mse", None), "model is"),
    (lambda: line_trainer().__init__(Line(), "mean", None), "loss is 'mean'"),
    (lambda: Trainer(Line(), ("a", "b"), None), "loss is"),
    (lambda: Trainer(Line(), "mse", None), "optimizer is None"),
    (lambda: Trainer(Line(), "mse", SGD(Line().params, lr=1)), "other arrays"),
    (lambda: Trainer(Line(), "mse", None, loss_options=3), "loss_options is 3"),
    (lambda: line_trainer(schedule=1.0), "schedule is 1.0"),
    (lambda: line_trainer(schedule=lambda step: -1.0).fit(ONE, epochs=1), "schedule is -1"),
    (lambda: line_trainer(max_norm=0), "max_norm is 0"),
    (lambda: line_trainer(accumulate=0), "accumulate is 0"),
    (lambda: line_trainer(seed=-1), "seed is -1"),
    (lambda: line_trainer(metrics=accuracy), "metrics is"),
    (lambda: line_trainer(metrics={"a": "accuracy"}), r"metrics\['a'\] is 'accuracy'"),
    (lambda: line_trainer(loss_options={"axis": 1}), "loss_options has 'axis'; .*: none"),
    (lambda: line_trainer().fit([Batch(*ONE[0], weights=np.ones(2))], epochs=1), "gives weights"),
    (lambda: Trainer(Line, "mse", None), "must be an object with 'params'"),
    (lambda: line_trainer().fit(iter(ONE), epochs=1), "gone through once"),
    (lambda: line_trainer().fit(3, epochs=1), "data is 3"),
    (lambda: line_trainer().fit(lambda epoch, rng: 3, epochs=1), "must be iterable"),
    (lambda: line_trainer().fit([np.ones(5)], epochs=1), "a batch must be"),
    (lambda: line_trainer().fit([], epochs=1), "no batch in epoch 0"),
    (lambda: line_trainer().evaluate([]), "data holds no batch"),
    (lambda: line_trainer().fit(ONE, epochs=0), "epochs is 0"),
    (lambda: line_trainer().fit(ONE, epochs=1, validation=3), "validation is 3"),
    (lambda: line_trainer().fit(ONE, epochs=1, early_stopping=3), "early_stopping is 3"),
    (
        lambda: line_trainer().fit(ONE, epochs=1, early_stopping=EarlyStopping(1)),
        "metric of early_stopping, without validation, is 'validation_loss'",
    ),
    (lambda: line_trainer().fit(ONE, epochs=1, curriculum=3), "curriculum is 3"),
    (lambda: line_trainer().fit(ONE, epochs=1, resume=True), "resume is True"),
    (lambda: line_trainer().fit(ONE, epochs=1, checkpoint_every=3), "checkpoint_every is 3"),
    (lambda: line_trainer().fit(ONE, epochs=1, checkpoint="/nowhere/x"), "checkpoint is"),
    (lambda: line_trainer().fit(ONE, epochs=1, progress=3), "progress is 3"),
    (lambda: Batches([1.0], np.ones(1), batch_size=1), "u is"),
    (lambda: Batches(np.ones(3), np.ones(2), batch_size=1), "target has 2 items; u has 3"),
    (lambda: Batches(np.ones(0), np.ones(0), batch_size=1), "u has 0 items"),
    (lambda: Batches(np.ones(3), np.ones(3), batch_size=4, drop_last=True), "at least 4"),
    (lambda: Batches(np.ones(3), np.ones(3), batch_size=0), "batch_size is 0"),
    (lambda: EarlyStopping(0), "patience is 0"),
    (lambda: EarlyStopping(1, mode="least"), "mode is 'least'"),
    (lambda: EarlyStopping(1, metric=3), "metric is 3"),
    (lambda: EarlyStopping(1, min_change=-1.0), "min_change is -1"),
    (lambda: accuracy(np.ones((2, 3)), [1]), "labels has shape"),
    (lambda: accuracy(np.ones((0, 3)), []), "must not be empty"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_curves_are_drawn_with_epochs_at_their_updates():
    run = trainer()
    history = fit(run, epochs=3)
    figure = plots.training(history, max_norm=1.0)
    losses, norms, rates = figure.axes
    validation = next(x for x in losses.lines if x.get_label() == "validation")
    assert validation.get_xdata().tolist() == history["epoch_end"] == [4, 8, 12]
    assert validation.get_ydata().tolist() == history["validation_loss"]
    assert norms.lines[0].get_ydata().tolist() == history["grad_norm"]
    assert norms.lines[1].get_ydata() == [1.0, 1.0]
    assert rates.lines[0].get_ydata().tolist() == history["lr"]
    for ax in figure.axes:
        assert "(" in ax.get_xlabel()
        assert "(" in ax.get_ylabel()
    figure.canvas.draw()
    assert plots.training_losses({"loss": [1.0, 0.0]}).get_yscale() == "linear"
    with pytest.raises(ValueError, match="must be a Trainer's"):
        plots.training_rates([1.0])
