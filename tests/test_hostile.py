"""What hostile input once did: one test a fault that tests/fuzz has found."""

import numpy as np
import pytest
from conftest import complex_normal

from ssm_manual import gradcheck, hippo, training
from ssm_manual.layers import S4, S4D, DenseSSM, Embedding, GatedBlock, Linear
from ssm_manual.models import (
    DiagonalSSM,
    LinearRegression,
    RecordingFilter,
    SequenceModel,
    look_inside,
)
from ssm_manual.ops import (
    binary_cross_entropy,
    cauchy,
    causal,
    dense_ssm,
    embedding,
    glu,
    kernels,
    layer_norm,
    loss,
    lstm,
    pool,
    scan,
    ssm,
    vandermonde,
)
from ssm_manual.tasks import filters, free_run, memory, previous_bit, seasonal, sentinel, sinusoids

A = np.array([[0.5 + 0.1j, 0.2 - 0.3j]])
u = np.linspace(-1, 1, 5).reshape(1, 1, 5)


def with_axes(a, n):
    return a.reshape((1,) * (n - a.ndim) + a.shape)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: scan.scan(with_axes(A, 40), A, A, None, u), "A_bar"),
        (lambda: causal.causal(u, with_axes(u, 33)), "K"),
        (lambda: binary_cross_entropy.binary_cross_entropy(with_axes(u, 33), u), "logits"),
    ],
)
def test_too_many_axes(call, name):
    """NumPy broadcasts 32 axes and raised RuntimeError beyond."""
    with pytest.raises(ValueError, match=rf"{name} has \d+ axes; it must have at most 32"):
        call()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda n: Linear(n, 2, rng=np.random.default_rng(0)), "features_in"),
        (lambda n: S4D(n, 2, rng=np.random.default_rng(0)), "features"),
        (lambda n: S4(2, n, rng=np.random.default_rng(0)), "modes"),
        (lambda n: hippo.legs(n), "N"),
        (lambda n: vandermonde.kernel(A, A, A, n), "length"),
        (lambda n: memory.delayed(np.random.default_rng(0), 1, 5, 1, cycles=n), "cycles"),
        (lambda n: memory.previous_bit(np.random.default_rng(0), 1, n), "length"),
    ],
)
@pytest.mark.parametrize("size", [2**62, 2**63, 10**400])
def test_sizes_have_an_end(call, name, size):
    """NumPy's message named no argument: "Maximum allowed dimension exceeded"."""
    with pytest.raises(ValueError, match=rf"{name} is 1?\d+.*; it must be at most"):
        call(size)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: layer_norm.layer_norm(u, np.ones(5), np.ones(5), eps=x), "eps"),
        (lambda x: training.SGD({"a": np.ones(2)}, lr=x), "lr"),
    ],
)
def test_integers_beyond_the_range_of_a_double(call, name):
    """Were an OverflowError."""
    with pytest.raises(ValueError, match=rf"{name} is 1000.*\.\.\.; it must be finite"):
        call(10**400)


def test_a_dtype_that_is_no_text():
    with pytest.raises(ValueError, match="dtype is"):
        Linear(1, 1, dtype="\ud800", rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda ids: embedding.embedding(ids, np.ones((3, 2))), "ids"),
        (lambda ids: pool.pool(np.ones((2, 1, 3)), lengths=ids), "lengths"),
        (
            lambda ids: lstm.lstm(
                np.ones((2, 1, 3)), None, None, np.ones((4, 1)), np.ones((4, 1)), None, lengths=ids
            ),
            "lengths",
        ),
        (
            lambda ids: Embedding(5, 2, rng=np.random.default_rng(0)).step(ids),
            "u_t",
        ),
        (lambda ids: training.accuracy(np.ones((2, 3)), ids), "labels"),
        (lambda ids: memory.one_hot(ids), "tokens"),
    ],
)
@pytest.mark.parametrize(
    "ids",
    [
        np.ma.array([1, 1], mask=[False, True]),  # the mask was ignored
        [[1], [1, 1]],
        [1.0, 1.0],
        [True, True],
    ],
    ids=["masked", "ragged", "float", "bool"],
)
def test_whole_numbers_in_disguise(call, name, ids):
    with pytest.raises(ValueError, match=rf"{name} is .*; it must be an array of integers"):
        call(ids)


