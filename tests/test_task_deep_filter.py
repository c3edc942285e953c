"""Blocks of S4D as a denoiser: its training data, its two directions, the command, keeping it."""

import json
import os

import numpy as np
import pytest

from ssm_manual import _plot_deep, checkpoint
from ssm_manual.cli import main
from ssm_manual.models import RecordingFilter, SequenceModel
from ssm_manual.tasks import deep_filter, denoising, rules, signals


def wave(length=400):
    t = np.arange(length)
    return 3 + 2 * np.sin(0.11 * t) + np.sin(0.037 * t + 1)


def trained(lookahead=None, epochs=5, seed=0, **options):
    task = denoising.prepare(wave(), lookahead=lookahead or 0)
    rng = np.random.default_rng(seed)
    causal = lookahead is not None
    return deep_filter.train(task, causal=causal, epochs=epochs, rng=rng, **options)


def stretches(clean, sigma=0.0, lookahead=0, gain=1.0):
    data = deep_filter.Stretches(clean, sigma, lookahead, 25, gain, np.dtype("float64"))
    u, target = data.draw(np.random.default_rng(0))
    return u[..., 0], target[..., 0]


# ----------------------------------------------------------------------------------- training data


def test_stretches_are_pieces_of_the_signal_at_other_speeds_strengths_and_levels():
    """On a ramp every stretch is a line: its slope is speed times strength, within their ranges."""
    ramp = np.arange(2000.0)
    u, target = stretches(ramp, gain=0.5)
    assert u.shape == (16, 256)
    np.testing.assert_array_equal(u, target)  # no noise, no lookahead
    slopes = np.diff(u, axis=1) / 0.5
    np.testing.assert_allclose(slopes, np.repeat(slopes[:, :1], 255, axis=1), rtol=1e-9)
    assert (slopes[:, 0] <= 1.2 * np.exp(0.3)).all()
    assert (slopes[:, 0] >= np.exp(-0.3) / 1.2).all()
    assert np.ptp(slopes[:, 0]) > 0.2
    assert np.ptp(u[:, 0]) > 200  # they begin all over the signal
    assert u.min() > -0.2
    assert u.max() < 0.5 * (np.exp(0.3) * 2000 + 0.2)


def test_a_constant_signal_shows_strength_and_level():
    u, _ = stretches(np.full(600, 2.0))
    assert (np.ptp(u, axis=1) < 1e-12).all()
    assert ((2 * np.exp(-0.3) - 0.2 <= u) & (u <= 2 * np.exp(0.3) + 0.2)).all()
    zero, _ = stretches(np.zeros(600))
    assert 0.1 < np.abs(zero).max() <= 0.2


def test_a_sinusoid_shows_the_speed():
    u, _ = stretches(np.sin(0.1 * np.arange(3000)))
    d = np.diff(u, axis=1)  # without its level; d_{t-1} + d_{t+1} = 2 cos(w) d_t
    cosine = np.sum((d[:, :-2] + d[:, 2:]) * d[:, 1:-1], axis=1) / np.sum(d[:, 1:-1] ** 2, axis=1)
    speed = np.arccos(cosine / 2) / 0.1
    assert 1 / 1.2 - 0.01 < speed.min() < 0.95
    assert 1.05 < speed.max() < 1.2 + 0.01


def test_noise_is_fresh_and_the_target_late():
    u, target = stretches(np.sin(0.05 * np.arange(3000)), sigma=0.7, lookahead=9, gain=0.5)
    assert u.shape == (16, 265)
    assert (target[:, :9] == 0).all()
    noise = u[:, :-9] / 0.5 - target[:, 9:] / 0.5
    assert np.std(noise) == pytest.approx(0.7, rel=0.05)
    overlap = noise @ noise.T / noise.shape[1] / 0.49
    assert np.abs(overlap - np.eye(16)).max() < 0.35


def test_a_short_training_part_gives_shorter_stretches():
    u, _ = stretches(np.arange(100.0))
    assert u.shape == (16, 100)


