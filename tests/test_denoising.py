"""The denoising protocol, training with fresh noise, and the comparison."""

import numpy as np
import pytest

from ssm_manual.models import DiagonalSSM
from ssm_manual.tasks import denoising, signals, trained_filter
from ssm_manual.training import DivergenceError


def wave(length=400):
    t = np.arange(length)
    return 3 + 2 * np.sin(0.11 * t) + np.sin(0.037 * t + 1)


def compare(samples=None, **options):
    options = {"epochs": 60, "poles": 4, "draws": 3, **options}
    return denoising.compare(wave() if samples is None else samples, **options)


# ------------------------------------------------------------------------------------ the protocol


def test_mean_and_scale_come_from_the_training_part():
    samples = wave()
    task = denoising.prepare(samples, noise_snr=10, lookahead=3)
    assert (task.start, task.lookahead) == (280, 3)
    assert task.clean[:280].mean() == pytest.approx(0, abs=1e-12)
    assert task.clean[:280].var() == pytest.approx(1)
    np.testing.assert_allclose(task.mean + task.scale * task.clean, samples)
    assert task.sigma**2 == pytest.approx(0.1)  # 10 dB below power one
    other = samples.copy()
    other[280:] = 50 * np.random.default_rng(0).standard_normal(120)
    changed = denoising.prepare(other, noise_snr=10, lookahead=3)
    assert (changed.mean, changed.scale, changed.sigma) == (task.mean, task.scale, task.sigma)
    np.testing.assert_array_equal(changed.clean[:280], task.clean[:280])


@pytest.mark.parametrize("scale", [1e-200, 1e200, 1e300])
def test_very_small_and_large_samples(scale):
    task = denoising.prepare(scale * wave())
    np.testing.assert_allclose(task.clean, denoising.prepare(wave()).clean, rtol=1e-9)
    assert task.scale / scale == pytest.approx(denoising.prepare(wave()).scale)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (wave(), {"noise_snr": np.nan}, "noise_snr is nan"),
        (wave(), {"noise_snr": 200.0}, "noise_snr is 200.0; it must be finite and at least -60"),
        (wave(), {"lookahead": -1}, "lookahead is -1; it must be at least 0"),
        (wave(), {"lookahead": 2.0}, "lookahead is 2.0; it must be an integer"),
        (wave(), {"lookahead": 110}, "a lookahead of 110 needs at least 174 there and 126 beyond"),
        (wave(60), {}, "samples has length 60, of which 42 are for training"),
        (wave(), {"train_share": 0.0}, "train_share is 0.0"),
        (np.ones(400), {}, "samples is constant"),
        (np.concatenate([np.ones(300), wave(100)]), {}, "samples is constant"),
        (np.ones((2, 400)), {}, r"samples has shape \(2, 400\); it must be \(any,\)"),
        (wave() * 1j, {}, "samples has dtype complex128; it must be real"),
        (np.where(np.arange(400) == 7, np.nan, wave()), {}, r"samples holds nan at index \(7,\)"),
    ],
)
def test_prepare_refuses(samples, options, message):
    with pytest.raises(ValueError, match=message):
        denoising.prepare(samples, **options)


def test_snr():
    clean = np.array([3.0, 0.0, 4.0])
    assert denoising.snr(clean, 0.1 * clean[::-1]) == pytest.approx(20)
    # draws are pooled: the mean of the errors' powers, not of the decibels
    errors = np.stack([0.1 * clean, 0.3 * clean])
    assert denoising.snr(clean, errors) == pytest.approx(-10 * np.log10((0.01 + 0.09) / 2))
    assert denoising.snr(clean, 0 * clean) == denoising.snr(0 * clean, 0 * clean) == np.inf
    assert denoising.snr(0 * clean, clean) == -np.inf
    for size in (1e-200, 1e200):  # whose squares no format holds
        assert denoising.snr(size * clean, 0.1 * size * clean) == pytest.approx(20)
        assert denoising.snr(clean, size * clean) == pytest.approx(-20 * np.log10(size))


# ---------------------------------------------------------------------------------------- training


def epochs_of(task, count, seed=0):
    batches = trained_filter._batches(task, 0.5, np.dtype("float64"), np.random.default_rng(seed))
    return batches(0, count)


def test_every_epoch_has_fresh_noise_and_a_delayed_target():
    task = denoising.prepare(wave(2000), noise_snr=3, lookahead=7)
    u, target = epochs_of(task, 50)
    assert u.shape == target.shape == (50, 1400)
    noise = u / 0.5 - task.clean[:1400]
    assert np.std(noise) == pytest.approx(task.sigma, rel=0.02)
    overlap = noise @ noise.T / 1400 / task.sigma**2
    assert np.abs(overlap - np.eye(50)).max() < 0.2  # no row repeats another
    assert (target[:, :7] == 0).all()
    np.testing.assert_allclose(target[:, 7:], np.tile(0.5 * task.clean[:1393], (50, 1)))


