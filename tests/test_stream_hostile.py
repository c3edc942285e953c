"""A stream's state from anywhere; numbers that leave the range on their way through a filter."""

import numpy as np
import pytest

from ssm_manual.models import DiagonalSSM, LinearRegression, RecordingFilter

#: Samples before the state is taken: one border, and some beyond it.
BEFORE = 70


@pytest.fixture
def filter():
    return RecordingFilter(DiagonalSSM([0.5, 0.25 + 0.5j], 1.0, [1.0, 2.0 - 1j], 0.1), delay=2)


@pytest.fixture
def block(rng):
    return rng.standard_normal((1, BEFORE))


@pytest.fixture
def state(filter, block):
    stream = filter.stream()
    stream.push(block)
    return stream.state()


def test_a_state_of_another_byte_order(filter, state, block):
    other = {name: a.astype(a.dtype.newbyteorder(">")) for name, a in state.items()}
    expected = filter.stream(state=state).push(block)
    assert np.array_equal(filter.stream(state=other).push(block), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: np.ones(2)}, "state has the key 1; it must be a text"),
        (
            {"models.0.x": [[1.0, 2.0], [3.0]]},
            r"state\['models\.0\.x'\] is \[\[1.0, 2.0\], \[3.0\]\]",
        ),
        ({"models.0.x": np.ma.ones((1, 2), complex)}, r"state\['models\.0\.x'\] is a masked array"),
        ({"models.0.x": np.full((1, 2), np.nan, complex)}, r"models\.0\.x'\] holds .*nan"),
        ({"models." + "9" * 5000 + ".x": np.ones(2)}, "it must be as from Stream.state"),
        ({"models.00.x": np.ones(2)}, "it must be as from Stream.state"),
        ({"skip": 10**400}, r"state\['skip'\] is .*; it must be an integer"),
        ({"skip": 2.0}, r"state\['skip'\] is 2.0; it must be an integer"),
    ],
)
def test_a_state_that_is_none(change, message, filter, state):
    with pytest.raises(ValueError, match=message):
        filter.stream(state=state | change)


def test_no_nan_comes_out_and_the_stream_stands_where_it_stood(filter, block):
    stream, other = filter.stream(), filter.stream()
    assert np.array_equal(stream.push(block[:, :20]), other.push(block[:, :20]))
    huge = np.full((1, BEFORE), 1.7e308)
    # without the compiler, NumPy's scalars warn
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="restored would be NaN"):
        stream.push(huge)
    before, after = other.state(), stream.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert np.array_equal(stream.push(block), other.push(block))
    assert np.array_equal(stream.finish(), other.finish())


def test_predictions_beyond_the_range():
    model = LinearRegression(np.tile([2.0, -2.0], 32), 0.0)
    X = np.zeros((1, 64))
    X[0, 0] = 1.7e308
    assert model.predict(X).tolist() == [np.inf]
    with pytest.raises(ValueError, match="p would be NaN"):
        model.predict(np.full((1, 64), 1.7e308))