@pytest.mark.parametrize("updates", [1, 10, 25])
def test_an_epoch_is_ten_updates_and_the_last_what_remains(updates):
    data = deep_filter.Stretches(wave(), 0.1, 0, updates, 1.0, np.dtype("float32"))
    counts = [len(list(data(e, np.random.default_rng(e)))) for e in range(-(-updates // 10))]
    assert sum(counts) == updates
    assert max(counts) <= 10


# ---------------------------------------------------------------------------------------- training


def test_it_learns_and_counts_every_update():
    seen = []
    filter = trained(epochs=45, progress=lambda *args: seen.append(args))
    assert [done for done, _ in seen] == [10, 20, 30, 40, 45]
    assert seen[-1][1] == pytest.approx(filter.losses[-1])
    assert filter.losses.shape == (45,)
    assert filter.losses[-5:].mean() < 0.4 * filter.losses[:5].mean()
    assert "45 updates" in filter.settings


def test_the_seed_decides_everything():
    one, same, other = trained(), trained(), trained(seed=1)
    np.testing.assert_array_equal(one.losses, same.losses)
    assert (one.losses != other.losses).all()
    for name, value in one.model.params.items():
        np.testing.assert_array_equal(value, same.model.params[name])


@pytest.mark.parametrize("lookahead", [None, 4])
def test_training_sees_nothing_of_the_held_out_part(lookahead):
    task = denoising.prepare(wave(), lookahead=lookahead or 0)
    other = task._replace(clean=np.concatenate([task.clean[: task.start], np.full(120, 9.0)]))
    options = {"causal": lookahead is not None, "epochs": 5}
    one, same = (
        deep_filter.train(t, rng=np.random.default_rng(0), **options) for t in (task, other)
    )
    np.testing.assert_array_equal(one.losses, same.losses)
    for name, value in one.model.params.items():
        np.testing.assert_array_equal(value, same.model.params[name])


@pytest.mark.parametrize("lookahead", [0, 4])
def test_a_causal_model_looks_no_further_ahead_than_it_may(lookahead, rng, monkeypatch):
    filter = trained(lookahead)
    noisy = rng.standard_normal(300)
    changed = noisy.copy()
    changed[200:] += 1
    before, after = filter(noisy), filter(changed)
    first = np.flatnonzero(before != after)[0]
    assert 200 - lookahead <= first <= 201 - lookahead
    monkeypatch.setattr(deep_filter, "BLOCK", 41)
    np.testing.assert_allclose(filter(noisy), before, atol=1e-4)


def test_without_a_lookahead_it_sees_both_directions(rng):
    filter = trained()
    noisy = rng.standard_normal((2, 300))
    changed = noisy.copy()
    changed[:, 200] += 1
    moved = filter(noisy) != filter(changed)
    assert moved[:, 190:200].any(axis=1).all()
    assert moved[:, 201:211].any(axis=1).all()
    np.testing.assert_allclose(filter(noisy)[1], filter(noisy[1]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"causal": 1}, "causal is 1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; it must be one of 'adamw', 'descent'"),
        ({"lr": 0.0}, "lr is 0.0"),
    ],
)
def test_train_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        deep_filter.train(denoising.prepare(wave()), **{"rng": np.random.default_rng(0), **options})


# -------------------------------------------------------------------------------------- comparison


def test_the_other_methods_are_what_they_are_without_it():
    plain = denoising.compare(wave(), draws=3, seed=2)
    deep = denoising.compare(wave(), draws=3, seed=2, model="deep", epochs=4)
    assert (deep.method, plain.method) == ("deep SSM", "diagonal SSM")
    assert deep.snr_in == plain.snr_in
    for score in plain.scores:
        assert score == deep.score(score.method)
    assert not deep.score().causal
    assert deep.losses.shape == (4,)
    assert deep.initial_A_bar is None
    late = denoising.compare(wave(), draws=3, lookahead=0, model="deep", epochs=4)
    assert late.score().causal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "deeper"}, "model is 'deeper'"),
        ({"model": "deep", "poles": 4}, "poles is 4; it does not go with model='deep'"),
        ({"model": "deep", "mode": "bptt"}, "mode is 'bptt'; it does not go with model='deep'"),
        ({"pole": 4}, "pole is 4; it does not go with model='diagonal'"),
    ],
)
def test_compare_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        denoising.compare(wave(), **options)


# ------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "wave.npy", np.stack([wave(), 50 * wave()[::-1]]))
    return tmp_path


QUICK = ["denoise", "--model", "deep", "--quick", "--epochs", "4", "--signal", "wave.npy"]


