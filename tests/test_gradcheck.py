"""The checker itself is tested: right rules must pass, and planted bugs must not."""

import argparse
import json

import numpy as np
import pytest

from ssm_manual import gradcheck
from ssm_manual._gradcheck import differences
from ssm_manual.cli import gradcheck as command
from ssm_manual.gradcheck import check_adjoint, check_registry, check_vjp, numeric_gradient
from ssm_manual.ops import registry

# --- toy ops: obvious code, one function per planted bug -----------------------------------------


def conj(z):
    return np.conj(z)


def same(z):
    return z


def kernel_fwd(A, B, C, *, length):
    """K_t = C A^t B for one pole."""
    powers = np.cumprod(np.concatenate([[1.0 + 0j], np.full(length - 1, A)]))
    return C * powers * B, (A, B, C, powers)


def kernel_vjp(residuals, g, *, bar=conj, first=0, reverse=False, factor=1.0):
    _, B, C, powers = residuals
    if reverse:
        g = g[::-1]
    iota = np.arange(first, first + len(powers))
    shifted = np.concatenate([[0], powers[:-1]])  # A^(t-1)
    grad_A = (g * bar(iota * C * shifted * B)).sum()
    return factor * grad_A, (g * bar(C * powers)).sum(), (g * bar(powers * B)).sum()


def scan_fwd(A, C, u, x0):
    """x_t = A x_{t-1} + u_t, y_t = C x_t; out is (y, last x)."""
    x, states = x0, [x0]
    for u_t in u.T:
        x = A * x + u_t[:, None]
        states.append(x)
    states = np.array(states)  # (L + 1, batch, N)
    y = np.einsum("n,tbn->bt", C, states[1:])
    return (y, x), (A, C, states, np.iscomplexobj(u))


def scan_vjp(residuals, grads, *, bar=conj, boundary=True, drop_last=False):
    A, C, states, complex_u = residuals
    grad_y, grad_last = grads
    lam = grad_last if boundary else np.zeros_like(grad_last)
    grad_A, grad_C = np.zeros_like(A), np.zeros_like(C)
    grad_u = np.zeros(grad_y.shape, complex)
    for t in range(len(states) - 2, -1, -1):
        lam = lam + bar(C) * grad_y[:, t, None]
        grad_A += (lam * bar(states[t])).sum(0)
        grad_C += (grad_y[:, t, None] * bar(states[t + 1])).sum(0)
        grad_u[:, t] = lam.sum(1)
        if not (drop_last and t == 0):
            lam = bar(A) * lam
    return grad_A, grad_C, grad_u if complex_u else grad_u.real, lam


def tustin_fwd(A, B, dt):
    w = 1 / (1 - dt * A / 2)
    return ((1 + dt * A / 2) * w, dt * B * w), (A, B, dt, w)


def tustin_vjp(residuals, grads, *, bar=conj, unbroadcast=True, real=True):
    A, B, dt, w = residuals
    grad_A_bar, grad_B_bar = grads
    grad_A = bar(dt * w**2) * grad_A_bar + bar(dt**2 / 2 * B * w**2) * grad_B_bar
    grad_dt = bar(A * w**2) * grad_A_bar + bar(B * w**2) * grad_B_bar
    if real:
        grad_dt = grad_dt.real
    return grad_A, bar(dt * w) * grad_B_bar, grad_dt.sum() if unbroadcast else grad_dt


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.fixture
def rng():
    return np.random.default_rng(20240817)


@pytest.fixture
def pole_args():
    return 0.999 * np.exp(0.3j), 0.7 - 0.2j, -0.4 + 1.1j


@pytest.fixture
def scan_args(rng):
    A = np.array([0.999, 0.99, 0.995]) * np.exp(1j * np.array([0.1, 2.0, -1.3]))
    return A, complex_normal(rng, 3), complex_normal(rng, 2, 17), complex_normal(rng, 2, 3)


