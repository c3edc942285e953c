"""GELU, then dropout."""

from ssm_manual.reference.dropout import dropout, dropout_vjp
from ssm_manual.reference.gelu import gelu, gelu_vjp


def gelu_dropout(x, *, rate, seed, tied=False):
    """``dropout(gelu(x))``."""
    return dropout(gelu(x), rate=rate, seed=seed, tied=tied)


def gelu_dropout_vjp(x, grad_y, *, rate, seed, tied=False):
    """Back through the mask, then through GELU."""
    (grad,) = dropout_vjp(x, grad_y, rate=rate, seed=seed, tied=tied)
    return gelu_vjp(x, grad)