def test_long_recordings_are_trained_on_in_stretches(monkeypatch):
    monkeypatch.setattr(trained_filter, "LONGEST_EPOCH", 100)
    task = denoising.prepare(np.random.default_rng(1).standard_normal(2000), lookahead=2)
    task = task._replace(sigma=0.0)
    u, target = epochs_of(task, 60)
    assert u.shape == (60, 100)
    starts = set()
    for row, wanted in zip(u, target):
        (start,) = np.flatnonzero(0.5 * task.clean[:1400] == row[0])
        starts.add(int(start))
        np.testing.assert_array_equal(row, 0.5 * task.clean[start : start + 100])
        np.testing.assert_array_equal(wanted[2:], row[:-2])
    assert len(starts) > 50
    assert max(starts) <= 1300


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", trained_filter.MODES)
def test_every_mode_trains_every_parameter(mode, dtype):
    task = denoising.prepare(wave())
    trained = trained_filter.train(
        task, poles=3, mode=mode, epochs=40, dtype=dtype, rng=np.random.default_rng(0)
    )
    first = DiagonalSSM.initial(3, rng=np.random.default_rng(0), dtype=dtype)
    assert trained.model.dtype == np.dtype(dtype)
    assert trained.losses.shape == (40,)
    assert trained.losses[-5:].mean() < 0.8 * trained.losses[:5].mean()
    np.testing.assert_array_equal(trained.initial_A_bar, first.A_bar)
    for name, value in trained.model.params.items():
        assert (value != first.params[name]).all(), name


def test_losses_are_relative_to_the_clean_power():
    """With C near zero and D zero the first loss is the clean power itself, at any noise."""
    for noise_snr in (-10, 5, 40):
        task = denoising.prepare(wave(), noise_snr=noise_snr)
        trained = trained_filter.train(task, epochs=1, rng=np.random.default_rng(0))
        assert trained.losses[0] == pytest.approx(1, rel=0.2)


def test_poles_remember_no_longer_than_a_quarter_of_the_training_part():
    task = denoising.prepare(wave())
    trained = trained_filter.train(task, poles=16, epochs=20, rng=np.random.default_rng(0))
    assert np.abs(trained.initial_A_bar).max() > np.exp(-4 / 280)
    assert np.abs(trained.model.A_bar).max() <= np.exp(-4 / 280) * (1 + 1e-6)


def test_progress_counts_through_all_stages():
    seen = []
    task = denoising.prepare(wave())
    trained = trained_filter.train(
        task, epochs=30, rng=np.random.default_rng(0), progress=lambda *args: seen.append(args)
    )
    done = [epoch for epoch, _ in seen]
    assert done == sorted(done)
    assert done[-1] == 30
    assert seen[-1][1] == pytest.approx(trained.losses[-1], rel=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 5000])
def test_stages_make_all_epochs(epochs):
    stages = trained_filter._stages(epochs)
    assert sum(count for _, count, _ in stages) == epochs
    assert [first for first, _, _ in stages] == list(
        np.cumsum([0, *(count for _, count, _ in stages[:-1])])
    )


def test_divergence_halves_the_rates_and_begins_anew(monkeypatch):
    rates = {name: 300 * rate for name, rate in trained_filter.RATES.items()}
    monkeypatch.setattr(trained_filter, "RATES", rates)
    task = denoising.prepare(wave())
    trained = trained_filter.train(task, epochs=200, rng=np.random.default_rng(0))
    assert trained.halvings > 0
    assert np.isfinite(trained.losses).all()
    assert trained.losses[-20:].mean() < trained.losses[:20].mean()


def test_training_that_always_diverges_says_so(monkeypatch):
    def fit(self, *args, **options):
        raise DivergenceError(3, np.inf, "A", np.ones(3))

    monkeypatch.setattr(DiagonalSSM, "fit", fit)
    with pytest.raises(ValueError, match="mode is 'bptt'; with it training fails here"):
        trained_filter.train(denoising.prepare(wave()), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poles": 0}, "poles is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"mode": "BPTT"}, "mode is 'BPTT'; it must be one of 'bptt'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"window": 5}, "window is 5; it goes with mode='windowed' alone"),
        ({"window": 0, "mode": "windowed"}, "window is 0"),
    ],
)
def test_train_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        trained_filter.train(denoising.prepare(wave()), rng=np.random.default_rng(0), **options)


