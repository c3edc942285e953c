"""Training: gradients of a whole loss, the compiled loop against the ops, and what it learns."""

import copy

import numpy as np
import pytest
from conftest import assert_close, cast, error
from test_diagonal import EVERY_KIND, KINDS, draw, make

from ssm_manual import reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import DiagonalSSM
from ssm_manual.training import MODES, descent

MODE_OPTIONS = {mode: {"mode": mode} for mode in MODES}
MODE_OPTIONS["windowed"]["window"] = 7
EVERY_MODE = pytest.mark.parametrize("mode", MODES)


def problem(rng, kind, *shape, poles=4, dtype=np.float64, **options):
    """A model, a real input (which every model takes) and a target of the output's field."""
    model = make(rng, kind, poles, dtype, **options)
    return model, cast(rng.standard_normal(shape), dtype), draw(rng, model, *shape)


def gentle(model, scale=1.0):
    """Rates small enough for any model of `make`."""
    rates = {"A": 1e-4, "B": 2e-4, "C": 3e-4, "D": 4e-4, "dt": 1e-4}
    has = {"log_dt" if name == "dt" else name: name for name in rates}
    return {name: scale * rates[name] for key, name in has.items() if key in model.params}


def bits(model):
    return {name: value.tobytes() for name, value in model.params.items()}


# ------------------------------------------------------------------------- gradients of the loss


@pytest.mark.parametrize("L", [1, 2, 17, 1047])
@EVERY_KIND
def test_bptt_and_convolution_agree(rng, kind, L):
    model, u, target = problem(rng, kind, 2, L, low=0.9, high=0.998)
    loss, grads = model.loss_and_grads(u, target, mode="bptt")
    again, others = model.loss_and_grads(u, target, mode="convolution")
    assert error(again, loss) < 1e-12
    for name, grad in grads.items():
        if L == 1 and name == "A" and model.parameters == "discrete":
            assert not np.any(grad)  # one sample from rest has not met A_bar
            assert not np.any(others[name])
        else:
            assert_close(others[name], grad, 1e-12, names=name)


@pytest.mark.parametrize("mode", ["bptt", "convolution"])
@EVERY_KIND
def test_loss_and_grads_against_differences(rng, kind, mode):
    model = make(rng, kind, 3, low=0.9)
    u, target = draw(rng, model, 2, 25), draw(rng, model, 2, 25)

    def fwd(*args):
        moved = copy.copy(model)
        moved.params = dict(zip(model.params, map(np.asarray, args)))
        return moved.loss_and_grads(u, target, mode=mode)

    def vjp(grads, grad_loss):
        return tuple(grad_loss * grads[name] for name in model.params)

    report = check_vjp(fwd, vjp, [*model.params.values()], arguments=tuple(model.params), rng=rng)
    assert report, report


def truncated(model, u, target, window):
    """Loss and directions by the slow reference: the state is carried over as a constant."""
    p, L = model.params, u.shape[-1]
    A, B = p["A"], p["B"]
    scale = {"input_scale": model.input_scale}
    if model.parameters == "continuous":
        A, B = reference.discretize.tustin(A, B, model.dt, **scale)
    x, total, loss = None, 0, 0.0
    for start in range(0, L, window):
        piece = u[:, None, start : start + window]
        y, after = reference.scan.scan(A, B, p["C"], p.get("D"), piece, x, real=model.real)
        e = y - target[:, None, start : start + window]
        loss += np.sum(np.abs(e) ** 2) / (2 * u.size)
        found = reference.scan.scan_vjp(
            A, B, p["C"], p.get("D"), piece, x, e / u.size, 0 * after, real=model.real
        )
        total = [a + b for a, b in zip(total, found[:4])] if total else list(found[:4])
        x = after
    grads = {"A": total[0][0], "B": total[1][0], "C": total[2][0]}
    if "D" in p:
        grads["D"] = total[3][0].real if model.real else total[3][0]
    if model.parameters == "continuous":
        pulled = reference.discretize.tustin_vjp(
            p["A"], p["B"], model.dt, grads["A"], grads["B"], **scale
        )
        grads["A"], grads["B"] = pulled[:2]
        grads["log_dt"] = model.dt * np.sum(pulled[2])
    return loss, grads


@pytest.mark.parametrize("window", [1, 7, 20, 21, 30])
@EVERY_KIND
def test_windowed_equals_a_reference_with_detached_states(rng, kind, window):
    model, u, target = problem(rng, kind, 2, 21, low=0.9)
    expected_loss, expected = truncated(model, u, target, window)
    loss, grads = model.loss_and_grads(u, target, mode="windowed", window=window)
    others = {1: "one_step", 21: "bptt", 30: "bptt"}
    modes = [grads]
    if window in others:
        modes.append(model.loss_and_grads(u, target, mode=others[window])[1])
    assert error(loss, expected_loss) < 1e-13
    for found in modes:
        assert set(found) == set(model.params)
        for name in found:
            assert_close(found[name], np.asarray(expected[name]), 1e-12, names=name)


