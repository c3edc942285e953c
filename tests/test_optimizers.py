"""Update rules against the traces of two other implementations, closed forms, and bad settings."""

from functools import partial

import numpy as np
import pytest
from conftest import assert_close, cast, complex_normal, load

from ssm_manual.training import SGD, Adam, AdamW, GradientDescent, Group
from ssm_manual.training.clip import clip_gradients, global_norm
from ssm_manual.training.optimizers import BLOCK
from ssm_manual.training.schedules import constant, warmup_cosine

# -------------------------------------------------------------------------------- published traces

TRACES = {
    "sgd": partial(SGD, lr=0.1),
    "sgd_mom": partial(SGD, lr=0.1, momentum=0.9, damped=True),
    "sgd_mom_wd": partial(SGD, lr=0.1, momentum=0.9, damped=True, weight_decay=0.01),
    "adam": partial(Adam, lr=0.01),
    "adam_wd": partial(Adam, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_traces_of_a_framework_with_damped_momentum(name, dtype):
    data = load("needle_rnn_optim.npz")
    w = data["opt/w0"].astype(dtype)
    optimizer = TRACES[name]({"w": w})
    for grad, expected in zip(data["opt/grads"], data[f"opt/{name}"]):
        optimizer.step({"w": grad.astype(dtype)})
        assert w.dtype == dtype
        assert_close(w, expected, 1e-6)


PYTORCH = {
    "sgd": partial(GradientDescent, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.02),
    "adam": partial(Adam, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, groups=None),
    "adamw": partial(AdamW, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, groups=None),
    "clipped": partial(AdamW, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, groups=None),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_traces_of_pytorch_with_a_complex_parameter_and_a_schedule(name):
    data = load("torch_optim.npz")
    params = {key: data[key].copy() for key in "WZ"}
    optimizer = PYTORCH[name](params)
    for k, factor in enumerate(data["factors"]):
        grads = {key: data[f"grad_{key}"][k].copy() for key in "WZ"}
        if name == "clipped":
            grads, norm = clip_gradients(grads, 1.5)
            assert norm == pytest.approx(data["clipped/norms"][k], rel=1e-14)
        optimizer.step(grads, factor)
        for key in "WZ":  # PyTorch divides by norm + 1e-6
            assert_close(
                params[key], data[f"{name}/{key}"][k], 1e-6 if name == "clipped" else 1e-14
            )


# ------------------------------------------------------------------------------------ closed forms


def test_damped_momentum_is_the_usual_one_at_a_smaller_rate(rng):
    a, b = {"w": np.zeros(5)}, {"w": np.zeros(5)}
    damped = SGD(a, lr=0.2, momentum=0.75, damped=True)
    usual = SGD(b, lr=0.2 * 0.25, momentum=0.75)
    for grad in rng.standard_normal((7, 5)):
        damped.step({"w": grad})
        usual.step({"w": grad})
    assert_close(a["w"], b["w"], 1e-14)


def test_decoupled_decay_is_a_factor_and_leaves_the_moments_alone():
    params = {"w": np.array([2.0, -4.0])}
    optimizer = AdamW(params, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.step({"w": np.zeros(2)}, 0.5)
    assert_close(params["w"], np.array([2.0, -4.0]) * (1 - 0.05 * 0.5) ** 3, 1e-15)
    assert not optimizer.state["mean"]["w"].any()


def test_the_first_step_of_adam_has_the_size_of_the_rate_in_every_real_number(rng):
    params = {"z": np.zeros(4, complex), "w": np.zeros(3)}
    optimizer = Adam(params, lr=0.01, groups=None)
    grads = {"z": complex_normal(rng, 4) * 1e3, "w": rng.standard_normal(3)}
    optimizer.step(grads)
    for part, grad in [
        (params["z"].real, grads["z"].real),
        (params["z"].imag, grads["z"].imag),
        (params["w"], grads["w"]),
    ]:
        assert_close(part, -0.01 * np.sign(grad), 1e-6)


RULES = [
    partial(GradientDescent, lr=0.1),
    partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.02),
    partial(Adam, lr=0.05, weight_decay=0.1, groups=None),
    partial(AdamW, lr=0.05, weight_decay=0.1, groups=None),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.func.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_complex_parameter_is_two_real_ones(rule, dtype, rng):
    z = cast(complex_normal(rng, 3, 2), dtype)
    parts = {"re": z.real.copy(), "im": z.imag.copy()}
    one, two = rule({"z": z}), rule(parts)
    for _ in range(4):
        grad = cast(complex_normal(rng, 3, 2), dtype)
        one.step({"z": grad})
        two.step({"re": grad.real.copy(), "im": grad.imag.copy()})
    assert z.dtype == np.result_type(dtype, np.complex64)
    assert np.array_equal(z.real, parts["re"])
    assert np.array_equal(z.imag, parts["im"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.func.__name__)
def test_blocks_do_not_change_a_bit(rule, rng):
    """Arrays longer than a block, and gradients that are not contiguous."""
    size = 2 * BLOCK + 17
    start, grads = rng.standard_normal(size), rng.standard_normal((2, 2 * size))[:, ::2]
    whole, pieces = {"w": start.copy()}, {str(i): p for i, p in enumerate(np.split(start, 7))}
    one, many = rule(whole), rule(pieces)
    for grad in grads:
        one.step({"w": grad})
        many.step({str(i): p for i, p in enumerate(np.split(grad, 7))})
    assert np.array_equal(whole["w"], np.concatenate(list(pieces.values())))


def test_a_rate_of_zero_leaves_parameter_and_state_alone():
    params = {"frozen": np.ones(2), "w": np.ones(2)}
    optimizer = SGD(
        params, lr=0.5, momentum=0.9, groups=[Group("still", lambda name: name == "frozen", lr=0.0)]
    )
    optimizer.step({name: np.ones(2) for name in params})
    assert params["frozen"].tolist() == [1, 1]
    assert params["w"].tolist() == [0.5, 0.5]
    assert not optimizer.state["velocity"]["frozen"].any()


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_what_the_groups_have_taken_over_cannot_be_assigned(name):
    """The groups would keep the old value, and the history would show the new one."""
    optimizer = AdamW({"w": np.ones(2)})
    with pytest.raises(AttributeError):
        setattr(optimizer, name, 0.5)


def test_numbers_without_axes_are_updated_too():
    params = {"log_dt": np.array(1.0), "D": np.array(1 + 1j)}
    SGD(params, lr=0.5).step({"log_dt": np.array(2.0), "D": np.array(2 - 2j)})
    assert params["log_dt"] == 0
    assert params["D"] == 2j


# ------------------------------------------------------------------------------------------ groups


def arrays(*names):
    return {name: np.ones(2) for name in names}


def test_state_space_parameters_learn_slowly_and_do_not_decay():
    names = ["log_dt", "log_A_real", "A_imag", "P", "B", "C", "D", "norm.scale", "head.bias"]
    params = arrays(*(f"blocks.0.{name}" for name in names))
    optimizer = AdamW(params, lr=0.01, weight_decay=0.05)
    for name in names:
        ssm = name in ("log_dt", "log_A_real", "A_imag", "P", "B", "C")
        expected = ("ssm", 0.001, 0.0) if ssm else ("rest", 0.01, 0.05)
        assert optimizer.groups[f"blocks.0.{name}"] == expected
    assert AdamW(params, lr=1e-4).groups["blocks.0.C"] == ("ssm", 1e-4, 0.0)  # slower still
    assert AdamW(params, lr=0.01, groups=None).groups["blocks.0.C"] == ("rest", 0.01, 0.01)


def test_the_first_group_that_takes_a_parameter_has_it():
    params = arrays("a.bias", "b.bias", "b.weight")
    groups = [
        Group("a", lambda name: name.startswith("a"), lr=0.0),
        Group("bias", lambda name: name.endswith("bias"), weight_decay=0.0),
    ]
    optimizer = AdamW(params, lr=0.1, groups=groups)
    assert optimizer.groups == {
        "a.bias": ("a", 0.0, 0.01),
        "b.bias": ("bias", 0.1, 0.0),
        "b.weight": ("rest", 0.1, 0.01),
    }
    optimizer.step(arrays("a.bias", "b.bias", "b.weight"))
    assert (params["a.bias"] == 1).all()  # frozen
    assert_close(params["b.bias"], np.full(2, 0.9), 1e-7)
    assert_close(params["b.weight"], np.full(2, 0.899), 1e-7)


# ---------------------------------------------------------------------------- clipping, schedules


def test_the_norm_is_that_of_all_real_numbers_together(rng):
    grads = {"a": rng.standard_normal((3, 4)), "z": complex_normal(rng, 5)}
    flat = np.concatenate([grads["a"].ravel(), grads["z"].real, grads["z"].imag])
    norm = np.linalg.norm(flat)
    assert global_norm(grads) == pytest.approx(norm, rel=1e-15)
    assert clip_gradients(grads, 2 * norm)[0] is grads  # nothing to clip
    clipped, before = clip_gradients(grads, norm / 4)
    assert before == pytest.approx(norm, rel=1e-15)
    for name in grads:
        assert_close(clipped[name], grads[name] / 4, 1e-15)


def test_gradients_that_share_an_array_are_scaled_once():
    shared = np.array([3.0, 4.0])
    clipped, norm = clip_gradients({"a": shared, "b": shared}, 1.0)
    assert global_norm(clipped) == pytest.approx(1)
    assert norm == pytest.approx(np.sqrt(50))


@pytest.mark.parametrize("size", [1e-250, 1e-320, 1e250, 0.0])
def test_the_norm_neither_overflows_nor_underflows(size):
    grads = {"a": np.full(4, size), "z": np.full(2, size * 1j)}
    digits = 1e-3 if size == 1e-320 else 1e-14  # 1e-320 itself has three
    assert global_norm(grads) == pytest.approx(size * np.sqrt(6), rel=digits, abs=0)


def test_a_norm_that_is_not_a_number_is_seen():
    assert np.isnan(global_norm({"a": np.ones(3), "b": np.array([np.nan]), "c": np.array([1e300])}))
    assert global_norm({"a": np.ones(3), "b": np.array([1, complex(0, np.inf)])}) == np.inf


def test_warm_up_and_cosine():
    schedule = partial(warmup_cosine, warmup=10, total=110, floor=0.1)
    assert [schedule(k) for k in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert schedule(60) == pytest.approx(0.55)
    assert schedule(35) == pytest.approx(0.1 + 0.9 * (1 + np.sqrt(0.5)) / 2)
    assert schedule(110) == schedule(10**6) == pytest.approx(0.1)
    falling = [schedule(k) for k in range(9, 111)]
    assert falling == sorted(falling, reverse=True)
    assert warmup_cosine(0, warmup=0, total=1) == 1
    assert constant(0) == constant(10**9) == 1


# --------------------------------------------------------------------------------------- bad input

BAD = [
    (lambda p: SGD({}, lr=0.1), "params is"),
    (lambda p: SGD({"w": [1.0]}, lr=0.1), r"params\['w'\] is \[1.0\]"),
    (lambda p: SGD({"w": np.arange(3)}, lr=0.1), r"params\['w'\] is array"),
    (lambda p: SGD({"w": np.ones((4, 2))[::2]}, lr=0.1), "contiguous"),
    (lambda p: SGD(p, lr=-1), "lr is -1"),
    (lambda p: SGD(p, lr=0.1, momentum=1.0), "momentum is 1; it must be below 1"),
    (lambda p: SGD(p, lr=0.1, damped=True), "damped is True"),
    (lambda p: Adam(p, betas=0.9), "betas is 0.9"),
    (lambda p: Adam(p, betas=(0.9, 1.5)), r"betas\[1\] is 1.5"),
    (lambda p: Adam(p, eps=0), "eps is 0"),
    (lambda p: AdamW(p, groups="s4"), "groups is 's4'"),
    (lambda p: AdamW(p, groups=["ssm"]), "must hold Group"),
    (lambda p: AdamW(p, groups=[Group("x", lambda name: False)]), "'x' takes no parameter"),
    (lambda p: AdamW(p, groups=[Group("x", lambda name: True, lr=-1.0)]), "lr of group 'x'"),
    (
        lambda p: GradientDescent(p, lr=1, groups=[Group("x", str.islower, weight_decay=0.1)]),
        "'x' decays",
    ),
    (lambda p: SGD(p, lr=0.1).step([1]), "grads is"),
    (lambda p: SGD(p, lr=0.1).step({}), "grads lacks 'w'"),
    (lambda p: SGD(p, lr=0.1).step({"w": np.ones(3), "v": np.ones(3)}), "grads holds 'v'"),
    (lambda p: SGD(p, lr=0.1).step({"w": np.ones(2)}), r"grads\['w'\] has shape \(2,\)"),
    (lambda p: SGD(p, lr=0.1).step({"w": np.ones(3, np.float32)}), "dtype float32"),
    (lambda p: SGD(p, lr=0.1).step({"w": np.ones(3)}, np.nan), "factor is nan"),
    (lambda p: clip_gradients(p, 0), "max_norm is 0"),
    (lambda p: warmup_cosine(-1, warmup=1, total=2), "step is -1"),
    (lambda p: warmup_cosine(1, warmup=2, total=2), "total is 2; it must be at least 3"),
    (lambda p: constant(0.5), "step is 0.5"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_settings_are_refused_by_name(call, message):
    params = {"w": np.ones(3)}
    with pytest.raises(ValueError, match=message):
        call(params)
    assert (params["w"] == 1).all()
