"""The dense map, then the gate."""

from ssm_manual.reference.glu import glu, glu_vjp
from ssm_manual.reference.linear import linear, linear_vjp


def linear_glu(x, weight, bias, *, axis=-1):
    """``glu(linear(x))``."""
    return glu(linear(x, weight, bias, axis=axis), axis=axis)


def linear_glu_vjp(x, weight, bias, grad_y, *, axis=-1):
    """Back through the gate, then through the map."""
    z = linear(x, weight, bias, axis=axis)
    (grad_z,) = glu_vjp(z, grad_y, axis=axis)
    return linear_vjp(x, weight, bias, grad_z, axis=axis)