@pytest.fixture
def tustin_args(rng):
    return -0.5 + complex_normal(rng, 4), complex_normal(rng, 4), 0.7


def bound(function, **fixed):
    return lambda *args: function(*args, **fixed)


# --- right rules pass ----------------------------------------------------------------------------


@pytest.mark.parametrize("cotangent", ["random", "last"])
@pytest.mark.parametrize("length", [1, 2, 17, 1047])
def test_kernel_passes_near_the_circle(pole_args, length, cotangent):
    report = check_vjp(kernel_fwd, kernel_vjp, pole_args, length=length, cotangent=cotangent)
    assert report, report
    assert max(row.error for row in report) < 1e-8


def test_at_length_one_the_gradient_of_the_pole_is_tested_as_zero(pole_args):
    report = check_vjp(kernel_fwd, kernel_vjp, pole_args, length=1)
    assert (report[0].numeric, report[0].analytic, report[0].error) == (0.0, 0.0, 0.0)

    def tiny(residuals, g):
        _, grad_B, grad_C = kernel_vjp(residuals, g)
        return np.complex128(1e-300), grad_B, grad_C

    report = check_vjp(kernel_fwd, tiny, pole_args, length=1)
    assert not report
    verdicts = [row.verdict for row in report]
    assert verdicts == ["wrong: the output does not change at all", "pass", "pass"]


@pytest.mark.parametrize("cotangent", ["random", "last"])
def test_scan_passes_with_tuples_and_real_or_complex_input(scan_args, cotangent):
    A, C, u, x0 = scan_args
    assert check_vjp(scan_fwd, scan_vjp, (A, C, u, x0), cotangent=cotangent)
    assert check_vjp(scan_fwd, scan_vjp, (A, C, u.real, x0), cotangent=cotangent)


@pytest.mark.parametrize("dt", [0.7, np.float64(0.7), np.array(0.7)])
def test_tustin_passes_with_every_kind_of_scalar(tustin_args, dt):
    seen = []

    def fwd(A, B, dt):
        seen.append(type(dt))
        return tustin_fwd(A, B, dt)

    def vjp(residuals, grads):
        return tustin_vjp(residuals, grads)

    assert check_vjp(fwd, vjp, (*tustin_args[:2], dt))
    assert set(seen) == {type(dt)}


@pytest.mark.parametrize("seed", range(20))
def test_a_right_rule_passes_for_every_seed(scan_args, seed):
    report = check_vjp(scan_fwd, scan_vjp, scan_args, rng=seed, directions=1)
    assert report, report


def test_scalar_outputs_empty_arguments_and_static_ones():
    def fwd(x, empty, label, weights, nothing):
        return float((x**4).sum() * label + weights.sum() + empty.sum()), x

    def vjp(x, g):
        assert isinstance(g, float)
        return 8 * x**3 * g, np.zeros((0, 3)), None, None, None

    x = np.array([0.3, -2.0])
    report = check_vjp(fwd, vjp, (x, np.zeros((0, 3)), 2, np.arange(3), None))
    assert report, report
    assert [row.argument for row in report] == ["x", "empty"]


def test_a_state_that_is_almost_forgotten_needs_the_longer_steps():
    """Its effect, 1e-6 of the output, drowns in rounding at every step below the first."""

    def fwd(x, y):
        return y + 1e-6 * x, None

    args = np.array([0.3, -0.8, 2.0]), np.array([1.1, 0.7, -1.9])
    report = check_vjp(fwd, lambda _, g: (1e-6 * g, g), args)
    assert report, report
    assert report[0].step > 0.01
    assert not check_vjp(fwd, lambda _, g: (1.001e-6 * g, g), args)


def test_longer_steps_respect_what_the_op_refuses():
    def fwd(x):
        if (x < 0.95).any():
            raise ValueError("x is out of range")
        return 1.0 + 1e-12 * x, None

    report = check_vjp(fwd, lambda _, g: (1e-12 * g,), (np.array([1.0, 1.0]),))
    assert "inconclusive" in report[0].verdict


