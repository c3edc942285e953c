"""The arguments of `cauchy` and `truncate`: validated, in double precision, without units.

Both see the continuous system through ``dt A / 2`` and ``dt B / 2`` alone [CAUCHY-2]. So dt enters
in one place, here, and its gradient is read off those of the others [CAUCHY-21].
"""

import math
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate


class System(NamedTuple):
    """A diagonal plus low-rank system, one row a channel."""

    pole: np.ndarray  # (H, N) complex128: dt Lambda / 2
    P: np.ndarray  # (H, r, N): dt P / 2
    Q: np.ndarray  # (H, r, N): the conjugate of Q
    B: np.ndarray | None  # (H, N): dt B / 2
    C: np.ndarray  # (H, N): C or C_tilde
    half: np.ndarray  # (H, 1) float64: dt / 2
    shape: tuple  # of the channels: () or (H,) or any other
    given: dict  # the arguments as they came, converted to arrays, by name
    real: bool

    def pull_back(self, **grads):
        """Gradients to the given arguments from those to pole, P, Q, B and C [CAUCHY-21].

        In the order of the arguments, each in its shape and dtype; the one to Q is that to the
        conjugate still.
        """
        given, half = self.given, self.half
        to_half = np.sum((self.pole.conj() * grads["Lambda"]).real, axis=1)
        to_half += np.sum((self.P.conj() * grads["P"]).real, axis=(1, 2))
        if "B" in given:
            to_half += np.sum((self.B.conj() * grads["B"]).real, axis=1)
            grads["B"] = half * grads["B"]
        grads["dt"] = to_half / (2 * half[:, 0])
        grads["Lambda"] = half * grads["Lambda"]
        grads["P"] = half[:, None] * grads["P"]
        grads["Q"] = grads["Q"].conj()
        found = []
        for name, argument in given.items():
            grad = grads["C" if name == "C_tilde" else name]
            grad = grad.reshape(self.shape + grad.shape[1:])
            with np.errstate(over="ignore"):  # infinite, as the kernel itself is for such poles
                found.append(_validate.unbroadcast(grad, argument).astype(argument.dtype))
        return tuple(found)


def system(real, **given):
    """Validate Lambda, P, Q, (B), C or C_tilde and dt, and bring them to one form.

    Raises
    ------
    ValueError
        If a shape or dtype does not fit, a value is not finite, or dt is not positive.
    """
    _validate.flag("real", real)
    given = dict(zip(given, _validate.arrays(**given, real=("dt",))))
    dt = given["dt"]
    if np.any(dt <= 0):
        raise ValueError(f"dt is {_validate.show(dt)}; it must be positive everywhere")
    for name in ("P", "Q"):
        if given[name].ndim < 2:
            raise ValueError(f"{name} has shape {given[name].shape}; it must be S + (rank, N)")
    N, rank = given["P"].shape[::-1][:2]
    leading = {"dt": dt}
    for name, a in given.items():
        tail = {"dt": (), "P": (rank, N), "Q": (rank, N)}.get(name, (N,))
        if N == 0 or a.shape[a.ndim - len(tail) :] != tail:
            raise ValueError(
                f"{name} has shape {a.shape} beside P of shape {given['P'].shape}; P and Q must "
                "be S + (rank, N) and the others S + (N,), of the same rank and N, N at least 1"
            )
        leading[name] = _validate.stand_in(a.shape[: a.ndim - len(tail)], a.dtype)
    shape = _validate.broadcast(**leading)
    channels = math.prod(shape)
    if channels == 0:
        found = ", ".join(f"{name} {a.shape}" for name, a in given.items())
        raise ValueError(f"{found}: there must be at least one channel")

    def full(name, scale=1.0):
        a = given[name]
        tail = a.shape[leading[name].ndim :]
        a = np.array(np.broadcast_to(a, shape + tail), np.complex128, order="C")
        return a.reshape(channels, *tail) * scale

    half = np.array(np.broadcast_to(dt, shape), np.float64).reshape(channels, 1) / 2
    return System(
        full("Lambda", half),
        full("P", half[:, None]),
        full("Q").conj(),
        full("B", half) if "B" in given else None,
        full("C_tilde" if "C_tilde" in given else "C"),
        half,
        shape,
        given,
        bool(real),
    )
