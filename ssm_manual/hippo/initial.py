"""What a diagonal layer starts from: ``diagonal`` (poles and B) and ``log_dt``."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.hippo.low_rank import dplr
from ssm_manual.hippo.matrices import cast

__all__ = ["INITIAL", "diagonal", "log_dt"]

#: Names that `diagonal` knows.
INITIAL = ("legs", "lin", "inv", "fout", "real", "inv2", "quad")


def diagonal(kind, modes, *, channels=None, dtype="float64"):
    """Poles and input weights of a diagonal layer, one of each conjugate pair stored.

    With n = 0, ..., modes - 1 and N = 2 modes, the number of states that they stand for [HIPPO-14]:

    ========  ===============================================  =====================================
    ``legs``  -1/2 + i omega_n, normal part of ``legs(N)``     B of `dplr`, real and positive
    ``lin``   -1/2 + i pi n                                    B = 1
    ``inv``   -1/2 + i (N/pi) (N/(2n+1) - 1)                   B = 1
    ``fout``  -1/2 + i pi n, normal part of ``fout(N)``        B of `dplr`: 1 but for sqrt(1/2) at 0
              moved off the imaginary axis
    ``real``  -(n + 1)                                         B = 1
    ``inv2``  -1/2 + i (N/pi) (N/(n+1) - 1)                    B = 1
    ``quad``  -1/2 + i (2n + 1)^2 / pi                         B = 1
    ========  ===============================================  =====================================

    Parameters
    ----------
    kind : {"legs", "lin", "inv", "fout", "real", "inv2", "quad"}
        Which.
    modes : int
        Stored poles, at least 1.
    channels : int, optional
        H: repeat for so many channels. None: one channel, without that axis.
    dtype : {"float64", "float32"}
        Of the result: complex128 or complex64.

    Returns
    -------
    Lambda : ndarray
        (modes,) or (channels, modes), complex, in 1/s; Re < 0.
    B : ndarray
        Of the same shape, complex.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    B is not clipped: that would depend on the phases of eigenvectors, which are arbitrary. The
    time scale comes from dt: see `log_dt`.

    ``legs`` drops the low-rank part of A. What is left, with B/2, responds like HiPPO-LegS at
    angular frequencies well below N, to a relative omega/N [HIPPO-15]; B is not halved here, since
    C is free. The real pole at n = 0 of ``lin`` counts twice, as every stored pole does in a real
    output.

    References
    ----------
    A. Gu, A. Gupta, K. Goel, C. Ré (2022), "On the parameterization and initialization of diagonal
    state space models" (S4D), section 4. ``inv2`` and ``quad`` are found in its authors' code
    alone.

    Examples
    --------
    >>> Lambda, B = diagonal("lin", 3)
    >>> Lambda.round(4)
    array([-0.5+0.j    , -0.5+3.1416j, -0.5+6.2832j])
    """
    _validate.one_of("kind", kind, INITIAL)
    modes = _validate.size("modes", modes)
    n, N = np.arange(modes), 2 * modes
    B = np.ones(modes, complex)
    if kind in ("legs", "fout"):
        Lambda, _, B, _ = dplr(kind, N)
        Lambda.real = -0.5  # fout: from 0, where a mode never forgets
    else:
        omega = {  # [HIPPO-14]
            "lin": np.pi * n,
            "inv": N / np.pi * (N / (2 * n + 1) - 1),
            "real": 0.0 * n,
            "inv2": N / np.pi * (N / (n + 1) - 1),
            "quad": (2 * n + 1) ** 2 / np.pi,
        }[kind]
        Lambda = (-(n + 1.0) if kind == "real" else -0.5) + 1j * omega
    if channels is not None:
        shape = (_validate.size("channels", channels), modes)
        Lambda, B = (np.broadcast_to(a, shape) for a in (Lambda, B))
    return cast(dtype, Lambda, B)


def log_dt(channels, *, dt_min=1e-3, dt_max=1e-1, rng, dtype="float64"):
    """``log dt``, uniform between ``log dt_min`` and ``log dt_max``: one draw for each channel.

    A pole at Lambda remembers for 1/(dt |Re Lambda|) samples: with the default range and Re Lambda
    = -1/2, the channels' memories cover 20 to 2000 samples evenly on a logarithmic scale.

    Parameters
    ----------
    channels : int
        H, at least 1.
    dt_min, dt_max : float
        Seconds per sample, 0 < dt_min <= dt_max.
    rng : numpy.random.Generator
        Where the random numbers come from.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    ndarray
        (channels,), real: the natural logarithm of seconds per sample.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    channels = _validate.size("channels", channels)
    dt_min = _validate.real_number("dt_min", dt_min, above=0)
    dt_max = _validate.real_number("dt_max", dt_max, minimum=dt_min)
    real, _ = _validate.precision(dtype)
    _validate.generator("rng", rng)
    return rng.uniform(np.log(dt_min), np.log(dt_max), channels).astype(real)