# --- planted bugs do not -------------------------------------------------------------------------


def errors(report):
    return {row.argument: row.error for row in report if not row.passed}


@pytest.mark.parametrize("cotangent", ["random", "last"])
@pytest.mark.parametrize(
    ("bug", "arguments"),
    [
        ({"bar": same}, {"A", "B", "C"}),
        ({"first": 1}, {"A"}),  # off by one in the iota
        ({"factor": 1.001}, {"A"}),
        ({"factor": 0.5}, {"A"}),
        ({"factor": 1 + 1e-6}, {"A"}),
        ({"reverse": True}, {"A", "B", "C"}),
    ],
)
def test_kernel_bugs_are_caught(pole_args, bug, arguments, cotangent):
    vjp = bound(kernel_vjp, **bug)
    report = check_vjp(kernel_fwd, vjp, pole_args, length=1047, cotangent=cotangent)
    assert set(errors(report)) == arguments, report


@pytest.mark.parametrize(
    ("bug", "arguments"),
    [
        ({"bar": same}, {"A", "C", "u", "x0"}),
        ({"boundary": False}, {"A", "u", "x0"}),
        ({"drop_last": True}, {"x0"}),
    ],
)
def test_scan_bugs_are_caught(scan_args, bug, arguments):
    report = check_vjp(scan_fwd, bound(scan_vjp, **bug), scan_args)
    assert set(errors(report)) == arguments, report


def test_tustin_bugs_are_caught(tustin_args):
    report = check_vjp(tustin_fwd, bound(tustin_vjp, bar=same), tustin_args)
    assert set(errors(report)) == {"A", "B", "dt"}, report
    report = check_vjp(tustin_fwd, bound(tustin_vjp, real=False), tustin_args)
    assert report[2].verdict == "a complex gradient for a real argument"
    report = check_vjp(tustin_fwd, bound(tustin_vjp, unbroadcast=False), tustin_args)
    assert report[2].verdict == "the gradient has shape (4,), not ()"
    assert [row.passed for row in report] == [True, True, False]


def test_missing_conjugates_are_invisible_for_real_parameters(tustin_args):
    A, B, dt = tustin_args
    args = A.real, B.real, dt
    assert check_vjp(tustin_fwd, bound(tustin_vjp, bar=same), args)


def test_an_all_ones_cotangent_does_not_see_time_reversal(pole_args):
    """Why cotangents are random: ones reversed are ones."""
    length = 17
    out, residuals = kernel_fwd(*pole_args, length=length)
    reversed_vjp = bound(kernel_vjp, reverse=True)
    for cotangent, blind in [(np.ones(length, complex), True), (np.arange(length) + 1j, False)]:
        claimed = reversed_vjp(residuals, cotangent)
        for index in range(3):
            numeric = numeric_gradient(kernel_fwd, pole_args, index, cotangent, length=length)
            assert np.isclose(claimed[index], numeric, rtol=1e-9) == blind
    assert not check_vjp(kernel_fwd, reversed_vjp, pole_args, length=length)
    assert out.shape == (length,)


def test_a_tiny_gradient_is_held_to_the_same_relative_error():
    def fwd(x):
        return 1e-8 * x**3, x

    args = (np.array([0.4, -1.3]),)
    assert check_vjp(fwd, lambda x, g: (3e-8 * x**2 * g,), args)
    report = check_vjp(fwd, lambda x, g: (15e-8 * x**2 * g,), args)
    assert report[0].verdict == "wrong"
    assert report[0].error == pytest.approx(0.8)


def test_one_wrong_element_among_a_thousand_is_seen(rng):
    x = rng.standard_normal((4, 256))

    def vjp(x, g):
        grad = 2 * x * g
        grad[2, 77] *= 1.001
        return (grad,)

    assert not check_vjp(lambda x: (x**2, x), vjp, (x,))


