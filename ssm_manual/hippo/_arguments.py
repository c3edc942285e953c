"""Arguments that all of HiPPO shares."""

import contextlib

import numpy as np

from ssm_manual import _validate


def precision(dtype):
    """``"float32"`` or ``"float64"`` as a pair of dtypes, real and complex."""
    with contextlib.suppress(TypeError):  # the next line says what it must be
        dtype = dtype if dtype is None else np.dtype(dtype).name
    _validate.one_of("dtype", dtype, ("float32", "float64"))
    return np.dtype(dtype), np.result_type(dtype, np.complex64)


def even(N):
    """The number of states of a Fourier basis."""
    N = _validate.integer("N", N, minimum=1)
    if N % 2:
        raise ValueError(
            f"N is {N}; for fout it must be even: states are pairs of a cosine and a sine"
        )
    return N
