"""The filters that a person would use: what they compute and choose, how far ahead they look."""

import sys

import numpy as np
import pytest
from scipy import signal

from ssm_manual.tasks import filters

LENGTH, DRAWS, SIGMA = 400, 12, 0.5


def smooth(rng, length=LENGTH):
    """A signal of mean zero and power one that a low-pass filter can tell from noise."""
    walk = signal.lfilter([1], [1, -1.8, 0.85], rng.standard_normal(length + 200))[200:]
    walk -= walk.mean()
    return walk / walk.std()


@pytest.fixture
def clean(rng):
    return smooth(rng)


@pytest.fixture
def noisy(clean, rng):
    return clean + SIGMA * rng.standard_normal((DRAWS, LENGTH))


def make(name):
    return next(f for f in filters.available() if f.name == name)


NAMES = [f.name for f in filters.available()]


def training_error(method, clean, noisy, lookahead):
    """The mean error over what is known: the last ``lookahead`` samples wait for more."""
    end = clean.size - lookahead
    return np.mean((method(noisy) - clean)[..., :end] ** 2)


def test_wavelets_only_where_they_are_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pywt", None)
    without = [f.name for f in filters.available()]
    assert "wavelet shrinkage" not in without
    assert [name for name in NAMES if name != "wavelet shrinkage"] == without


