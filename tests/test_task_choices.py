"""How the denoising task chooses, pools and restarts."""

import numpy as np
import pytest
from scipy import signal

from ssm_manual.models import DiagonalSSM
from ssm_manual.tasks import denoising, filters, trained_filter
from ssm_manual.training import History


def wave(length=400):
    t = np.arange(length)
    return 3 + 2 * np.sin(0.11 * t) + np.sin(0.037 * t + 1)


def test_rates_fall_from_stage_to_stage(monkeypatch):
    seen = []
    fit = DiagonalSSM.fit
    monkeypatch.setattr(
        DiagonalSSM, "fit", lambda self, *a, **o: seen.append(o["rates"]) or fit(self, *a, **o)
    )
    trained_filter.train(denoising.prepare(wave()), epochs=30, rng=np.random.default_rng(0))
    for rates, (_, factor) in zip(seen, trained_filter.STAGES, strict=True):
        assert rates == {n: pytest.approx(factor * r) for n, r in trained_filter.RATES.items()}


def test_training_that_leaves_its_basin_begins_anew(monkeypatch):
    calls = []

    def fit(self, *args, epochs, rates, **options):
        calls.append(rates["A"])
        slope = 1 if len(calls) <= len(trained_filter.STAGES) else -1
        return History(np.exp(slope * np.linspace(0, 1, epochs) + slope * len(calls)), "finished")

    monkeypatch.setattr(DiagonalSSM, "fit", fit)
    trained = trained_filter.train(
        denoising.prepare(wave()), epochs=100, rng=np.random.default_rng(0)
    )
    assert trained.halvings == 1
    assert calls[3] == calls[0] / 2


def test_a_score_pools_its_draws(rng):
    class Method:
        name, causal, settings = "m", True, "s"

    target = rng.standard_normal(50)
    errors = np.array([[0.1], [0.3]]) * rng.standard_normal((2, 50))
    score = denoising._score(Method, target, errors, 4.0)
    assert score.snr == denoising.snr(target, errors)
    assert score.gain == score.snr - 4.0
    assert score.spread == pytest.approx(np.std([denoising.snr(target, e) for e in errors]))
    assert abs(score.snr - np.mean([denoising.snr(target, e) for e in errors])) > 1


def test_settings_are_judged_on_all_that_is_known():
    """Noise in the last samples alone, or in all draws but the first, makes the window wide."""
    clean, noisy = np.zeros(200), np.zeros((4, 200))
    noisy[:, -10:] = np.resize([1.0, -1.0], 10)
    assert filters.MovingAverage().fit(clean, noisy, 0).setting[0] > 1
    noisy[:, :] = 0
    noisy[1:] = np.resize([1.0, -1.0], 200)
    assert filters.MovingAverage().fit(clean, noisy, 0).setting[0] > 1


def test_butterworth_uses_the_lookahead(rng):
    clean = np.sin(0.05 * np.arange(400))
    noisy = clean + 0.3 * rng.standard_normal((4, 400))
    assert filters.Butterworth().fit(clean, noisy, 6).delay > 0
    both = filters.Butterworth(zero_phase=True).fit(clean, noisy, 6)
    order, cutoff = both.setting
    sections = signal.butter(order, 2 * cutoff, output="sos")
    expected = signal.sosfiltfilt(sections, noisy[0], padlen=3 * order + 3)
    np.testing.assert_allclose(both(noisy[0]), expected)
    assert both.delay == 0


def test_wavelet_shrinkage_by_its_formula(rng):
    pywt = pytest.importorskip("pywt")
    method = filters.WaveletShrinkage()
    method.setting, method.delay = ("db2", 2, 0.5), 0
    noisy = rng.standard_normal(128)
    a, *details = pywt.wavedec(noisy, "db2", level=2)
    threshold = 0.5 * np.median(np.abs(details[-1])) / 0.6745 * np.sqrt(2 * np.log(128))
    expected = pywt.waverec([a, *(pywt.threshold(d, threshold, "soft") for d in details)], "db2")
    np.testing.assert_allclose(method(noisy), expected[:128])
