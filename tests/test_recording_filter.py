"""A model over a recording: units, delay, blocks, channels and sampling rates."""

import numpy as np
import pytest

from ssm_manual.models import DiagonalSSM, RecordingFilter

BLOCKS = [1, 7, 64, 4096]


def make(rng, *, channels=1, dtype="float32", parameters="discrete", rate=100.0, delay=3):
    dt = None if parameters == "discrete" else 1 / rate
    models = [
        DiagonalSSM.initial(6, rng=rng, parameters=parameters, dt=dt, dtype=dtype)
        for _ in range(channels)
    ]
    offset = np.linspace(-2.0, 5.0, channels)
    scale = np.linspace(0.5, 3.0, channels)
    return RecordingFilter(models, offset=offset, scale=scale, delay=delay, rate=rate)


def in_blocks(filter, x, size):
    stream = filter.stream(x.shape[0])
    parts = [stream.push(x[:, at : at + size]) for at in range(0, x.shape[1], size)]
    return np.concatenate([*parts, stream.finish()], axis=1)


def by_definition(filter, x):
    """Sample by sample, in the recording's units, each channel by itself."""
    rows = []
    for channel, row in enumerate(x):
        index = channel if filter.channels > 1 else 0
        model, offset, scale = (
            filter.models[index],
            filter.offset[index, 0],
            filter.scale[index, 0],
        )
        u = ((row - offset) / scale).astype(filter.dtype)
        u = np.concatenate([u, np.zeros(filter.delay, u.dtype)])
        state, y = None, []
        for u_t in u:
            y_t, state = model.step(u_t, state)
            y.append(float(y_t))
        rows.append(offset + scale * np.array(y[filter.delay :]))
    return np.array(rows)


@pytest.mark.parametrize("delay", [0, 1, 5, 200])
@pytest.mark.parametrize("channels", [1, 2])
def test_it_is_the_model_in_the_units_of_the_recording(rng, channels, delay):
    filter = make(rng, channels=channels, dtype="float64", delay=delay)
    x = rng.standard_normal((2, 101)) * 3 + 1
    expected = by_definition(filter, x)
    assert filter(x).shape == x.shape
    assert np.abs(filter(x) - expected).max() < 1e-12 * np.abs(expected).max()


def test_a_large_offset_costs_a_single_precision_model_no_digits(rng):
    """The offset goes out and comes back in double precision, whatever the model's is."""
    x = rng.standard_normal((1, 200))
    model = DiagonalSSM(np.float32([0.5]), np.float32([1.0]), np.float32([0.25]))
    far, near = RecordingFilter(model, offset=1e7), RecordingFilter(model)
    assert np.abs(far(x + 1e7) - 1e7 - near(x)).max() < 1e-6


@pytest.mark.parametrize("size", BLOCKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_cutting_into_blocks_gives_the_same_bits(rng, size, dtype):
    filter = make(rng, dtype=dtype)
    x = rng.standard_normal((2, 4500 if size > 1 else 300))
    assert in_blocks(filter, x, size).tobytes() == filter(x).tobytes()


def test_stereo_is_two_mono_runs(rng):
    filter = make(rng)
    x = rng.standard_normal((2, 999))
    mono = np.concatenate([filter(x[:1]), filter(x[1:])])
    assert filter(x).tobytes() == mono.tobytes()


def test_the_delay_is_removed(rng):
    """A model that hands its input on three samples later: nothing changes but the end."""
    delay_line = DiagonalSSM(np.exp(2j * np.pi * np.arange(4) / 4) * 1e-3, 1.0, 1.0)
    a = delay_line.params["A"]
    # K_t = sum C a^t is zero for t = 0, 1, 2 and one for t = 3
    delay_line.params["C"][...] = np.linalg.solve(
        np.vander(a, 4, increasing=True).T, [0, 0, 0, 0.5]
    )
    filter = RecordingFilter(delay_line, delay=3, scale=2.0, offset=7.0)
    x = rng.standard_normal((1, 50))
    assert np.abs(filter(x) - x).max() < 1e-6


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4])
def test_recordings_shorter_than_the_delay(rng, length):
    x = rng.standard_normal((1, length))
    filter = make(rng, delay=3)
    assert filter(x).shape == (1, length)
    assert in_blocks(filter, x, 1).tobytes() == filter(x).tobytes()


def test_a_constant_at_the_offset_is_silence(rng):
    filter = make(rng, channels=2)
    x = np.repeat(filter.offset, 40, axis=1)
    assert np.array_equal(filter(x), x)