def test_broken_contracts_are_named():
    x = np.array([1.0, 2.0])

    def verdict(fwd, vjp, *args):
        report = check_vjp(fwd, vjp, args or (x,))
        assert not report
        return report.failures[0].verdict

    def fwd(x):
        return x * 2, x

    def overwrite(x):
        x *= 2
        return x.copy(), None

    def overwrite_cotangent(_, g):
        g *= 2
        return (g,)

    def overwrite_residuals(x, g):
        x += 1
        return (x * g,)

    def stateful(residuals, g):
        residuals["calls"] += 1
        return (residuals["calls"] * g,)

    assert "op_fwd changes its arguments" in verdict(overwrite, lambda _, g: (2 * g,))
    assert "changes its cotangent" in verdict(fwd, overwrite_cotangent)
    assert "changes the arguments" in verdict(fwd, overwrite_residuals)
    assert "changes its residuals" in verdict(lambda x: (x * 2, {"calls": 0}), stateful)
    assert "None, but the output depends" in verdict(fwd, lambda x, g: (None,))
    assert "2 gradients for 1 argument" in verdict(fwd, lambda x, g: (2 * g, None))
    assert "not a tuple" in verdict(fwd, lambda x, g: 2 * g)
    assert "not finite" in verdict(fwd, lambda x, g: (g * np.nan,))
    assert "dtype float32" in verdict(fwd, lambda x, g: ((2 * g).astype(np.float32),))
    assert "dtype float64, not complex" in verdict(fwd, lambda x, g: (g.real,), x + 0j)
    assert "returns float32" in verdict(lambda x: (x.astype(np.float32), x), lambda x, g: (g,))
    assert "the output is not finite" in verdict(lambda x: (x * np.inf, x), lambda x, g: (g,))
    assert "which has none" in verdict(lambda x, n: (x * n, n), lambda n, g: (n * g, g), x, 3)
    assert np.array_equal(x, [1.0, 2.0])  # the caller's arrays are never touched


def test_none_is_right_where_the_output_does_not_depend():
    report = check_vjp(lambda x, y: (x * 2, None), lambda _, g: (2 * g, None), (1.5, 2.5))
    assert report, report


def test_a_kink_is_inconclusive_rather_than_wrong_or_right():
    report = check_vjp(lambda x: (np.abs(x - 1) ** 1.5, x), lambda x, g: (0 * g,), (np.ones(1),))
    assert not report


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((np.ones(2, np.float32),), {}, "x is array.*float32"),
        (([1.0, 2.0],), {}, "x is .*list"),
        ((np.array([1.0, np.nan]),), {}, "x holds NaN"),
        ((3,), {}, "args holds nothing"),
        ((np.ones(2),), {"rtol": 0.0}, "rtol is 0"),
        ((np.ones(2),), {"directions": 0}, "directions is 0"),
        ((np.ones(2),), {"cotangent": "ones"}, "cotangent is 'ones'"),
        ((np.ones(2),), {"arguments": ("x", "y")}, "arguments has 2 names"),
    ],
)
def test_bad_input_is_named(args, options, message):
    with pytest.raises(ValueError, match=message):
        check_vjp(lambda x: (x * 2, x), lambda x, g: (2 * g,), args, **options)


def test_an_op_without_residuals_is_named():
    with pytest.raises(ValueError, match=r"it must return \(out, residuals\)"):
        check_vjp(lambda x: x * 2, lambda x, g: (2 * g,), (np.ones(3),))


@pytest.mark.parametrize("out", [[1.0, 2.0], [np.ones(3), np.ones(2)]])
def test_a_list_of_outputs_is_named(out):
    with pytest.raises(ValueError, match=r"out is a list of length 2; it must be .* a tuple"):
        check_vjp(lambda x: (out, x), lambda x, g: (x,), (np.ones(3),))


