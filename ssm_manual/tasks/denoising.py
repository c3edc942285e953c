"""Removing noise from a signal: the protocol, and the model beside what a person would use instead.

The protocol, the same for every method:

* The first 70 % of the signal, in time, are for training, the rest is held out. Mean and scale come
  from the clean training part.
* White Gaussian noise is added; its power is ``10^(-noise_snr / 10)`` times the clean training
  part's power about its mean.
* The model sees fresh noise in every epoch. The other methods choose their settings on draws of
  noise on the same training part.
* With a lookahead k a causal method estimates sample t from the noisy signal up to sample t + k.
  The model learns the target delayed by k samples; the delay is removed before comparing.
* ``model="deep"`` adds blocks of S4D to the methods, the diagonal SSM included. They see the whole
  signal, future included, unless a lookahead is given, were it 0.
* Evaluation is on the held-out part, over several draws of noise that nobody has seen, the same
  draws for all methods. Every method runs over the *whole* noisy recording and is compared on the
  held-out part alone: a causal filter arrives there with the state (or the taps) that the recording
  so far has left in it, as it would in use. The last k samples are left out for all methods,
  because their future lies beyond the recording.
* ``SNR = 10 log10(power of the clean signal about the training mean / power of the error)``, both
  over the held-out samples and all draws. The noisy signal's own SNR there differs from
  ``noise_snr`` where the held-out part is stronger or weaker than the training part.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks import deep_filter, filters, trained_filter

__all__ = ["METHOD", "MODELS", "Comparison", "Score", "Task", "compare", "prepare", "snr"]

#: Noise draws on which the other methods choose their settings; fewer where they would hold more
#: samples than this in all.
FIT_DRAWS, FIT_SAMPLES = 40, 8_000_000

#: The diagonal SSM's name among the methods.
METHOD = trained_filter.TrainedFilter.name

#: What can be trained, and the options of each training.
MODELS = {
    "diagonal": ("poles", "parameters", "mode", "window", "epochs", "dtype"),
    "deep": ("epochs", "dtype"),
}


class Task(NamedTuple):
    """One signal made ready: about its mean, in units of its training part's deviation.

    Attributes
    ----------
    clean : ndarray
        ``(length,)``, float64, mean zero and power one over the training part.
    sigma : float
        Standard deviation of the noise in the same units.
    start : int
        First held-out sample.
    lookahead : int
        Samples that a causal method may wait.
    mean, scale : float
        ``signal = mean + scale * clean``.
    """

    clean: np.ndarray
    sigma: float
    start: int
    lookahead: int
    mean: float
    scale: float


class Score(NamedTuple):
    """How one method did on the held-out part.

    Attributes
    ----------
    method : str
    causal : bool
        Whether it uses nothing beyond the lookahead.
    settings : str
        What was chosen or trained on the training part.
    snr : float
        SNR of the restored signal, dB.
    gain : float
        ``snr`` minus the noisy signal's SNR, dB.
    spread : float
        Standard deviation of the SNR over the draws, dB.
    """

    method: str
    causal: bool
    settings: str
    snr: float
    gain: float
    spread: float


@dataclass(frozen=True)
class Comparison:
    """Everything that the table, the figure and the JSON file need of one channel.

    Attributes
    ----------
    name : str
    rate : float or None
        Samples per second.
    noise_snr, snr_in : float
        Asked for (over the training part), and measured on the held-out part, dB.
    scores : tuple of Score
        Best first.
    method : str
        Which of them is the model.
    model : DiagonalSSM or SequenceModel
        Trained on input of power one, noise included.
    offset, scale : float
        What the model's 0 and 1 are in the recording's units: its input is ``(noisy - offset) /
        scale``.
    losses : ndarray
        ``(epochs,)``: mean e^2 in units of the clean training power, each before its epoch's
        update.
    initial_A_bar : ndarray or None
        The poles of the diagonal SSM before training.
    halvings : int
        How often the learning rates had to be halved because training diverged.
    start, lookahead : int
        First held-out sample; samples of delay.
    clean, noisy, restored : ndarray
        ``(length,)``, one draw, in the recording's units; ``restored`` is aligned with ``clean``.
    training_seconds : float
    """

    name: str
    rate: float | None
    noise_snr: float
    snr_in: float
    scores: tuple
    method: str
    model: Any
    offset: float
    scale: float
    losses: np.ndarray
    initial_A_bar: np.ndarray | None
    halvings: int
    start: int
    lookahead: int
    clean: np.ndarray
    noisy: np.ndarray
    restored: np.ndarray
    training_seconds: float

    def score(self, method=None):
        """The score of a method.

        Parameters
        ----------
        method : str
            Its name; without one the model's.

        Returns
        -------
        Score
        """
        return next(s for s in self.scores if s.method == (method or self.method))


def prepare(samples, *, noise_snr=5.0, lookahead=0, train_share=0.7):
    """Split a signal in time and scale it by its clean training part.

    Parameters
    ----------
    samples : array_like
        ``(length,)``, real.
    noise_snr : float
        Power of the clean training part about its mean over the power of the noise, in dB, between
        -60 and 120.
    lookahead : int
        Samples that a causal method may wait, at least 0.
    train_share : float
        Share of the signal to train on, between 0 and 1.

    Returns
    -------
    Task

    Raises
    ------
    ValueError
        If an argument is out of its range, the signal is too short for the lookahead, or a part of
        it is constant.
    """
    samples = _validate.array("samples", samples, real=True).astype(np.float64)
    _validate.shape("samples", samples, (None,), meaning="(length,)")
    noise_snr = _validate.real_number("noise_snr", noise_snr, minimum=-60, maximum=120)
    lookahead = _validate.integer("lookahead", lookahead, minimum=0)
    train_share = _validate.real_number("train_share", train_share, above=0, maximum=0.99)
    start = int(train_share * samples.size)
    if start - lookahead < 64 or samples.size - start - lookahead < 16:
        raise ValueError(
            f"samples has length {samples.size}, of which {start} are for training; a lookahead of "
            f"{lookahead} needs at least {64 + lookahead} there and {16 + lookahead} beyond"
        )
    # by a power of two, which rounds nothing: squares of very large or small samples stay in range
    exponent = int(np.frexp(np.abs(samples).max())[1])
    unit = np.ldexp(samples, -exponent)
    mean = unit[:start].mean()
    scale = unit[:start].std()
    clean = unit - mean
    if scale <= 1e-12 or np.sqrt(np.mean(clean[start:] ** 2)) <= 1e-12:
        raise ValueError(
            "samples is constant over its training part, or at that part's mean over the rest; "
            "there is no signal"
        )
    sigma = 10.0 ** (-noise_snr / 20)
    return Task(clean / scale, sigma, start, lookahead, *np.ldexp([mean, scale], exponent).tolist())


def snr(clean, error):
    """``10 log10(sum clean^2 / sum error^2)`` in dB, the clean signal about its training mean.

    Parameters
    ----------
    clean, error : ndarray
        Of shapes that broadcast against each other; draws of noise come first.

    Returns
    -------
    float
        Infinity where the error is zero; else minus infinity where the signal is.

    Raises
    ------
    ValueError
        If the shapes do not fit or a value is not finite.
    """
    clean = _validate.array("clean", clean, real=True)
    error = _validate.array("error", error, real=True)
    if _validate.broadcast(clean=clean, error=error) != error.shape:
        raise ValueError(f"clean has shape {clean.shape}; it must fit that of error, {error.shape}")
    clean = np.broadcast_to(clean, error.shape)
    signal, noise = (_decibels(a) for a in (clean, error))
    return float(signal - noise) if noise > -np.inf else float("inf")


def _decibels(a):
    """``10 log10 sum a^2``, of numbers of any size."""
    a = np.asarray(a, np.float64)
    _, exponent = np.frexp(np.max(np.abs(a), initial=0))
    power = float(np.sum(np.square(np.ldexp(a, -exponent))))
    return 10 * np.log10(power) + 20 * int(exponent) * np.log10(2) if power > 0 else -np.inf


def compare(
    samples,
    *,
    name="signal",
    rate=None,
    noise_snr=5.0,
    lookahead=None,
    model="diagonal",
    seed=0,
    draws=32,
    progress=None,
    **training,
):
    """Train the model on one channel, fit the other methods, evaluate all on the same unseen noise.

    Parameters
    ----------
    samples : array_like
        ``(length,)``, real: the clean signal.
    name : str
        What to call it.
    rate : float or None
        Samples per second, for the figure's axes and continuous parameters.
    noise_snr : float
        See `prepare`.
    lookahead : int, optional
        See `prepare`. None: 0 for causal methods, and a deep model sees the whole signal.
    model : {"diagonal", "deep"}
        The latter beside a diagonal SSM with the settings that it has by itself.
    seed : int or sequence of int
        Of all random numbers.
    draws : int
        Draws of noise to evaluate on, at least 2.
    progress : callable or None
        ``progress(epochs_done, loss)``, while training.
    **training
        Options of `trained_filter.train` or `deep_filter.train`; `MODELS` lists them.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    _validate.one_of("model", model, tuple(MODELS))
    for option, value in training.items():
        if option not in MODELS[model]:
            raise ValueError(
                f"{option} is {_validate.show(value)}; it does not go with model={model!r}"
            )
    causal = lookahead is not None
    task = prepare(samples, noise_snr=noise_snr, lookahead=lookahead if causal else 0)
    draws = _validate.integer("draws", draws, minimum=2)
    if rate is not None:
        rate = _validate.real_number("rate", rate, above=0)
    # streams of their own, so that another training leaves the unseen noise as it was
    for_model, for_fits, unseen, for_deep = np.random.default_rng(seed).spawn(4)
    if model == "deep":
        peers = [trained_filter.train(task, rate=rate, rng=for_model)]
        train, own = deep_filter.train, {"causal": causal, "rng": for_deep}
        # compiled before the clock starts
        deep_filter.train(
            task, causal=causal, rng=np.random.default_rng(0), **(training | {"epochs": 1})
        )
    else:
        peers, train, own = [], trained_filter.train, {"rate": rate, "rng": for_model}
    clock = time.perf_counter()
    trained = train(task, progress=progress, **own, **training)
    seconds = time.perf_counter() - clock

    clean = task.clean[: task.start]
    count = max(1, min(FIT_DRAWS, FIT_SAMPLES // clean.size))
    noisy = clean + task.sigma * for_fits.standard_normal((count, clean.size))
    methods = [peer.fit(clean, noisy, task.lookahead) for peer in filters.available()]
    methods += [*peers, trained]

    held_out = slice(task.start, task.clean.size - task.lookahead)
    before = np.empty((draws, held_out.stop - held_out.start))
    after = {method.name: np.empty_like(before) for method in methods}
    for draw in range(draws):
        noisy = task.clean + task.sigma * unseen.standard_normal(task.clean.size)
        before[draw] = (noisy - task.clean)[held_out]
        for method in methods:
            restored = method(noisy)
            after[method.name][draw] = (restored - task.clean)[held_out]
    target = task.clean[held_out]
    snr_in = snr(target, before)
    scores = [_score(method, target, after[method.name], snr_in) for method in methods]
    return Comparison(
        name=name,
        rate=rate,
        noise_snr=float(noise_snr),
        snr_in=snr_in,
        scores=tuple(sorted(scores, key=lambda score: -score.snr)),
        method=trained.name,
        model=trained.model,
        offset=task.mean,
        scale=task.scale / trained.gain,
        losses=trained.losses,
        initial_A_bar=getattr(trained, "initial_A_bar", None),
        halvings=getattr(trained, "halvings", 0),
        start=task.start,
        lookahead=task.lookahead,
        clean=task.mean + task.scale * task.clean,
        noisy=task.mean + task.scale * noisy,
        restored=task.mean + task.scale * restored,  # the model is the last method
        training_seconds=seconds,
    )


def _score(method, target, errors, snr_in):
    each = [snr(target, error) for error in errors]
    total = snr(target, errors)
    return Score(
        method.name, method.causal, method.settings, total, total - snr_in, float(np.std(each))
    )
