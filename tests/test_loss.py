"""half_mse and mse: equal to the reference, the factor 2 between them, gradients e/n and 2e/n."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_close, cast, complex_normal

from ssm_manual import reference
from ssm_manual.ops import loss

LOSSES = {
    "half_mse": (loss.half_mse, loss.half_mse_fwd, loss.half_mse_vjp, 1),
    "mse": (loss.mse, loss.mse_fwd, loss.mse_vjp, 2),
}
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fields", ["real, real", "complex, real", "complex, complex"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 2, 65), (1, 1, 1047)])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient(rng, name, shape, fields, dtype):
    op, fwd, vjp, factor = LOSSES[name]
    draw = {
        "real": lambda: rng.standard_normal(shape),
        "complex": lambda: complex_normal(rng, *shape),
    }
    p, d = (cast(draw[field](), dtype) for field in fields.split(", "))
    value, kept = fwd(p, d)
    expected = getattr(reference.loss, name)(p.astype(complex), d.astype(complex))
    assert value.dtype == dtype
    assert value.shape == ()
    # Squares are positive: a sum of n errs by log2(n) units and a few.
    assert abs(value - expected) <= 32 * UNIT[dtype] * expected
    assert op(p, d) == value
    grad_p, grad_d = vjp(kept, 0.7)
    e = p.astype(complex) - d
    assert grad_p.dtype == p.dtype
    assert grad_d.dtype == d.dtype
    assert_close(grad_p, 0.7 * factor * e / p.size, 8 * UNIT[dtype])
    assert_close(
        grad_d,
        -0.7 * factor * (e if "complex, complex" in fields else e.real) / p.size,
        8 * UNIT[dtype],
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_along_the_gradient_descends_by_its_square(rng, name):
    """L(p - s g) = L(p) - s |g|^2 + O(s^2): right in size and in the sign of its imaginary part."""
    op, fwd, vjp, _ = LOSSES[name]
    p, d = complex_normal(rng, 30), complex_normal(rng, 30)
    value, kept = fwd(p, d)
    g, _ = vjp(kept, 1.0)
    s = 1e-6
    assert abs((value - op(p - s * g, d)) / (s * np.sum(np.abs(g) ** 2)) - 1) < 1e-6


def test_the_two_names_differ_by_two(rng):
    p, d = rng.standard_normal(9), rng.standard_normal(9)
    assert loss.mse(p, d) == 2 * loss.half_mse(p, d)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(rng, layout):
    p, d = complex_normal(rng, 3, 5), complex_normal(rng, 3, 5)
    value, kept = loss.half_mse_fwd(p, d)
    other, kept_other = loss.half_mse_fwd(LAYOUTS[layout](p), LAYOUTS[layout](d))
    assert abs(value - other) <= 1e-15 * value * p.size
    assert_close(loss.half_mse_vjp(kept_other, 1.0), loss.half_mse_vjp(kept, 1.0), 1e-15)