def test_reports_read_well(pole_args):
    good = check_vjp(kernel_fwd, kernel_vjp, pole_args, length=5)
    assert bool(good)
    assert str(good).startswith("3 of 3 passed, largest relative error")
    bad = check_vjp(kernel_fwd, bound(kernel_vjp, factor=1.001), pole_args, length=5)
    first, header, *rows = repr(bad).splitlines()
    assert first == "1 of 3 failed: A: wrong (relative error 1.0e-03)"
    assert header.split() == list(bad.columns)
    assert [row.split()[0] for row in rows] == ["A", "B", "C"]


# --- differences, adjoints, full gradients -------------------------------------------------------


def test_the_stencil_is_of_fourth_order():
    """Halving the step divides the error by 16 [CHECK-3]."""

    def at(s):
        return (np.array([np.exp(s)]),)

    cotangent = (np.ones(1),)
    wrong = [abs(differences.stencil(at, cotangent, h)[0] - 1) for h in (0.04, 0.02)]
    assert wrong[0] == pytest.approx(0.04**4 / 30, rel=0.01)
    assert wrong[0] / wrong[1] == pytest.approx(16, rel=0.01)


def test_numeric_gradient_agrees_with_the_rule(tustin_args, rng):
    out, residuals = tustin_fwd(*tustin_args)
    grad_out = tuple(complex_normal(rng, *o.shape) for o in out)
    for index, grad in enumerate(tustin_vjp(residuals, grad_out)):
        numeric = numeric_gradient(tustin_fwd, tustin_args, index, grad_out)
        assert numeric.shape == np.shape(grad)
        np.testing.assert_allclose(numeric, grad, rtol=1e-9)
    with pytest.raises(ValueError, match="grad_out has shapes"):
        numeric_gradient(tustin_fwd, tustin_args, 0, grad_out[0])
    with pytest.raises(ValueError, match="index is 3"):
        numeric_gradient(tustin_fwd, tustin_args, 3, grad_out)


def test_adjoint_identity(scan_args):
    report = check_adjoint(scan_fwd, scan_vjp, scan_args, ("u", "x0"))
    assert report, report
    assert report[0].error < 1e-14
    # x_last does not depend on C: such entries are no obstacle.
    assert check_adjoint(scan_fwd, scan_vjp, scan_args, ("C",))
    assert not check_adjoint(scan_fwd, bound(scan_vjp, bar=same), scan_args, ("u", "x0"))
    assert not check_adjoint(scan_fwd, bound(scan_vjp, drop_last=True), scan_args, ("u", "x0"))
    with pytest.raises(ValueError, match="all entries of the output must be zero"):
        check_adjoint(scan_fwd, scan_vjp, scan_args, ("u",))
    with pytest.raises(ValueError, match="linear is 'v'"):
        check_adjoint(scan_fwd, scan_vjp, scan_args, ("v",))


def test_adjoint_check_catches_what_is_not_linear():
    def fwd(x):
        return x**2, x

    assert not check_adjoint(fwd, lambda x, g: (2 * x * g,), (np.array([1.0, 2.0]),), ("x",))


@pytest.mark.parametrize("factor", [1 + 1e-10, 1 - 1e-10])
def test_adjoint_check_sees_a_ten_billionth(scan_args, factor):
    def vjp(residuals, grads):
        grad_A, grad_C, grad_u, grad_x0 = scan_vjp(residuals, grads)
        return grad_A, grad_C, grad_u * factor, grad_x0

    assert not check_adjoint(scan_fwd, vjp, scan_args, ("u", "x0"))


# --- the registry and the command ----------------------------------------------------------------


@pytest.fixture
def toys(monkeypatch):
    """A registry with one right and one wrong pair."""

    def examples(rng):
        A, B = -0.5 + complex_normal(rng, 4), complex_normal(rng, 4)
        yield registry.Example((A, B, 0.7), {}, "four poles", (("B",),))
        yield registry.Example((A[:2], B[:2], 0.1), {}, "two poles")

    def reference(A, B, dt):
        return tustin_fwd(A, B, dt)[0]

    names = ("A", "B", "dt")
    pairs = {
        "right": registry.Pair("right", tustin_fwd, tustin_vjp, reference, examples, names),
        "wrong": registry.Pair(
            "wrong", tustin_fwd, bound(tustin_vjp, bar=same), reference, examples, names
        ),
    }
    monkeypatch.setattr(registry, "PAIRS", pairs)
    return pairs