def test_masked_exponents():
    with pytest.raises(ValueError, match="t is a masked array"):
        kernels.power(0.5, np.ma.array([1, 2], mask=[False, True]))


def test_a_list_of_itself():
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="A_bar"):
        dense_ssm.apply(endless, np.ones((1, 1, 1)), np.ones((1, 1, 1)), None, u[:, None])


def test_no_channels():
    """Was an error of reshape."""
    none = np.ones((0, 1, 2), complex)
    with pytest.raises(ValueError, match=r"P \(0, 1, 2\).*at least one channel"):
        cauchy.cauchy(A[0], none, A, A[0], A[0], 0.1, 4)


@pytest.mark.parametrize("layer", [S4D, S4])
def test_a_step_from_a_state_that_is_not_finite(layer):
    """Such a state, contiguous and of the layer's dtype, went through."""
    one = layer(1, 2, dtype="float64", rng=np.random.default_rng(0))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"state holds .* at index \(0, 0, 1\)"):
            one.step(np.ones((1, 1)), np.array([[[1.0, bad]]], complex))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_an_optimiser_refuses_a_gradient_that_is_not_finite(optimizer, bad):
    """One NaN made the parameter NaN."""
    params = {"a": np.ones(3)}
    one = getattr(training, optimizer)(params, lr=0.1)
    with pytest.raises(ValueError, match=r"grads\['a'\] holds .* at index \(1,\)"):
        one.step({"a": np.array([0.0, bad, 0.0])})
    assert np.array_equal(params["a"], np.ones(3))
    assert one.updates == 0


@pytest.mark.parametrize("bad", [[1.0], np.array([1, 2]), np.array(["a"]), None])
def test_clipping_wants_arrays(bad):
    with pytest.raises(ValueError, match=r"grads\['a'\] is"):
        training.clip_gradients({"a": bad}, 1.0)


HUGE = 1.7e308


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: causal.causal([HUGE, HUGE], [2.0, -2.0]), "y"),
        (lambda: scan.scan([[0.9 + 0.4j]], [[HUGE]], [[2.0 + 1j]], None, 3 * u), "y"),
        (lambda: ssm.apply([[1e200 + 1e200j]], [[1.0]], [[1.0]], None, np.ones((1, 1, 9))), "y"),
        (
            lambda: glu.glu_vjp(
                glu.glu_fwd(np.array([HUGE, -800.0]))[1],
                np.array([HUGE]),
            ),
            "grad_x",
        ),
    ],
)
def test_finite_numbers_give_no_nan(call, name):
    with pytest.raises(ValueError, match=rf"{name} would be NaN at index .*leave the range"):
        call()


def test_what_is_merely_too_large_is_infinite():
    """Without a warning."""
    assert loss.mse(np.array([1e200]), np.array([-1e200])) == np.inf


def test_a_gradient_check_takes_foreign_byte_order():
    def double(x):
        return 2 * x, None

    x = complex_normal(np.random.default_rng(0), 3)
    assert gradcheck.check_vjp(double, lambda _, g: (2 * g,), (x.astype(">c16"),))
    with pytest.raises(ValueError, match="names is 5"):
        gradcheck.check_registry(5)


def test_numbers_that_leave_the_range_on_the_way():
    with pytest.raises(ValueError, match="theta is 5e-324"):
        hippo.legt(2, theta=5e-324)
    model = DiagonalSSM(-1.0 * np.ones(1), 1.0, 1.0, dt=0.1, parameters="continuous")
    late = RecordingFilter(model, delay=2, rate=100.0)
    with pytest.raises(ValueError, match=r"rate is 1\.7e\+308"):
        late.resampled(1.7e308)


