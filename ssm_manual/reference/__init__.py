"""The slow, obvious versions of every op: loops that a first-year student can follow.

Each file mirrors the file of the same name in `ssm_manual.ops`: the op under its own name, and
``op_vjp(*args, *cotangents)`` as the defining sums. A vjp here returns complex numbers where the
argument is real, before the sum over broadcast axes: the caller takes both [COMPLEX-4, 5]. NumPy
alone is imported: no FFT (but where the kernel comes from its generating function), no Numba, no
cleverness, no validation. The notebooks teach from them, the tests compare with them, and the fast
versions must equal them.
"""

from ssm_manual.reference import (
    binary_cross_entropy,
    cauchy,
    activations,
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
    gelu,
    gelu_dropout,
    kernels,
    loss,
    regression,
    scan,
    softmax_cross_entropy,
    ssm,
    terminal_state,
    truncate,
    vandermonde,
)

__all__ = [
    "binary_cross_entropy",
    "cauchy",
    "activations",
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
    "gelu",
    "gelu_dropout",
    "kernels",
    "loss",
    "regression",
    "scan",
    "softmax_cross_entropy",
    "ssm",
    "terminal_state",
    "truncate",
    "vandermonde",
]
