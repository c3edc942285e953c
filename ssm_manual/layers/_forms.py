"""A layer in other forms: sample by sample, as arrays, as a real state-space system."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _step

#: Parameters with a real and an imaginary part.
COMPLEX = ("B", "C", "C_reverse", "P")


def step(layer, u_t, state):
    """`Layer.step`."""
    if layer.bidirectional:
        raise ValueError("a bidirectional layer needs the whole sequence: it has no step")
    C = layer.params["C"]
    u_t = _sample(layer, u_t)
    if state is None:
        state = np.zeros((u_t.shape[0], *C.shape), C.dtype)
    else:
        state = _state(C, state, u_t.shape[0])
    y, after = np.empty(u_t.shape, u_t.dtype), np.empty(state.shape, C.dtype)
    operator = layer._operator
    given = operator.parameters(layer)
    method, tables = layer._tables
    outcome = _step.STALE
    if method == layer.discretisation and tables.kept.dtype == u_t.dtype:
        outcome = operator.step(given, tables, u_t, state, y, after)
    if outcome == _step.STALE:
        # NaN differs from everything, itself too: tables of it would be stale again at once.
        _validate.arrays(**dict(zip(operator.PARAMETERS, given)))
        tables = operator.tables(layer)
        layer._tables = layer.discretisation, tables
        outcome = operator.step(given, tables, u_t, state, y, after)
    if outcome == _step.NOT_FINITE:
        _validate.array("u_t", u_t)  # says where
    if outcome == _step.UNSOUND:
        _validate.array("state", state)
        _validate.sound_values(y_t=y, state=after)
    return y, after


def _sample(layer, u_t):
    """``u_t`` checked, but for its values; the usual array passes at once."""
    D = layer.params["D"]
    if type(u_t) is np.ndarray and u_t.dtype == D.dtype and u_t.flags.carray:
        if u_t.ndim == 2 and u_t.shape[1] == D.size and u_t.shape[0]:
            return u_t
    else:
        u_t, _ = _validate.arrays(u_t=u_t, D=D, real=("u_t",), finite=False)
    _validate.shape("u_t", u_t, (-1, D.size), meaning="(batch, H)")
    return _validate.plain(u_t)


def _state(C, state, batch):
    """The state, checked for shape and dtype; for values only where `step` cannot have made it."""
    shape = (batch, *C.shape)
    if type(state) is np.ndarray and state.dtype == C.dtype and state.flags.carray:
        if state.shape == shape:
            return state
    else:
        state, _ = _validate.arrays(state=state, C=C)
        state = state.astype(C.dtype, copy=False)
    _validate.shape("state", state, shape, meaning="(batch, H, N)")
    return _validate.plain(state)


# ------------------------------------------------------------------------------------------ arrays


def checked(given, optional):
    """Arrays by name, what is left out left out: their precision and shapes, pairs made complex."""
    real = tuple(name for name in given if name not in COMPLEX)
    arrays = _validate.arrays(**given, real=real, optional=optional)
    arrays = {name: a for name, a in zip(given, arrays) if a is not None}
    _validate.shape("log_dt", arrays["log_dt"], (-1,), meaning="(H,)")
    H = arrays["log_dt"].size
    for name in COMPLEX:
        if name in arrays:
            arrays[name] = _from_pairs(name, arrays[name], H)
    N = arrays["C"].shape[1]
    for name, a in arrays.items():
        _validate.shape(name, a, shape_of(name, H, N))
    return arrays


def shape_of(name, H, N):
    """The shape of a parameter; None for the rank of P."""
    return (H,) if name in ("log_dt", "D") else (H, None, N) if name == "P" else (H, N)


def _from_pairs(name, a, H):
    axes, meaning = ((H, -1, -1), "H, rank, N") if name == "P" else ((H, -1), "H, N")
    if a.dtype.kind == "c":
        return _validate.shape(name, a, axes, meaning=f"({meaning})")
    _validate.shape(name, a, (*axes, 2), meaning=f"({meaning}, 2), real and imaginary parts")
    return a[..., 0] + 1j * a[..., 1]


def to_arrays(layer, *, with_B):
    """Copies of the parameters by name, complex ones as real pairs; B also if it is not trained."""
    arrays = {name: np.array(a) for name, a in layer.params.items()}
    if with_B:
        arrays["B"] = layer.B
    for name in COMPLEX:
        if name in arrays:
            z = arrays[name]
            arrays[name] = np.stack([z.real, z.imag], axis=-1)
    return arrays


def from_checkpoint(cls, hyperparameters, arrays, check):
    """`Layer.from_checkpoint`."""
    allowed = tuple(sorted(cls._hyperparameters))
    _validate.one_of("hyperparameters", tuple(sorted(hyperparameters)), (allowed,))
    required = {*cls._required, "fixed_B"}
    if not required <= set(arrays) <= required | {"B", "C_reverse"}:
        raise ValueError(f"it has the arrays {sorted(arrays)}; it must have {sorted(required)}")
    if arrays["C"].ndim != 2 or 0 in arrays["C"].shape:
        raise ValueError(f"C has shape {arrays['C'].shape}; it must be (H, N)")
    H, N = arrays["C"].shape
    real = arrays["D"].dtype
    _validate.one_of("dtype of D", real.name, ("float32", "float64"))
    for name, a in arrays.items():
        dtype = np.result_type(real, np.complex64) if name in (*COMPLEX, "fixed_B") else real
        shape = shape_of(name, H, N)
        if name == "P" and a.ndim == 3 and a.shape[1]:
            shape = H, a.shape[1], N
        if a.shape != shape or a.dtype != dtype:
            raise ValueError(
                f"{name} has shape {a.shape} and dtype {a.dtype}; it must have {shape}, {dtype}"
            )
    if check:
        _validate.arrays(**arrays)
    arrays = dict(arrays)
    layer = cls.__new__(cls)
    layer._set({}, np.empty(0), real, **hyperparameters)
    layer._fixed_B = arrays.pop("fixed_B")
    order = (*cls._required, "B", "C_reverse")  # a file has one of its own
    layer.params = {name: arrays[name] for name in order if name in arrays}
    return layer


# ------------------------------------------------------------------------------------- state space


def rows(layer, channel):
    """The channels of a state-space system: one, or all."""
    if layer.bidirectional:
        raise ValueError(
            "a bidirectional layer is not causal: no state-space system has its output"
        )
    if channel is None:
        return slice(None)
    channel = _validate.integer("channel", channel, minimum=0, maximum=layer.features - 1)
    return slice(channel, channel + 1)


def to_statespace(layer, channel):
    """`S4D.to_statespace`."""
    of = rows(layer, channel)
    system = layer._operator.system(layer)
    A_bar, B_bar = system.A_bar[of], system.B_bar[of]
    C, D = layer.params["C"][of].astype(complex), layer.params["D"][of].astype(float)
    H, N = C.shape
    A = np.zeros((H, N, 2, H, N, 2))
    h, n = np.ogrid[:H, :N]
    A[h, n, 0, h, n, 0] = A[h, n, 1, h, n, 1] = A_bar.real
    A[h, n, 1, h, n, 0], A[h, n, 0, h, n, 1] = A_bar.imag, -A_bar.imag
    B, out = np.zeros((H, N, 2, H)), np.zeros((H, H, N, 2))
    B[h, n, 0, h], B[h, n, 1, h] = B_bar.real, B_bar.imag
    seen = 2 * C * A_bar  # what is left of the state before, one step later
    out[h, h, n, 0], out[h, h, n, 1] = seen.real, -seen.imag
    through = np.diag(D + 2 * np.sum(C * B_bar, axis=1).real)
    size = 2 * H * N
    return A.reshape(size, size), B.reshape(size, H), out.reshape(H, size), through, 1.0


def blocks(a):
    """(H, rows, columns) as a matrix with these H blocks along its diagonal."""
    H, rows, columns = a.shape
    out = np.zeros((H, rows, H, columns), a.dtype)
    h = np.arange(H)
    out[h, :, h] = a
    return out.reshape(H * rows, H * columns)