def test_least_squares_takes_what_becomes_an_array():
    class Duck:
        def __array__(self, dtype=None, copy=None):
            return np.eye(3)

    rate = LinearRegression.safe_rate(np.eye(3))
    assert LinearRegression.safe_rate(Duck()) == rate


def test_least_squares_near_the_end_of_the_range(rng):
    """Sums of y would overflow; the weights do not, and where they do, it is said."""
    X, y = rng.standard_normal((9, 2)), rng.standard_normal(9)
    plain = LinearRegression.least_squares(X, y, l2=0.1)
    huge = LinearRegression.least_squares(X, y * 2.0**1022, l2=0.1)
    np.testing.assert_allclose(
        huge.params["weights"] / 2.0**1022, plain.params["weights"], rtol=1e-13
    )
    np.testing.assert_allclose(huge.params["bias"] / 2.0**1022, plain.params["bias"], rtol=1e-13)
    with pytest.raises(ValueError, match="leaves the range of float64"):
        LinearRegression.least_squares(X / 1e9, y * 2.0**1022)


def test_what_draws_and_counts_has_a_bound(rng):
    with pytest.raises(ValueError, match="vocabulary is 18446744073709551615"):
        sentinel.sentinel(rng, 2, 9, np.uint64(2**64 - 1))
    for taps in (True, 0, 0.5):
        with pytest.raises(ValueError, match=f"taps is {taps}"):
            filters.LeastSquaresFIR(taps)
    with pytest.raises(ValueError, match="t has 40 axes"):
        kernels.power(0.5, np.ones((1,) * 40, int))


def test_single_precision_beside_a_bound_of_double_precision():
    values = 300 + np.arange(60, dtype=np.float32)
    assert seasonal.carried(values).tolist() == values.tolist()  # and no warning of a cast


def test_a_projection_near_the_end_of_the_range():
    """Linear in its input: a power of two taken out and put back leaves every bit."""
    u = np.linspace(-1, 1, 16)
    for measure, window in (("legs", None), ("legt", 8.0)):
        c = hippo.project(measure, u, 6, window=window)
        huge = hippo.project(measure, u * 2.0**1020, 6, window=window)
        assert np.array_equal(huge, c * 2.0**1020)


def test_seasons_without_a_mask():
    with pytest.raises(ValueError, match="values is a masked array"):
        seasonal.carried(np.ma.array([1.0, 2.0], mask=[False, True]))
    with pytest.raises(ValueError, match="values is"):
        seasonal.carried([[1.0], [1.0, 2.0]])


def test_values_in_single_precision_are_taken():
    single = seasonal.carried(
        np.array([316, np.nan, 317], np.float32)
    )  # compared with 1e100, in silence
    assert single.tolist() == [316.0, 316.0, 317.0]


# ---------------------------------------------------------------------- beyond the range, quietly


def test_sums_beyond_the_range_are_infinite_without_a_warning():
    """Each warned, of an overflow in a sum, a product or a cast."""
    huge = np.full((3, 2, 4), 1.6e308)
    assert np.isposinf(pool.pool(huge)).all()
    _, kept = embedding.embedding_fwd([[0, 0]], np.ones((1, 2), np.float32))
    assert np.isposinf(embedding.embedding_vjp(kept, np.full((1, 2, 2), 3e38, np.float32))[1]).all()
    _, kept = embedding.positions_fwd(huge, np.ones((2, 4)))
    assert np.isposinf(embedding.positions_vjp(kept, huge)[1]).all()
    assert np.isposinf(embedding.positions(huge, huge[0])).all()
    model = DiagonalSSM([0.5], 1.0, 0.5)
    with pytest.raises(training.DivergenceError):
        model.fit(np.ones(4), np.array([0, 1e200, 0, 0]), epochs=2)
    steps = free_run.Autoregression(np.cos(np.arange(20.0)).reshape(1, 20, 1), 2)
    assert steps.error(huge, 2) == np.inf
    with pytest.raises(ValueError, match="forecast would be NaN"):
        steps.free_run(HUGE * np.array([1, -1, 1, -1.0]).reshape(1, 4, 1), 2, 9)


