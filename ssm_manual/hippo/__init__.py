"""HiPPO: states that are coefficients of the input's past, and initialisations made of them.

    x'(s) = A x(s) + B u(s)

Three measures, that is three ways of weighing the past:

========  =====================================  ================================================
``legs``  Legendre polynomials, whole past       `legs`: uniform on [0, t], scale-invariant
``legt``  Legendre polynomials, last ``theta``   `legt`: uniform on [t - theta, t]
``fout``  cosines and sines, last ``theta``      `fout`: uniform on [t - theta, t]
========  =====================================  ================================================

`project` runs them over a signal and `basis` reads the past out of a state. `nplr` splits A into
normal plus low rank, `dplr` diagonalises the normal part, and `diagonal` is what a diagonal layer
starts from. Derivation: docs/derivations/hippo.md. Everything is computed in double precision and
cast at the end; NumPy's LAPACK does the work, once, before training.
"""

from ssm_manual.hippo.initial import INITIAL, diagonal, log_dt
from ssm_manual.hippo.low_rank import dplr, nplr
from ssm_manual.hippo.matrices import MEASURES, fout, legs, legt
from ssm_manual.hippo.projection import basis, project

__all__ = [
    "INITIAL",
    "MEASURES",
    "basis",
    "diagonal",
    "dplr",
    "fout",
    "legs",
    "legt",
    "log_dt",
    "nplr",
    "project",
]