# ------------------------------------------------------------------ the compiled loop and the ops


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["bptt", "windowed", "one_step"])
@EVERY_KIND
def test_compiled_loop_equals_op_by_op(rng, kind, mode, dtype):
    """A batch of two equal rows has the loss and the gradient of one row, but goes op by op."""
    for poles in (1, 5):
        model, u, target = problem(rng, kind, 40, poles=poles, dtype=dtype, high=0.9)
        # poles at 0.97 at first: beyond this radius and this margin, so that both clamps act
        edge = 0.97 * np.exp(1j)
        if model.parameters == "continuous":
            edge = 2 / model.dt * (edge - 1) / (edge + 1)
        model.params["A"][0] = edge
        options = {"epochs": 30, "rates": gentle(model, 10), "radius": 0.95, "margin": 0.3}
        options |= MODE_OPTIONS[mode]
        other, before = copy.deepcopy(model), copy.deepcopy(model)
        history = model.fit(u, target, **options)
        expected = other.fit(np.stack([u, u]), np.stack([target, target]), **options)
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        assert history.losses.dtype == dtype
        assert history.reason == expected.reason == "finished"
        assert_close(history.losses, expected.losses, tolerance)
        for name, value in other.params.items():
            assert_close(model.params[name], value, tolerance, names=name)
            if dtype == np.float64:  # a step may be too small for float32 to see
                assert np.all(value != before.params[name]), name
        moved = model.params["A"][0] - before.params["A"][0]
        assert abs(moved) > 0.01 * abs(edge)  # the clamp, not the gradient


def test_which_runs_are_compiled(rng, monkeypatch):
    calls = []
    run = descent.fused.run
    monkeypatch.setattr(descent.fused, "run", lambda *args: calls.append(1) or run(*args))
    model, u, target = problem(rng, "discrete-complex", 30)
    for compiled, args, options in [
        (True, (u, target), {}),
        (True, (u[None], target[None]), MODE_OPTIONS["windowed"]),
        (True, (lambda start, n: (np.tile(u, (n, 1)), np.tile(target, (n, 1))),), {}),
        (False, (u, target), {"mode": "convolution"}),
        (False, (u + 0j, target), {}),
        (False, (np.stack([u, u]), np.stack([target, target])), {}),
    ]:
        calls.clear()
        model.fit(*args, epochs=3, rates=gentle(model), **options)
        assert bool(calls) == compiled


@EVERY_MODE
@EVERY_KIND
def test_one_step_moves_every_parameter_against_its_direction(rng, kind, mode):
    for shape in [(30,), (2, 30)]:
        model, u, target = problem(rng, kind, *shape)
        before = copy.deepcopy(model)
        loss, grads = model.loss_and_grads(u, target, **MODE_OPTIONS[mode])
        rates = gentle(model)
        history = model.fit(u, target, epochs=1, rates=rates, **MODE_OPTIONS[mode])
        assert error(history.losses[0], 2 * loss) < 1e-13
        for name, value in model.params.items():
            moved = value - before.params[name]
            assert np.all(moved != 0), name
            assert_close(moved, -rates[name.replace("log_", "")] * grads[name], 1e-6, names=name)


@EVERY_MODE
@EVERY_KIND
def test_a_rate_of_zero_freezes(rng, kind, mode):
    model, u, target = problem(rng, kind, 2, 20)
    for frozen in gentle(model):
        for rows in (slice(0, 1), slice(None)):
            before = bits(model)
            rates = gentle(model) | {frozen: 0}
            model.fit(u[rows], target[rows], epochs=3, rates=rates, **MODE_OPTIONS[mode])
            same = {name for name, value in bits(model).items() if value == before[name]}
            assert same == {"log_dt" if frozen == "dt" else frozen}


def test_the_same_call_gives_the_same_bits(rng):
    for mode in MODES:
        model, u, target = problem(rng, "dt-real-D", 3, 300)
        other = copy.deepcopy(model)
        first, second = (
            m.fit(u, target, epochs=20, rates=gentle(model), mode=mode) for m in (model, other)
        )
        assert first.losses.tobytes() == second.losses.tobytes()
        assert bits(model) == bits(other)


# -------------------------------------------------------------------------------------- learning


def system_to_find(kind):
    """Two poles far from each other, outputs of about unit power under white input."""
    form = KINDS[kind]
    A = np.array([0.9 * np.exp(0.6j), 0.8 * np.exp(-1.9j)])
    B, C = np.array([0.5 + 0.2j, 0.6]), np.array([0.5 + 0.1j, 0.3 - 0.4j])
    options = {"real": form["real"]}
    if form["parameters"] != "discrete":
        A = 2 * (A - 1) / (A + 1)
        options |= {"dt": 1.0, "parameters": "continuous", "input_scale": form["parameters"]}
    return DiagonalSSM(A, B, C, 0.5 if form["skip"] else None, **options)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@EVERY_KIND
def test_training_identifies_a_system(rng, kind, noise):
    """From parameters that are some 10 % off down to the floor, the noise in the target."""
    model = system_to_find(kind)
    u = rng.standard_normal(500)
    white = noise * draw(rng, model, 500)
    target = model.forward(u)[0] + white
    for name, factor in {"A": 0.92, "B": 1.1, "C": 0.9, "D": 0.5}.items():
        if name in model.params:
            model.params[name] *= factor
    if "log_dt" in model.params:
        model.params["log_dt"] += 0.05
    rates = dict.fromkeys(gentle(model), 0.02)
    if "dt" in rates:
        rates["dt"] = 0.005
    losses = model.fit(u, target, epochs=6000, rates=rates).losses
    floor = np.mean(np.abs(white) ** 2)
    if noise:
        assert losses[0] > 1.2 * floor
        assert 0.9 * floor < losses[-1] < 1.001 * floor  # a little below: the noise is fitted too
    else:
        assert losses[-1] < 1e-4 * losses[0]