def test_sums_that_would_be_no_number():
    """Items of different lengths are summed piece by piece: one piece inf, the other -inf."""
    layer = DenseSSM(1, 1, 1, dtype="float64", rng=np.random.default_rng(0))
    _, _, cache = layer.forward(np.ones((2, 1, 6)), lengths=[6, 4])
    grad_y = np.full((2, 1, 6), 1.6e308)
    grad_y[1, :, 4:] = 0
    grad_y[1] *= -1
    with pytest.raises(ValueError, match=r"grad_B would be NaN at index .*leave the range"):
        layer.backward(grad_y, cache)


def test_sums_of_two_directions_and_of_an_output_and_its_bias(rng):
    """They are infinite, without a warning; and where they would be NaN, an error."""
    both = S4D(1, 1, bidirectional=True, dtype="float64", rng=rng)
    for name, value in {"D": 1, "C": 0.1, "C_reverse": 0.1}.items():
        both.params[name][...] = value
    both.params["log_dt"][...] = 0
    _, _, cache = both.forward(np.zeros((1, 1, 1)))
    assert np.isinf(both.backward(np.full((1, 1, 1), HUGE), cache)[0]).all()
    layer = DenseSSM(1, 1, 1, dtype="float64", rng=rng)
    layer.params["bias"][...] = 1.6e308
    layer.params["C"][...] = layer.params["D"][...] = 0
    layer.params["D"][...] = 1.6e308
    assert np.isposinf(layer.forward(np.ones((1, 1, 2)))[0]).all()
    table = Embedding(2, 1, longest=6, dtype="float64", rng=rng)
    _, _, cache = table.forward([[0] * 4] * 4, np.array([0, 0, 1, 1]))
    grad_y = np.array([1.6e308, 1.6e308, -1.6e308, -1.6e308]).reshape(4, 1, 1).repeat(4, axis=2)
    with pytest.raises(ValueError, match="grad_positions would be NaN"):
        table.backward(grad_y, cache)


@pytest.mark.parametrize("size", [1e-200, 1e-160, 1.0, 1e165])
def test_dependent_features_of_any_size(size, rng):
    """Two columns are one: the weights are shared, whatever the unit."""
    X, y = rng.standard_normal((9, 2)), rng.standard_normal(9)
    X = np.column_stack([X, X[:, 0]])
    plain = LinearRegression.least_squares(X, y).params
    found = LinearRegression.least_squares(size * X, y).params
    np.testing.assert_allclose(found["weights"] * size, plain["weights"], rtol=1e-10)
    np.testing.assert_allclose(plain["weights"][0], plain["weights"][2], rtol=1e-10)
    np.testing.assert_allclose(found["bias"], plain["bias"], rtol=1e-10)


def test_the_gradient_of_padding_must_be_finite_too(rng):
    block = GatedBlock(2, 3, rng=rng, dtype="float64")
    _, _, cache = block.forward(np.ones((1, 2, 5)), lengths=[3])
    grad_y = np.zeros((1, 2, 5))
    grad_y[..., 4] = np.inf
    with pytest.raises(ValueError, match="grad_y holds inf"):
        block.backward(grad_y, cache)


