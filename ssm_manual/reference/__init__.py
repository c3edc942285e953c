"""The slow, obvious versions of every op: loops that a first-year student can follow.

Each file mirrors the file of the same name in `ssm_manual.ops`, with the same functions, the same
arguments and the same results; each has the op and its hand-derived gradient written as the
defining sums. NumPy alone is imported: no FFT, no Numba, no cleverness, no validation. The
notebooks teach from them, the tests compare with them, and the fast versions must equal them.
"""

from ssm_manual.reference import convolve, discretize, kernels, loss, scan, ssm, vandermonde

__all__ = ["convolve", "discretize", "kernels", "loss", "scan", "ssm", "vandermonde"]
