"""The calculus: each op beside its vector-Jacobian product and its kernels, and registered.

The contract of an op::

    out, residuals = op_fwd(*args, **options)
    grads = op_vjp(residuals, grad_out)        # one per argument, of its shape; None if constant
    out = op(*args, **options)                 # the same out, residuals dropped

Options are keyword-only and travel in ``residuals``. An op with a tuple out takes a tuple of
cotangents, in which None stands for zeros. Gradients of complex arguments follow [COMPLEX-1].
"""

from ssm_manual.ops import (
    activations,
    binary_cross_entropy,
    cauchy,
    causal,
    chunked,
    convolve,
    dense_chunked,
    dense_convolve,
    dense_discretize,
    dense_kernel,
    dense_scan,
    dense_ssm,
    dense_terminal_state,
    discretize,
    dplr,
    dplr_dense,
    dplr_discretize,
    dplr_scan,
    dropout,
    embedding,
    gelu,
    gelu_dropout,
    glu,
    kernels,
    layer_norm,
    linear,
    linear_glu,
    loss,
    pool,
    rms_norm,
    scan,
    softmax_cross_entropy,
    ssm,
    terminal_state,
    truncate,
    vandermonde,
)
from ssm_manual.ops.registry import PAIRS

__all__ = [
    "PAIRS",
    "activations",
    "binary_cross_entropy",
    "cauchy",
    "causal",
    "chunked",
    "convolve",
    "dense_chunked",
    "dense_convolve",
    "dense_discretize",
    "dense_kernel",
    "dense_scan",
    "dense_ssm",
    "dense_terminal_state",
    "discretize",
    "dplr",
    "dplr_dense",
    "dplr_discretize",
    "dplr_scan",
    "dropout",
    "embedding",
    "gelu",
    "gelu_dropout",
    "glu",
    "kernels",
    "layer_norm",
    "linear",
    "linear_glu",
    "loss",
    "pool",
    "rms_norm",
    "scan",
    "softmax_cross_entropy",
    "ssm",
    "terminal_state",
    "truncate",
    "vandermonde",
]
