"""Input and target of a run of gradient descent: given whole, or made epoch by epoch."""

import numpy as np

from ssm_manual import _validate

__all__ = ["Data"]


class Data:
    """Input and target, checked.

    Parameters
    ----------
    model : DiagonalSSM
        Whose precision and field they must have.
    u : array_like or callable
        As for `ssm_manual.training.fit`.
    target : array_like or None
        None beside a callable.

    Attributes
    ----------
    u, target : ndarray
        (batch, length): the whole, or the first epoch's row.
    power : float
        mean |target|^2, a scale for the loss.
    """

    def __init__(self, model, u, target):
        self.model = model
        self.batches = u if callable(u) else None
        if self.batches is not None:
            if target is not None:
                raise ValueError("u is callable and target is given beside it; u returns both")
            u, target = self._first()
        else:
            u, target = self._check(u, target)
        self.u, self.target = u, target
        self.length, self.dtype = u.shape[-1], u.dtype
        self.batch = u.shape[0]
        with np.errstate(over="ignore"):  # infinite: the loss itself is, from the first epoch
            self.power = float(np.mean(np.abs(target.astype(np.complex128)) ** 2))

    def _first(self):
        u, target = self._call(0, 1)
        self.kept = u, target  # so that the first epoch is not asked for twice
        return u, target

    def rows(self, start, count):
        """The rows of some epochs, out of the callable.

        Parameters
        ----------
        start, count : int
            The first epoch, and how many.

        Returns
        -------
        u, target : ndarray
            (count, length).
        """
        u, target = self.kept if (start, count) == (0, 1) else self._call(start, count)
        if u.shape[1] != self.length or u.dtype != self.dtype:
            raise ValueError(
                f"u is a callable that returned rows of {u.shape[1]} samples of {u.dtype}; they "
                f"must be {self.length} samples of {self.dtype}, as in the first epoch"
            )
        return u, target

    def _call(self, start, count):
        pair = self.batches(start, count)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError("u is a callable that must return (u, target)")
        u, target = self._check(*pair)
        if u.shape[0] != count:
            raise ValueError(
                f"u is a callable that returned {u.shape[0]} rows; it must be {count}, one an epoch"
            )
        return u, target

    def _check(self, u, target):
        if target is None:
            raise ValueError("target is None; it must be an array of u's shape")
        model = self.model
        real = ("u", "target") if model.real else ()
        u, target, _ = _validate.arrays(u=u, target=target, A=model.params["A"], real=real)
        if u.ndim not in (1, 2) or u.size == 0:
            raise ValueError(
                f"u has shape {u.shape}; it must be (length,) or (batch, length), not empty"
            )
        _validate.shape("target", target, u.shape, meaning="u's")
        return np.atleast_2d(u), np.atleast_2d(target)
