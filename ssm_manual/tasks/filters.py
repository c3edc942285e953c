"""What a person would use instead of a trained model; settings are chosen on the training part.

Every filter has a ``name``, says whether it is ``causal``, and has two methods:

* ``fit(clean, noisy, lookahead)`` chooses its settings. ``clean (length,)`` is the training part
  about its mean, ``noisy (draws, length)`` the same with several draws of noise. It sees nothing
  else, and returns the filter itself.
* ``filter(noisy)`` restores signals ``(..., length)`` along their last axis. The result is aligned
  with the clean signal.

A causal filter may wait: its estimate of sample t uses the noisy signal up to t + ``lookahead`` and
no further. Where it brings a delay of its own (half the window of a moving average, the group delay
of a Butterworth filter), as much of it is removed as the lookahead allows. After the end of a
signal it sees zeros, the mean, so that its last ``lookahead`` estimates are worse; comparisons
leave them out. A filter that is not causal sees the whole signal, and the lookahead means nothing
to it.

SciPy's signal processing is imported where it is used, because importing it takes longer than most
of these filters.
"""

import numpy as np

from ssm_manual.tasks.fir import ChosenFIR, LeastSquaresFIR, advance

__all__ = [
    "Butterworth",
    "ChosenFIR",
    "LeastSquaresFIR",
    "MovingAverage",
    "SavitzkyGolay",
    "WaveletShrinkage",
    "Wiener",
    "available",
]

#: Settings are chosen by trial on at most so many draws and samples; the FIR, which solves for its
#: taps, uses all.
TRIAL_DRAWS, TRIAL_LENGTH = 8, 2**15


def available():
    """One of each filter, unfitted; wavelet shrinkage only where PyWavelets is installed.

    Returns
    -------
    list
    """
    filters = [
        MovingAverage(),
        Butterworth(),
        LeastSquaresFIR(),
        ChosenFIR(),
        Butterworth(zero_phase=True),
        SavitzkyGolay(),
        Wiener(),
    ]
    try:
        import pywt  # noqa: F401
    except ImportError:
        return filters
    return [*filters, WaveletShrinkage()]


class _Chosen:
    """A filter whose settings are the best of a list: least mean error^2 on the training part."""

    #: What `_apply` is called with; a tuple.
    setting = None

    def fit(self, clean, noisy, lookahead):
        """Try every candidate on the training part and keep the best.

        Parameters
        ----------
        clean : ndarray
            ``(length,)``, about its mean.
        noisy : ndarray
            ``(draws, length)``.
        lookahead : int
            Samples that a causal filter may wait.

        Returns
        -------
        object
            The filter itself, fitted.
        """
        noisy = noisy[:TRIAL_DRAWS, :TRIAL_LENGTH]
        clean = clean[: noisy.shape[-1]]
        end = clean.size - lookahead
        self._prepare(clean, noisy, lookahead)
        errors = {}
        for setting in self._candidates(clean.size, lookahead):
            for delay in self._delays(setting, lookahead):
                errors[setting, delay] = 0.0
            restored = self._apply(noisy, *setting)
            for delay in self._delays(setting, lookahead):
                error = restored[:, delay : delay + end] - clean[:end]
                errors[setting, delay] = np.mean(error * error)
        self.setting, self.delay = min(errors, key=errors.get)
        return self

    def __call__(self, noisy):
        """Restore signals ``(..., length)``."""
        return advance(self._apply(np.asarray(noisy, dtype=np.float64), *self.setting), self.delay)

    def _prepare(self, clean, noisy, lookahead):
        pass

    def _delays(self, setting, lookahead):
        return (0,)