# --------------------------------------------------------------------------------- sampling rates


def test_at_another_rate_a_slow_signal_is_filtered_alike(rng):
    filter = make(rng, parameters="continuous", dtype="float64", rate=100.0, delay=4)
    filter.offset[...] = 0
    finer = filter.resampled(400.0)
    assert (finer.rate, finer.delay) == (400.0, 16)
    assert filter.rate == 100.0

    def at(rate):
        t = np.arange(int(8 * rate)) / rate
        return (np.sin(2 * np.pi * 0.7 * t) + 0.5 * np.sin(2 * np.pi * 1.9 * t))[np.newaxis]

    coarse, fine = filter(at(100)), finer(at(400))[:, ::4]
    middle = slice(400, 760)  # away from the switching on
    error = np.abs(coarse - fine)[:, middle].max() / np.abs(coarse).max()
    # without the new dt it is another filter altogether
    wrong = np.abs(coarse - filter(at(400))[:, ::4])[:, middle].max() / np.abs(coarse).max()
    assert error < 0.04
    assert wrong > 10 * error


def test_the_same_rate_changes_nothing(rng):
    filter = make(rng, parameters="continuous")
    x = rng.standard_normal((1, 60))
    assert np.array_equal(filter.resampled(100)(x), filter(x))


def test_the_delay_goes_to_the_nearest_sample(rng):
    filter = make(rng, parameters="continuous", delay=8)  # at 100 Hz
    assert [filter.resampled(rate).delay for rate in (120, 115, 5)] == [10, 9, 0]


def test_every_channel_is_discretised_again(rng):
    filter = make(rng, channels=2, parameters="continuous")
    before = [model.params["log_dt"].copy() for model in filter.models]
    for old, new in zip(before, filter.resampled(200.0).models):
        assert np.abs(old - new.params["log_dt"] - np.log(2)).max() < 1e-6
    for old, model in zip(before, filter.models):
        assert np.array_equal(old, model.params["log_dt"])


def test_discrete_poles_belong_to_one_rate(rng):
    with pytest.raises(ValueError, match="train it with continuous parameters"):
        make(rng).resampled(200.0)


def test_an_unknown_rate_cannot_be_changed(rng):
    filter = RecordingFilter(make(rng, parameters="continuous").models)
    with pytest.raises(ValueError, match="does not know the sampling rate"):
        filter.resampled(200.0)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "models is"),
        ({"models": [1]}, "models is"),
        ({"models": DiagonalSSM([0.5], 1.0, 1.0, real=False)}, "real output"),
        (
            {
                "models": [
                    DiagonalSSM([0.5], 1.0, 1.0),
                    DiagonalSSM(np.array([0.5], "f4"), 1.0, 1.0),
                ]
            },
            "one precision",
        ),
        ({"scale": 0.0}, "positive"),
        ({"scale": -1.0}, "positive"),
        ({"scale": [1.0, 1.0]}, "scale has shape"),
        ({"offset": np.nan}, "finite"),
        ({"delay": -1}, "delay"),
        ({"delay": 1.5}, "delay"),
        ({"rate": 0}, "rate"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"models": DiagonalSSM([0.5], 1.0, 1.0)} | change
    with pytest.raises(ValueError, match=message):
        RecordingFilter(**arguments)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros(5), "shape"),
        (np.zeros((3, 5)), "shape"),
        (np.full((2, 5), np.nan), "finite"),
        (np.zeros((2, 5), complex), "real"),
        (np.zeros((2, 5), int), "dtype"),
        (np.full((2, 5), 1e300), "cannot hold"),
    ],
)
def test_a_bad_block_leaves_the_stream_where_it_stood(rng, block, message):
    x = rng.standard_normal((2, 20))
    filter = make(rng)
    stream = filter.stream(2)
    first = stream.push(x[:, :9])
    with pytest.raises(ValueError, match=message):
        stream.push(block)
    rest = [stream.push(x[:, 9:]), stream.finish()]
    assert np.concatenate([first, *rest], axis=1).tobytes() == filter(x).tobytes()


def test_the_number_of_channels_must_fit(rng):
    assert make(rng).stream(5).channels == 5
    with pytest.raises(ValueError, match="for each of 3 channels"):
        make(rng, channels=3).stream(2)


def test_a_finished_stream_takes_no_more(rng):
    stream = make(rng).stream(1)
    stream.finish()
    for act in (stream.finish, lambda: stream.push(np.zeros((1, 1)))):
        with pytest.raises(ValueError, match="finished"):
            act()