@pytest.mark.parametrize("lookahead", [None, 3])
def test_a_saved_model_restores_what_the_command_restored(lookahead, folder, capsys):
    ahead = [] if lookahead is None else ["--lookahead", str(lookahead)]
    argv = ["--json", "a.json", "--figure", "a.png", "--save", "a.safetensors", *ahead]
    assert main([*QUICK, *argv]) == 0
    out = capsys.readouterr().out
    assert "diagonal SSM" in out
    assert any(line.startswith("*  deep SSM") for line in out.splitlines())
    data = json.loads((folder / "a.json").read_text())
    assert "poles" not in data["options"]
    assert data["options"]["lookahead"] == lookahead
    assert [len(channel["losses"]["values"]) for channel in data["channels"]] == [4, 4]
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    filter = checkpoint.load("a.safetensors", expected=RecordingFilter)
    assert (filter.channels, filter.delay) == (2, lookahead or 0)
    assert filter.causal == (lookahead is not None)
    results = [
        denoising.compare(row, seed=[0, i], draws=8, lookahead=lookahead, model="deep", epochs=4)
        for i, row in enumerate(np.load("wave.npy"))
    ]
    noisy = np.array([result.noisy for result in results])
    expected = np.array([result.restored for result in results])
    np.testing.assert_allclose(filter(noisy), expected, atol=1e-4 * np.abs(expected).max())
    # block by block, by the other command
    np.save("noisy.npy", noisy)
    argv = ["a.safetensors", "noisy.npy", "--out", "restored.npy", "--block", "37"]
    assert main(["apply", *argv]) == 0
    restored = np.load("restored.npy")
    np.testing.assert_allclose(restored, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--poles", "4"], "--poles goes with --model diagonal, not with deep"),
        (["--mode", "bptt"], "--mode goes with --model diagonal, not with deep"),
        (["--window", "5"], "--window goes with --model diagonal, not with deep"),
        (["--parameters", "discrete"], "--parameters goes with --model diagonal, not with deep"),
        (["--lookahead", "-1"], "--lookahead is -1; it must be at least 0"),
        (["--lookahead", "270"], "a lookahead of 270 needs at least"),
        (["--epochs", "0"], "--epochs is 0; it must be at least 1"),
        (["--noise-snr", "nan"], "--noise-snr is nan"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_training(argv, message, folder, capsys):
    assert main([*QUICK, "--json", "a.json", *argv]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(folder) == ["wave.npy"]


# ------------------------------------------------------------------------------- keeping the model


def model(seed=0, **options):
    options = {"task": "regression", "modes": 2, "norm": "none", "dropout": 0.0, **options}
    return SequenceModel(1, 4, options.pop("d_output", 1), 1, rng=np.random.default_rng(seed),
                         **options)  # fmt: skip


@pytest.mark.parametrize("both", [False, True])
def test_a_recording_filter_of_deep_models(both, tmp_path, rng):
    models = [model(seed, layer_options={"bidirectional": both}) for seed in (0, 1)]
    delay = 0 if both else 3
    filter = RecordingFilter(models, offset=[1.0, -2.0], scale=[2.0, 0.5], delay=delay, rate=8.0)
    assert filter.deep
    assert filter.causal == (not both)
    samples = rng.standard_normal((2, 50))
    u = (samples - filter.offset) / filter.scale
    u = np.concatenate([u, np.zeros((2, delay))], axis=1).astype(np.float32)
    y = np.array([m.forward(row[None, :, None])[0][0, :, 0] for m, row in zip(models, u)])
    expected = filter.offset + filter.scale * y[:, delay:]
    np.testing.assert_allclose(filter(samples), expected, atol=1e-5)
    stream = filter.stream(2)
    pieces = [stream.push(samples[:, a:b]) for a, b in [(0, 20), (20, 20), (20, 50)]]
    assert sum(piece.shape[1] for piece in pieces) == (0 if both else 47)
    np.testing.assert_allclose(np.hstack([*pieces, stream.finish()]), expected, atol=1e-5)
    checkpoint.save(tmp_path / "m.safetensors", filter)
    same = checkpoint.load(tmp_path / "m.safetensors", expected=RecordingFilter)
    np.testing.assert_array_equal(same(samples), filter(samples))
    with pytest.raises(ValueError, match="deep; it serves the sampling rate of its training"):
        filter.resampled(4.0)


@pytest.mark.parametrize("wrong", [{"d_output": 2}, {"task": "classification"}])
def test_a_recording_filter_refuses_what_is_no_filter(wrong):
    with pytest.raises(ValueError, match="SequenceModel of one feature with one output"):
        RecordingFilter(model(**wrong))


# ------------------------------------------------------------------------------ what it looks like


def test_what_it_weighs_is_the_derivative(rng):
    small = model(dtype="float64", layer_options={"bidirectional": True})
    u, step = rng.standard_normal(12), 1e-6
    weights = _plot_deep.sensitivity(small, u, 5)
    for s in (0, 5, 11):
        ahead, back = u.copy(), u.copy()
        ahead[s] += step
        back[s] -= step
        y = [small.forward(x[None, :, None])[0][0, 5, 0] for x in (ahead, back)]
        assert weights[s] == pytest.approx((y[0] - y[1]) / (2 * step), rel=1e-6, abs=1e-9)


def test_what_it_weighs_ends_where_its_sight_does():
    result = denoising.compare(wave(), lookahead=6, draws=2, model="deep", epochs=2)
    figure = _plot_deep.deep_denoising(result, slice(result.start, result.clean.size - 6))
    ax = next(ax for ax in figure.axes if ax.get_title() == "what it weighs")
    for line in ax.lines[:2]:
        at, weights = line.get_data()
        assert at[weights != 0].max() == 6


def test_no_score_lies_beyond_the_axis():
    """Where noise drowns the signal, every SNR is negative."""
    for noise_snr in (-30, 5):
        result = denoising.compare(wave(), noise_snr=noise_snr, draws=2, model="deep", epochs=2)
        figure = _plot_deep.deep_denoising(result, slice(result.start, result.clean.size))
        ax = next(ax for ax in figure.axes if ax.get_title().startswith("all methods"))
        low, high = ax.get_xlim()
        bars = [bar.get_width() for bar in ax.patches]
        assert low <= min(0, *bars, result.snr_in)
        assert max(0, *bars, result.snr_in) <= high
    assert min(bars) < result.snr_in  # hardly trained


# -------------------------------------------------------------------------- one rule beside another


def test_the_choice_is_made_within_the_training_part():
    samples = wave()
    changed = samples.copy()
    changed[280:] = np.random.default_rng(0).standard_normal(120)
    one, other = rules.inner(samples), rules.inner(changed)
    assert (one.start, one.clean.size) == (168, 280)
    np.testing.assert_array_equal(one.clean, other.clean)


def test_both_rules_start_alike_on_the_same_data():
    task = denoising.prepare(wave())
    for name, updates in [("diagonal", 60), ("deep", 12)]:
        runs = [
            rules.train(task, name, rule, lr=0.01, updates=updates, draws=2) for rule in rules.RULES
        ]
        adamw, descent = runs
        assert adamw.losses[0] == descent.losses[0]
        assert adamw.losses[-1] != descent.losses[-1]
        assert adamw.losses[-5:].mean() < adamw.losses[:5].mean()
        assert (adamw.memory, descent.memory) == (2 * adamw.parameters, 0)
        assert (np.diff(adamw.seconds) >= 0).all()
        assert adamw.steps[-1] == updates


def test_a_rule_is_scored_on_the_held_out_part(monkeypatch):
    seen = []
    monkeypatch.setattr(denoising, "snr", lambda *args: seen.append(args) or 0.0)
    task = denoising.prepare(wave(), lookahead=4)
    rules.train(task, "diagonal", "adamw", updates=2, draws=3)
    clean, errors = seen[-1]
    np.testing.assert_array_equal(clean, task.clean[280:396])
    assert errors.shape == (3, 116)


def test_the_diagonal_descent_is_that_of_the_trained_filter():
    """Written out with an optimiser, it takes the same steps as the fused loop."""
    from ssm_manual.tasks import trained_filter

    task = denoising.prepare(wave())
    rate = trained_filter.RATES["B"]
    run = rules.train(task, "diagonal", "descent", lr=rate, updates=50, draws=1)
    fused = trained_filter.train(task, epochs=50, rng=np.random.default_rng([0, 1]))
    assert np.abs(run.losses / fused.losses - 1).max() < 0.3


def test_a_rate_that_diverges_loses(monkeypatch):
    monkeypatch.setitem(rules.CANDIDATES, ("diagonal", "descent"), (0.03, 300.0))
    sound, lost = rules.validation(wave(), "diagonal", "descent", updates=200)
    assert sound[1] > 0
    assert lost == (300.0, -np.inf)


def test_chosen_rates_are_among_the_candidates():
    for pair, lr in rules.RATES.items():
        assert lr in rules.CANDIDATES[pair]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "rnn"}, "model is 'rnn'"),
        ({"rule": "sgd"}, "rule is 'sgd'"),
        ({"updates": 0}, "updates is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
    ],
)
def test_rules_refuses(given, message):
    arguments = {"model": "deep", "rule": "adamw", **given}
    with pytest.raises(ValueError, match=message):
        rules.train(denoising.prepare(wave()), **arguments)
    if "lr" not in given:
        with pytest.raises(ValueError, match=message):
            list(rules.validation(wave(), **arguments))


@pytest.mark.slow
@pytest.mark.parametrize("lookahead", [None, 8])
def test_ecg_is_restored_a_decibel_better_than_by_any_classical_method(lookahead):
    pytest.importorskip("pywt")
    samples = signals.ecg().samples[0]
    result = denoising.compare(samples, model="deep", lookahead=lookahead, seed=[0, 0])
    others = [score.snr for score in result.scores if score.method != result.method]
    assert result.score().snr > max(others) + 1