class MovingAverage(_Chosen):
    """``y_t = (u_t + u_{t-1} + ... + u_{t-w+1}) / w`` with a chosen w.

    Its delay (w - 1) / 2 is removed as far as the lookahead allows.
    """

    name = "moving average"
    causal = True

    @property
    def settings(self):
        """The chosen settings in words."""
        return f"{self.setting[0]} samples"

    def _candidates(self, length, lookahead):
        return [(int(w),) for w in _spread(1, max(1, min(length // 4, 200)), 40)]

    def _delays(self, setting, lookahead):
        return (min(lookahead, (setting[0] - 1) // 2),)

    def _apply(self, u, width):
        total = np.cumsum(u, axis=-1)
        y = total.copy()
        y[..., width:] -= total[..., :-width]
        return y / width


class Butterworth(_Chosen):
    """A low-pass filter of chosen order and cutoff.

    ``zero_phase=False`` is one causal pass, of whose delay as much is removed as serves best within
    the lookahead; ``zero_phase=True`` runs forwards and backwards and is not causal.

    Parameters
    ----------
    zero_phase : bool
        Whether to filter forwards and backwards.
    """

    def __init__(self, zero_phase=False):
        self.zero_phase = zero_phase
        self.causal = not zero_phase
        self.name = "Butterworth, both ways" if zero_phase else "Butterworth"

    @property
    def settings(self):
        """The chosen settings in words."""
        order, cutoff = self.setting
        return f"order {order}, cutoff {cutoff:.3g} cycles/sample"

    def _candidates(self, length, lookahead):
        cutoffs = np.geomspace(0.002, 0.45, 32)
        return [(order, float(f)) for order in (1, 2, 3, 4, 6) for f in cutoffs]

    def _delays(self, setting, lookahead):
        return (0,) if self.zero_phase else range(lookahead + 1)

    def _apply(self, u, order, cutoff):
        from scipy import signal

        sections = signal.butter(order, 2 * cutoff, output="sos")
        if not self.zero_phase:
            return signal.sosfilt(sections, u, axis=-1)
        return signal.sosfiltfilt(sections, u, axis=-1, padlen=min(3 * order + 3, u.shape[-1] - 1))


class SavitzkyGolay(_Chosen):
    """A polynomial fitted to a window around every sample; window and degree are chosen."""

    name = "Savitzky-Golay"
    causal = False

    @property
    def settings(self):
        """The chosen settings in words."""
        return f"window {self.setting[0]}, degree {self.setting[1]}"

    def _candidates(self, length, lookahead):
        # an odd degree fits like the even one below it, save at the ends
        widths = sorted({2 * int(h) + 1 for h in _spread(1, min(100, (length - 1) // 2), 30)})
        return [(w, degree) for w in widths for degree in (0, 2, 4) if degree < w]

    def _apply(self, u, width, degree):
        from scipy import signal

        width = min(width, u.shape[-1] - 1 + u.shape[-1] % 2)
        return signal.savgol_filter(u, width, degree, axis=-1)


class Wiener(_Chosen):
    """SciPy's adaptive Wiener filter: shrink to the local mean where the local variance is noise.

    Window, and whether the noise's power is given or estimated from the signal itself, are chosen.
    """

    name = "Wiener (scipy)"
    causal = False

    @property
    def settings(self):
        """The chosen settings in words."""
        width, given = self.setting
        return f"window {width}, noise power {'given' if given else 'estimated'}"

    def _prepare(self, clean, noisy, lookahead):
        self._noise_power = float(np.mean((noisy - clean) ** 2))

    def _candidates(self, length, lookahead):
        widths = sorted({2 * int(h) + 1 for h in _spread(1, min(50, (length - 1) // 2), 20)})
        return [(w, given) for w in widths for given in (True, False)]

    def _apply(self, u, width, given):
        from scipy import signal

        rows = u.reshape(-1, u.shape[-1])
        noise = self._noise_power if given else None
        # where there is no local variance SciPy divides by zero, and then takes the mean
        with np.errstate(divide="ignore", invalid="ignore"):
            restored = [signal.wiener(row, width, noise) for row in rows]
        return np.reshape(restored, u.shape)


class WaveletShrinkage(_Chosen):
    """Donoho's soft threshold: details shrunk by a multiple of ``sigma sqrt(2 log length)``.

    sigma is the median of the finest details' magnitude over 0.6745. Wavelet, levels and the
    multiple (1 is the universal threshold) are chosen. Needs PyWavelets.

    References
    ----------
    D. L. Donoho, "De-noising by soft-thresholding", IEEE Trans. Inf. Theory 41 (1995) 613.
    """

    name = "wavelet shrinkage"
    causal = False

    @property
    def settings(self):
        """The chosen settings in words."""
        wavelet, levels, multiple = self.setting
        return f"{wavelet}, {levels} levels, {multiple:g} x universal threshold"

    def _candidates(self, length, lookahead):
        import pywt

        return [
            (wavelet, levels, multiple)
            for wavelet in ("db2", "db4", "sym8")
            for levels in range(1, 1 + min(6, pywt.dwt_max_level(length, wavelet)))
            for multiple in (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
        ] or [("haar", 1, 1.0)]

    def _apply(self, u, wavelet, levels, multiple):
        import pywt

        length = u.shape[-1]
        levels = min(levels, pywt.dwt_max_level(length, wavelet))
        if levels == 0:  # too short for this wavelet
            return u.copy()
        approximation, *details = pywt.wavedec(u, wavelet, level=levels, axis=-1)
        sigma = np.median(np.abs(details[-1]), axis=-1, keepdims=True) / 0.6745
        threshold = multiple * sigma * np.sqrt(2 * np.log(length))
        shrunk = [np.sign(d) * np.maximum(np.abs(d) - threshold, 0) for d in details]
        return pywt.waverec([approximation, *shrunk], wavelet, axis=-1)[..., :length]


def _spread(first, last, count):
    """At most ``count`` different integers from ``first`` to ``last``, denser at the beginning."""
    return np.unique(np.round(np.geomspace(first, max(first, last), count)).astype(int))
