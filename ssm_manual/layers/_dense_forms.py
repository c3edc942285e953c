"""A dense layer in other forms: as text, sample by sample, as arrays, from a file."""

import numpy as np

from ssm_manual import _validate
from ssm_manual.layers import _dense_system


def text(layer):
    """`DenseSSM.__repr__`."""
    trained = "A trained" if "A" in layer.params else "A fixed"
    left_out = [f"no {name}" for name in ("D", "bias") if name not in layer.params]
    added = ["initial state"] if "x0" in layer.params else []
    parts = [
        f"{layer.states} states",
        f"{layer.inputs} inputs",
        f"{layer.outputs} outputs",
        "discrete" if layer.discretisation == "none" else layer.discretisation,
        trained,
        *left_out,
        *added,
        str(layer.dtype),
    ]
    return f"DenseSSM({', '.join(parts)})"


def step(layer, u_t, state):
    """`DenseSSM.step`; arguments are checked."""
    params = layer.params
    if state is None:
        x0 = params.get("x0", np.zeros(layer.states, layer.dtype))
        state = np.repeat(x0[np.newaxis], len(u_t), axis=0)
    A_bar, B_bar = _tables(layer)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite, as in `forward`
        after = state @ A_bar.T + u_t @ B_bar.T
        y = after @ params["C"].T
        if "D" in params:
            y += u_t @ params["D"].T
        if "bias" in params:
            y += params["bias"]
    _validate.sound_values(y_t=y, state=after)
    return y, after


def _tables(layer):
    """A_bar and B_bar in the layer's precision, formed anew where A, B or the map has changed."""
    key = layer.discretisation, layer.dt
    kept = layer._tables
    if (
        kept is None
        or kept[0] != key
        or not (np.array_equal(kept[1], layer.A) and np.array_equal(kept[2], layer.params["B"]))
    ):
        _validate.arrays(**{"A": layer.A} | layer.params)  # NaN is said here, and never kept
        system = _dense_system.discretise(layer)
        tables = [a[0].astype(layer.dtype) for a in (system.A_bar, system.B_bar)]
        layer._tables = kept = key, layer.A.copy(), layer.params["B"].copy(), tables
    return kept[3]


def from_arrays(
    cls, A, B, C, D, bias, x0, *, discretisation="none", dt=1.0, train_A=True, view="auto"
):
    """`DenseSSM.from_arrays`."""
    given = {"A": A, "B": B, "C": C, "D": D, "bias": bias, "x0": x0}
    arrays = _validate.arrays(**given, real=tuple(given), optional=("D", "bias", "x0"))
    arrays = {name: a for name, a in zip(given, arrays) if a is not None}
    _check_shapes(arrays)
    layer = cls.__new__(cls)
    options = {"discretisation": discretisation, "dt": dt, "view": view}
    layer._set(arrays, arrays["C"].dtype, train_A=train_A, **options)
    return layer


def _check_shapes(arrays):
    _validate.shape("B", arrays["B"], (-1, -1), meaning="(N, p)")
    N, p = arrays["B"].shape
    _validate.shape("C", arrays["C"], (-1, N), meaning="(m, N)")
    m = len(arrays["C"])
    shapes = {"A": (N, N), "D": (m, p), "bias": (m,), "x0": (N,)}
    for name, shape in shapes.items():
        if name in arrays:
            _validate.shape(name, arrays[name], shape)


def from_checkpoint(cls, hyperparameters, arrays, check):
    """`DenseSSM.from_checkpoint`."""
    names = ("discretisation", "dt", "train_A", "view")
    _validate.one_of("hyperparameters", tuple(sorted(hyperparameters)), (names,))
    required, known = {"A", "B", "C"}, {"A", "B", "C", "D", "bias", "x0"}
    if not required <= set(arrays) <= known:
        raise ValueError(f"it has the arrays {sorted(arrays)}; it must have {sorted(required)}")
    dtype = arrays["C"].dtype
    _validate.one_of("dtype of C", dtype.name, ("float32", "float64"))
    for name, a in arrays.items():
        if a.dtype != dtype:
            raise ValueError(f"{name} has dtype {a.dtype}; it must be {dtype}, as C is")
    _check_shapes(arrays)
    if check:
        _validate.arrays(**arrays)
    layer = cls.__new__(cls)
    options = hyperparameters | {"train_A": True}
    layer._set({}, dtype, **options)
    layer.params = dict(arrays)
    if not _validate.flag("train_A", hyperparameters["train_A"]):
        layer._fixed_A = layer.params.pop("A")
    return layer