def trained_model(lookahead=0):
    task = denoising.prepare(wave(), lookahead=lookahead)
    return trained_filter.train(task, poles=4, epochs=20, rng=np.random.default_rng(0))


@pytest.mark.parametrize("lookahead", [0, 6])
def test_the_trained_filter_is_the_delayed_convolution_with_its_kernel(lookahead, rng):
    trained = trained_model(lookahead)
    noisy = rng.standard_normal(300)
    K = trained.model.kernel(300).astype(float)
    K[0] += trained.model.params["D"]
    y = np.convolve(noisy, K)[:300]
    np.testing.assert_allclose(trained(noisy)[: 300 - lookahead], y[lookahead:], atol=1e-5)


def test_the_trained_filter_carries_its_state_from_block_to_block(monkeypatch, rng):
    trained = trained_model(2)
    noisy = rng.standard_normal(300)
    whole = trained(noisy)
    monkeypatch.setattr(trained_filter, "BLOCK", 41)
    np.testing.assert_allclose(trained(noisy), whole, atol=1e-6)


# -------------------------------------------------------------------------------------- comparison


def test_compare_holds_what_table_and_figure_need():
    result = compare(name="a wave", rate=100, lookahead=5, noise_snr=4)
    names = [score.method for score in result.scores]
    assert {denoising.METHOD, "least-squares FIR", "Wiener (scipy)"} < set(names)
    assert [s.snr for s in result.scores] == sorted((s.snr for s in result.scores), reverse=True)
    for score in result.scores:
        assert score.gain == pytest.approx(score.snr - result.snr_in)
        assert score.spread > 0
    assert (result.name, result.rate, result.start, result.lookahead) == ("a wave", 100, 280, 5)
    np.testing.assert_allclose(result.clean, wave(), atol=1e-12)
    assert result.losses.shape == (60,)
    assert result.score() is next(s for s in result.scores if s.method == denoising.METHOD)
    # the figure's draw is restored about as well as all draws are
    part = slice(280, 395)
    error = (result.restored - result.clean)[part]
    power = np.mean((result.clean[part] - result.clean[:280].mean()) ** 2)
    assert 10 * np.log10(power / np.mean(error**2)) == pytest.approx(result.score().snr, abs=1.5)
    noise = (result.noisy - result.clean) / np.std(result.clean[:280])
    assert 20 * np.log10(1 / np.std(noise)) == pytest.approx(4, abs=0.7)


def test_the_unseen_noise_does_not_depend_on_the_training():
    one, other = compare(epochs=20), compare(epochs=50, poles=6)
    assert one.snr_in == other.snr_in
    for score in one.scores:
        if score.method != denoising.METHOD:
            assert score == other.score(score.method)


def test_the_seed_decides_everything():
    one, same, other = compare(seed=3), compare(seed=3), compare(seed=[3, 1])
    assert one.scores == same.scores
    np.testing.assert_array_equal(one.losses, same.losses)
    assert one.snr_in != other.snr_in


def test_scale_and_offset_of_the_recording_do_not_matter():
    one, other = compare(wave()), compare(-70 + 1e-3 * wave())
    for score in one.scores:
        assert other.score(score.method).snr == pytest.approx(score.snr, abs=0.01)


def test_the_held_out_part_is_not_used_for_training():
    changed = wave()
    changed[280:] = np.random.default_rng(0).standard_normal(120)
    one, other = compare(), compare(changed)
    np.testing.assert_array_equal(one.losses, other.losses)
    for score in one.scores:
        assert other.score(score.method).settings == score.settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 1}, "draws is 1"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"epochs": -1}, "epochs is -1"),
    ],
)
def test_compare_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        compare(**options)


@pytest.mark.parametrize("lookahead", [0, 8])
def test_ecg_is_restored_as_well_as_any_causal_linear_filter_can(lookahead):
    """16 trained poles come within 0.25 dB of 64 solved taps; the moving average stays behind."""
    pytest.importorskip("pywt")
    result = denoising.compare(signals.ecg().samples[0], lookahead=lookahead)
    snr = result.score().snr
    assert snr > result.score("least-squares FIR").snr - 0.25
    assert snr > result.score("moving average").snr + 0.2
    assert snr > (9.5 if lookahead == 0 else 12.5)


def test_resonances_beat_64_taps_on_sinusoids():
    samples = signals.sinusoids(1000, rng=np.random.default_rng(0)).samples[0]
    result = denoising.compare(samples)
    assert result.score().snr > result.score("least-squares FIR").snr + 0.5
