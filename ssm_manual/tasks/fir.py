"""Least-squares FIR filters: the best that a finite memory can do on the training part."""

import numpy as np

from ssm_manual import _validate

__all__ = ["ChosenFIR", "LeastSquaresFIR", "advance"]

#: Lengths among which `ChosenFIR` takes the best.
CANDIDATE_TAPS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

#: It judges them on at most so many draws and samples, and fits the chosen one to all.
TRIAL_DRAWS, TRIAL_LENGTH = 8, 2**13


def advance(y, delay):
    """``y_{t + delay}``, with zeros after the end.

    Parameters
    ----------
    y : ndarray
        ``(..., length)``.
    delay : int
        Samples, at least 0.

    Returns
    -------
    ndarray
        Of y's shape.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    y = np.atleast_1d(_validate.array("y", y, finite=False))
    delay = _validate.length("delay", delay)
    if delay == 0:
        return y
    result = np.zeros_like(y)
    result[..., :-delay] = y[..., delay:]
    return result


class LeastSquaresFIR:
    """``y_t = sum_{j < taps} h_j u_{t-j}`` with the h that is best on the training part.

    ``y_t`` estimates the clean sample ``t - lookahead``.

    The normal equations are formed exactly, over all draws and all rows whose target is known, with
    zeros before the start, as the model has them: no other filter of this length does better there.

    Parameters
    ----------
    taps : int
        Number of coefficients, at least 1.

    Raises
    ------
    ValueError
        If it is not.
    """

    name = "least-squares FIR"
    causal = True

    def __init__(self, taps=64):
        self.taps = _validate.size("taps", taps)

    @property
    def settings(self):
        """The chosen settings in words."""
        return f"{self.taps} taps"

    def fit(self, clean, noisy, lookahead):
        """Solve ``(sum u u^T) h = sum u clean_{t - lookahead}``; cost O(draws length taps^2).

        Parameters
        ----------
        clean : ndarray
            ``(length,)``, about its mean.
        noisy : ndarray
            ``(draws, length)``.
        lookahead : int
            Samples to wait.

        Returns
        -------
        LeastSquaresFIR
            The filter itself, fitted.
        """
        taps, block = self.taps, 2**14
        gram, right = np.zeros((taps, taps)), np.zeros(taps)
        for u in noisy:
            padded = np.concatenate([np.zeros(taps - 1), u])
            windows = np.lib.stride_tricks.sliding_window_view(padded, taps)  # row t ends with u_t
            for start in range(lookahead, u.size, block):
                stop = min(start + block, u.size)
                rows = np.ascontiguousarray(windows[start:stop])
                gram += rows.T @ rows
                right += rows.T @ clean[start - lookahead : stop - lookahead]
        # lstsq, because without noise a few sinusoids leave the matrix singular
        self.coefficients = np.linalg.lstsq(gram, right, rcond=None)[0][::-1]
        self.delay = lookahead
        return self

    def __call__(self, noisy):
        """Restore signals ``(..., length)``."""
        noisy = np.asarray(noisy, dtype=np.float64)
        rows = noisy.reshape(-1, noisy.shape[-1])
        restored = [np.convolve(row, self.coefficients)[: row.size] for row in rows]
        return advance(np.reshape(restored, noisy.shape), self.delay)


class ChosenFIR(LeastSquaresFIR):
    """As `LeastSquaresFIR`, its length chosen too.

    Candidates are fitted to the first 70 % of the training part and judged on its last 30 %; the
    best length is then fitted to all of it.
    """

    name = "least-squares FIR, chosen"

    def fit(self, clean, noisy, lookahead):
        """Choose the length, then fit; cost that of a dozen fits to a fifth of the data.

        Parameters
        ----------
        clean : ndarray
            ``(length,)``, about its mean.
        noisy : ndarray
            ``(draws, length)``.
        lookahead : int
            Samples to wait.

        Returns
        -------
        ChosenFIR
            The filter itself, fitted.
        """
        few = noisy[:TRIAL_DRAWS, :TRIAL_LENGTH]
        part = clean[: few.shape[-1]]
        cut, end = int(0.7 * part.size), part.size - lookahead
        errors = {}
        for taps in CANDIDATE_TAPS:
            if end > cut and (taps <= cut // 2 or not errors):
                trial = LeastSquaresFIR(taps).fit(part[:cut], few[:, :cut], lookahead)
                errors[taps] = np.mean((trial(few) - part)[:, cut:end] ** 2)
        self.taps = min(errors, key=errors.get) if errors else CANDIDATE_TAPS[0]
        return super().fit(clean, noisy, lookahead)