@pytest.mark.parametrize("lookahead", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_every_filter_removes_noise(name, lookahead, clean, noisy, rng):
    method = make(name)
    assert method.fit(clean, noisy, lookahead) is method
    unseen = clean + SIGMA * rng.standard_normal((DRAWS, LENGTH))
    assert training_error(method, clean, unseen, lookahead) < 0.8 * SIGMA**2
    assert method.settings


@pytest.mark.parametrize("lookahead", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_causal_filters_see_as_far_as_the_lookahead(name, lookahead, clean, noisy, rng):
    method = make(name).fit(clean, noisy, lookahead)
    here = 200
    other = noisy.copy()
    other[:, here + lookahead + 1 :] += rng.standard_normal(other[:, here + lookahead + 1 :].shape)
    same = np.abs(method(noisy) - method(other))[:, : here + 1].max() == 0
    assert same == method.causal


@pytest.mark.parametrize("lookahead", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_filtered_one_by_one_and_left_alone(name, lookahead, clean, noisy):
    method = make(name).fit(clean, noisy, lookahead)
    before = noisy.copy()
    together = method(noisy)
    np.testing.assert_array_equal(noisy, before)
    assert together.shape == noisy.shape
    for row, restored in zip(noisy, together):
        np.testing.assert_allclose(method(row), restored, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lookahead", [0, 3, 11])
def test_fir_solves_the_least_squares_problem(clean, noisy, lookahead):
    taps = 7
    method = filters.LeastSquaresFIR(taps).fit(clean, noisy, lookahead)
    rows, targets = [], []
    for u in noisy:
        for t in range(lookahead, LENGTH):
            rows.append([u[t - j] if t >= j else 0.0 for j in range(taps)])
            targets.append(clean[t - lookahead])
    h = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0]
    np.testing.assert_allclose(method.coefficients, h, rtol=1e-9)
    restored = method(noisy[0])
    for t in (0, 100, LENGTH - lookahead - 1):
        seen = noisy[0, max(0, t + lookahead - taps + 1) : t + lookahead + 1][::-1]
        assert restored[t] == pytest.approx(h[: seen.size] @ seen)


def test_fir_in_blocks_of_rows(rng):
    clean = smooth(rng, 40_000)
    noisy = clean[np.newaxis] + SIGMA * rng.standard_normal((1, 40_000))
    method = filters.LeastSquaresFIR(3).fit(clean, noisy, 1)
    u = np.concatenate([np.zeros(2), noisy[0]])
    rows = np.stack([u[2:], u[1:-1], u[:-2]], axis=1)[1:]
    h = np.linalg.lstsq(rows, clean[:-1], rcond=None)[0]
    np.testing.assert_allclose(method.coefficients, h, rtol=1e-9)


def test_fir_without_noise_and_with_few_sinusoids_is_finite():
    clean = np.sin(0.1 * np.arange(300))
    method = filters.LeastSquaresFIR().fit(clean, clean[np.newaxis], 0)
    np.testing.assert_allclose(method(clean), clean, atol=1e-6)


def test_fir_is_at_least_as_good_as_any_short_average_in_training(clean, noisy):
    fir = filters.LeastSquaresFIR().fit(clean, noisy, 4)
    average = filters.MovingAverage().fit(clean, noisy, 4)
    assert average.setting[0] <= 64
    assert training_error(fir, clean, noisy, 4) <= training_error(average, clean, noisy, 4)


@pytest.mark.parametrize("lookahead", [0, 2, 20])
def test_moving_average_is_the_mean_of_its_window(clean, noisy, lookahead):
    method = filters.MovingAverage().fit(clean, noisy, lookahead)
    (width,) = method.setting
    delay = min(lookahead, (width - 1) // 2)
    u = np.concatenate([np.zeros(width), noisy[0]])
    for t in (0, 50, LENGTH - delay - 1):
        last = width + t + delay
        assert method(noisy[0])[t] == pytest.approx(u[last - width + 1 : last + 1].mean())


@pytest.mark.parametrize("name", ["moving average", "Savitzky-Golay", "Butterworth"])
def test_the_best_candidate_is_chosen(name, clean, noisy):
    lookahead = 3
    method = make(name).fit(clean, noisy, lookahead)
    used = noisy[: filters.TRIAL_DRAWS]
    best = training_error(method, clean, used, lookahead)
    chosen = method.setting, method.delay
    for setting in method._candidates(LENGTH, lookahead):
        for delay in method._delays(setting, lookahead):
            method.setting, method.delay = setting, delay
            assert training_error(method, clean, used, lookahead) >= best or chosen == (
                setting,
                delay,
            )


def test_butterworth_is_scipys(clean, noisy):
    method = filters.Butterworth().fit(clean, noisy, 6)
    order, cutoff = method.setting
    plain = signal.sosfilt(signal.butter(order, 2 * cutoff, output="sos"), noisy[0])
    np.testing.assert_allclose(method(noisy[0])[: LENGTH - method.delay], plain[method.delay :])
    assert 0 <= method.delay <= 6


def test_wiener_with_the_noise_given(clean, noisy):
    method = filters.Wiener().fit(clean, noisy, 0)
    width, given = method.setting
    power = np.mean((noisy[: filters.TRIAL_DRAWS] - clean) ** 2) if given else None
    np.testing.assert_allclose(method(noisy[0]), signal.wiener(noisy[0], width, power))


def test_wavelet_shrinkage_keeps_what_is_above_the_threshold():
    pywt = pytest.importorskip("pywt")
    method = filters.WaveletShrinkage()
    method.setting, method.delay = ("db4", 3, 1.0), 0
    smooth_ = np.cos(2 * np.pi * np.arange(256) / 256)
    np.testing.assert_allclose(method(smooth_), smooth_, atol=0.02)
    # shrinking moves every detail by the threshold at most
    noisy_ = np.random.default_rng(0).standard_normal(256)
    before, after = (pywt.wavedec(x, "db4", level=3) for x in (noisy_, method(noisy_)))
    sigma = np.median(np.abs(before[-1])) / 0.6745
    assert np.sum(after[-1] ** 2) < 0.1 * np.sum(before[-1] ** 2)
    assert 0.7 < sigma < 1.4


def test_odd_lengths_and_short_signals(rng):
    for length in (65, 90):
        clean = smooth(rng, length)
        noisy = clean + SIGMA * rng.standard_normal((2, length))
        for method in filters.available():
            method.fit(clean, noisy, 1)
            for other in (length - 7, length + 30):
                restored = method(rng.standard_normal(other))
                assert restored.shape == (other,)
                assert np.isfinite(restored).all()


def test_what_is_no_delay_and_no_number_of_taps():
    for delay in (-1, 0.5, True):
        with pytest.raises(ValueError, match=f"delay is {delay}"):
            filters.advance(np.ones(3), delay)
    with pytest.raises(ValueError, match="y has dtype <U3; it must be"):
        filters.advance("abc", 1)
    for taps in (0, 0.5, True):
        with pytest.raises(ValueError, match=f"taps is {taps}"):
            filters.LeastSquaresFIR(taps)