def call(*argv):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["gradcheck", *argv])
    return args.run(args)


def test_check_registry(toys):
    seen = []
    report = check_registry(["right"], progress=lambda *state: seen.append(state))
    assert report, report
    assert seen == [(0, 2, "right"), (1, 2, "right"), (2, 2, "")]
    assert {(row.argument, row.against) for row in report.worst()} == {
        ("(output 0)", "reference"),
        ("(output 1)", "reference"),
        ("A", "differences"),
        ("B", "differences"),
        ("dt", "differences"),
        ("B", "adjoint"),
    }
    assert not check_registry()
    again = check_registry()
    assert [r.error for r in again if r.op == "right"] == [r.error for r in report]
    with pytest.raises(ValueError, match="op is 'tustn'; it must be one of 'right', 'wrong'"):
        check_registry(["tustn"])


@pytest.mark.parametrize(
    "reference",
    [
        lambda *args: tuple(1.001 * o for o in tustin_fwd(*args)[0]),
        lambda *args: tustin_fwd(*args)[0][0],
        lambda *args: tuple(o.astype(np.complex64) for o in tustin_fwd(*args)[0]),
    ],
)
def test_an_output_that_differs_from_the_reference_fails(toys, reference):
    (example, _), rng = gradcheck.registry_examples(toys["right"], 0)
    report = gradcheck.check_example(toys["right"]._replace(reference=reference), example, rng=rng)
    assert {row.against for row in report.failures} == {"reference"}


def test_command(toys, capsys, tmp_path):
    path = tmp_path / "found.json"
    assert call("right", "--json", str(path)) == 0
    out = capsys.readouterr().out
    assert "all pass" in out
    found = json.loads(path.read_text())
    assert found["passed"] is True
    assert len(found["checks"]) == 17
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]  # no temporary file is left
    assert call() == 1
    assert "wrong, A against differences: wrong" in capsys.readouterr().out
    assert call("--list") == 0
    assert capsys.readouterr().out == "right(A, B, dt)\nwrong(A, B, dt)\n"
    assert call("right", "--verbose") == 0
    assert "two poles" in capsys.readouterr().out


def test_command_shows_both_gradients(toys, capsys):
    assert call("--show", "right") == 0
    out = capsys.readouterr().out
    assert "two poles" in out
    assert [line.split()[0] for line in out.splitlines()[3:8]] == [
        "A[0]",
        "A[1]",
        "B[0]",
        "B[1]",
        "dt",
    ]
    assert call("--show", "wrong") == 1
    with pytest.raises(ValueError, match="--show takes one op"):
        call("right", "--show", "wrong")
    with pytest.raises(ValueError, match="op is 'lost'"):
        call("--show", "lost")
    with pytest.raises(ValueError, match=r"--json is .* there is no folder"):
        call("right", "--json", "no/such/folder/x.json")
    with pytest.raises(ValueError, match="--seed is -1"):
        call("--seed", "-1")


def registered_calls():
    for pair in gradcheck.registered():
        calls, _ = gradcheck.registry_examples(pair, 0)
        for index, example in enumerate(calls):
            yield pytest.param(pair.name, index, id=f"{pair.name}-{index}-{example.note}")


@pytest.mark.parametrize(("name", "index"), list(registered_calls()))
def test_every_registered_op_on_every_example(name, index):
    (pair,) = gradcheck.registered([name])
    calls, rng = gradcheck.registry_examples(pair, 0)
    report = gradcheck.check_example(pair, calls[index], rng=rng)
    assert report, report


def test_arguments_come_as_a_tuple():
    with pytest.raises(ValueError, match=r"args is of type ndarray; it must be a tuple"):
        gradcheck.check_vjp(lambda x: (x, x), lambda x, g: (g,), np.ones(3))