@pytest.mark.parametrize("standardise", [True, False])
def test_features_near_the_end_of_the_range(standardise, rng):
    """A power of two taken out of each column leaves every bit of what is learnt from it."""
    X, y = rng.standard_normal((7, 2)), rng.standard_normal(7)
    big = X * 2.0**1000
    if not standardise:
        with pytest.raises(ValueError, match=r"X holds numbers of .*; its squares must fit"):
            LinearRegression.safe_rate(big)
        return
    rate = LinearRegression.safe_rate(X, standardise=True)
    assert LinearRegression.safe_rate(big, standardise=True) == rate
    fitted = [LinearRegression.least_squares(a, y, standardise=True).params for a in (X, big)]
    assert np.array_equal(fitted[0]["weights"], fitted[1]["weights"] * 2.0**1000)
    assert fitted[0]["bias"] == fitted[1]["bias"]
    subnormal = LinearRegression.least_squares([[0.0], [5e-324]], [0.0, 1.0], standardise=True)
    assert subnormal.params["weights"] == 0  # as of a constant column
    model = LinearRegression(np.zeros(2), 0.0)
    assert model.fit(big, y, epochs=50, standardise=True).losses[-1] < np.mean(y**2)


# -------------------------------------------------------------------------------- what is no such


def test_numbers_of_an_option_have_an_end(rng):
    with pytest.raises(ValueError, match="deviation is 1e"):
        Embedding(3, 2, deviation=1e38, rng=rng)  # in single precision
    with pytest.raises(ValueError, match=r"step is 1000.*\.\.\."):
        training.warmup_cosine(10**400, warmup=1, total=2)
    with pytest.raises(ValueError, match="noise is 1e"):
        sinusoids.sequences(rng, 1, 4, noise=1e308)
    with pytest.raises(ValueError, match="l2 is 1e"):
        LinearRegression(np.zeros(1, np.float32), np.float32(0)).loss_and_grads(
            np.ones((1, 1), np.float32), np.ones(1, np.float32), l2=1e300
        )
    single = DiagonalSSM(np.array([0.5], np.complex64), 1.0, 0.5)
    with pytest.raises(ValueError, match=r"radius is 1e\+308; it must be below 1"):
        single.fit(np.float32(u[0]), np.float32(u[0]), epochs=1, radius=1e308)
    with pytest.raises(ValueError, match="epochs is 9223372036854775808"):
        DiagonalSSM([0.5], 1.0, 0.5).fit(u[0], u[0], epochs=2**63)
    with pytest.raises(ValueError, match=r"sequences is \d+, length is \d+: \d+ numbers in all"):
        memory.previous_bit(rng, 2**36, 2**36)
    grads = {"a": np.ones(2, np.float32)}
    assert training.clip_elementwise(grads, 1e300) == 0
    assert grads["a"].tolist() == [1, 1]


def test_what_is_given_is_of_another_kind():
    with pytest.raises(ValueError, match="ids has 40 axes; it must have at most 31"):
        embedding.embedding(np.zeros((1,) * 40, int), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"logits has shape \(3, 0\); it must not be empty"):
        training.accuracy(np.ones((3, 0)), np.zeros(3, int))
    for bad in ([[1], [1, 1]], object(), np.ma.ones(2), 1j * np.ones(2)):
        with pytest.raises(ValueError, match=r"(?s)bits is .*; it must be an array of real"):
            previous_bit.bits_right(np.ones(2), bad)
    stopping = training.EarlyStopping(np.uint8(3), np.str_("validation_loss"))
    assert type(stopping.patience) is int
    assert type(stopping.metric) is str

    def double(x):
        return 2 * x, None

    for bad, message in (
        ([[1.0], [1.0, 2.0]], "x is .* of type list"),
        (np.ma.ones(2), "x is a masked array"),
    ):
        with pytest.raises(ValueError, match=message):
            gradcheck.check_vjp(double, lambda _, g: (2 * g,), (bad,))
    inside = look_inside(
        SequenceModel(1, 2, 1, 1, modes=2, rng=np.random.default_rng(0)),
        np.ones((1, 3, 1), np.float32),
        lengths=np.array([2], ">i2"),
    )
    assert inside.lengths.dtype == np.int64
