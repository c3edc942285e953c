"""Rows of the layers: made, applied forward, backward and step by step, and read back."""

import functools
import inspect

import numpy as np
from conftest import cast, complex_normal

from fuzz.draws import cotangents
from fuzz.engine import Row
from fuzz.hazard import EITHER, REFUSED
from ssm_manual import layers

#: (batch, L)
SIZES = ((1, 1), (2, 5), (3, 17), (1, 65), (2, 0))
H, N = 2, 3

#: Kinds of what a layer is made of, by the name of its constructor's parameter.
PARAMETERS = {
    "features": "int",
    "features_in": "int",
    "features_out": "int",
    "modes": "int",
    "states": "int",
    "inputs": "int",
    "outputs": "int",
    "vocabulary": "int",
    "longest": "int?",
    "expansion": "int",
    "rate": "number",
    "eps": "number",
    "deviation": "number",
    "dropout": "number",
    "dt": "number",
    "dt_min": "number",
    "dt_max": "number",
    "initial": "choice",
    "discretisation": "choice",
    "view": "choice",
    "norm": "choice",
    "mixer": "choice",
    "ssm": "choice",
    "nonlinearity": "choice",
    "dtype": "choice",
    "bias": "flag",
    "tied": "flag",
    "tied_dropout": "flag",
    "train_A": "flag",
    "train_B": "flag",
    "train_state": "flag",
    "feedthrough": "flag",
    "bidirectional": "flag",
    "rng": "rng",
}

#: The layers, each with what its constructor is given beside dtype and rng; the number of features
#: that it takes, and the shape and field of its state without the batch, None if it has none.
LAYERS = {
    "S4D": ({"features": H, "modes": N}, H, (H, N), complex),
    "S4D bidirectional": ({"features": H, "modes": N, "bidirectional": True}, H, None, None),
    "S4": ({"features": H, "modes": N}, H, (H, N), complex),
    "DenseSSM": ({"states": N, "inputs": H, "outputs": 2}, H, (N,), float),
    "RNN": ({"features_in": H, "features": 4}, H, (4,), float),
    "LSTM": ({"features_in": H, "features": 4}, H, None, None),
    "Linear": ({"features_in": H, "features_out": 3}, H, None, None),
    "LayerNorm": ({"features": H}, H, None, None),
    "RMSNorm": ({"features": H}, H, None, None),
    "Dropout": ({"rate": 0.2}, H, None, None),
    "Embedding": ({"vocabulary": 5, "features": H, "longest": 70}, None, None, None),
    "S4DBlock": ({"features": H, "modes": N}, H, None, None),
    "GatedBlock": ({"features": H, "modes": N, "expansion": 2}, H, None, None),
}

#: Options that may be None.
OPTIONAL = {"S4DBlock": ("expansion", "modes"), "GatedBlock": ("modes",)}


def _class(name):
    return getattr(layers, name.split()[0])


@functools.cache
def layer_of(name, dtype):
    """One layer of the class and precision; no case changes it."""
    return _made(name, {}, np.dtype(dtype).name, np.random.default_rng(0))


def _made(name, changes, dtype, rng):
    given = {**LAYERS[name][0], "dtype": dtype, "rng": rng, **changes}
    takes = inspect.signature(_class(name)).parameters
    return _class(name)(**{n: v for n, v in given.items() if n in takes})


#: Where a word may be something else.
SPELT = {
    "dtype choice": (EITHER, "any spelling of a dtype"),
    "dtype type": (EITHER, "any spelling of a dtype"),
    "dtype type: None": (REFUSED, "NumPy takes it for float64"),
    "initial type": (EITHER, "a word, or the matrices"),
    "initial choice": (EITHER, "a word, or the matrices"),
}


def _constructor(name):
    cls = _class(name)
    takes = inspect.signature(cls).parameters

    def make(rng, dtype):
        given = {n: p.default for n, p in takes.items() if p.default is not p.empty}
        given |= LAYERS[name][0] | {"dtype": dtype.name}
        if "rng" in takes:
            given["rng"] = np.random.default_rng(rng.integers(1 << 30))
        return {n: v for n, v in given.items() if n in takes}

    words = " ".join(
        f"{n}:{PARAMETERS[n]}{'?' if n in OPTIONAL.get(name, ()) else ''}"
        for n in takes
        if n in PARAMETERS
    )
    return Row(
        f"ssm_manual.layers.{cls.__name__}",
        lambda **given: cls(**given),
        words,
        make,
        exceptions={n: v for n, v in SPELT.items() if n.split()[0] in takes},
    )


def _signals(name):
    _, features, state, field = LAYERS[name]

    def make(rng, dtype):
        batch, L = SIZES[rng.integers(len(SIZES))]
        given = {"layer": layer_of(name, dtype.name)}
        if features is None:
            given["u"] = rng.integers(0, 5, (batch, L))
        else:
            given["u"] = rng.standard_normal((batch, features, L)).astype(dtype)
        given["state"] = None
        if state is not None and rng.random() < 0.6:
            draw = complex_normal(rng, batch, *state)
            given["state"] = cast(draw if field is complex else draw.real, dtype)
        given["lengths"] = rng.integers(0, L + 1, batch) if rng.random() < 0.5 else None
        given["seed"] = int(rng.integers(2**31)) if rng.random() < 0.5 else None
        given["cache"] = bool(rng.integers(2))
        return given

    return make


def _forward(name):
    _, features, state, _ = LAYERS[name]
    takes = inspect.signature(_class(name).forward).parameters
    words = ["u:real" if features else "u:ids", *(["state:array?"] if state else [])]
    words += [w for w in ("lengths:ids?", "seed:int?", "cache:flag") if w.split(":")[0] in takes]
    make = _signals(name)

    def call(layer, **given):
        return layer.forward(**given)[:2]

    def made(rng, dtype):
        given = make(rng, dtype)
        return {n: v for n, v in given.items() if n == "layer" or n in takes}

    return Row(
        _method(name, "forward"), call, " ".join(words), made, covers=_covers(name, "forward")
    )


def _backward(name):
    _, _, state, _ = LAYERS[name]
    make = _signals(name)
    takes = inspect.signature(_class(name).forward).parameters

    def made(rng, dtype):
        given = {n: v for n, v in make(rng, dtype).items() if n == "layer" or n in takes}
        given.pop("cache", None)
        layer = given.pop("layer")
        y, after, cache = layer.forward(**given)
        grads = {"grad_y": cotangents(y)}
        if state is not None:
            grads["grad_state"] = cotangents(np.asarray(after), 1)
        return {"layer": layer, "cache": cache, **grads}

    def call(layer, cache, grad_y, grad_state=None):
        return layer.backward(grad_y, cache, grad_state)

    words = "grad_y:array" + (" grad_state:array?" if state else "")
    return Row(
        _method(name, "backward"),
        call,
        words,
        made,
        covers=_covers(name, "backward"),
        exceptions={"grad_y type: None": (EITHER, "None is zeros")},
    )


def _step(name):
    _, features, state, _ = LAYERS[name]
    make = _signals(name)

    def made(rng, dtype):
        given = make(rng, dtype)
        u = given["u"][..., 0] if given["u"].shape[-1] else given["u"].sum(axis=-1)
        return {"layer": given["layer"], "u_t": np.array(u), "state": given["state"]}

    def call(layer, u_t, state):
        return layer.step(u_t, state)

    words = ("u_t:real" if features else "u_t:ids") + (" state:array?" if state else "")
    return Row(_method(name, "step"), call, words, made, covers=_covers(name, "step"))


def _method(name, method):
    return f"ssm_manual.layers.{name}.{method}"


def _covers(name, method):
    return (f"ssm_manual.layers.{_class(name).__name__}.{method}",)


def _kernel(name):
    def make(rng, dtype):
        return {"layer": layer_of(name, dtype.name), "length": int(rng.integers(0, 40))}

    return Row(
        _method(name, "kernel"),
        lambda layer, length: layer.kernel(length),
        "length:length",
        make,
    )


def _from_arrays(name, words, make, covers=()):
    cls = _class(name)
    return Row(
        _method(name, "from_arrays"),
        lambda **given: cls.from_arrays(**given),
        words,
        make,
        covers=tuple(f"ssm_manual.layers.{name}.{other}" for other in covers),
    )


def _arrays_of(name, extra):
    def make(rng, dtype):
        given = {n: np.array(a) for n, a in layer_of(name, dtype.name).to_arrays().items()}
        takes = inspect.signature(_class(name).from_arrays).parameters
        return {n: a for n, a in given.items() if n in takes} | extra

    return make


def _gates(gates):
    def make(rng, dtype):
        I, units = 2, 3
        shapes = {"weight_ih": (gates * units, I), "weight_hh": (gates * units, units)}
        shapes |= {"bias_ih": (gates * units,), "bias_hh": (gates * units,)}
        return {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}

    return make


WEIGHTS = "weight_ih:real weight_hh:real bias_ih:real? bias_hh:real?"


def _rows():
    for name in LAYERS:
        if " " not in name:
            yield _constructor(name)
        yield _forward(name)
        yield _backward(name)
        if "bidirectional" not in name:
            yield _step(name)
    yield _kernel("S4D")
    yield _kernel("S4")
    words = "log_dt:real C:array log_A_real:real A_imag:real D:real"
    yield _from_arrays(
        "S4D",
        f"{words} B:real? view:choice",
        _arrays_of("S4D", {"view": "auto"}),
        ("to_arrays", "to_statespace"),
    )
    words += " P:array B:array"
    yield _from_arrays(
        "S4",
        f"{words} view:choice",
        _arrays_of("S4", {"view": "auto"}),
        ("to_arrays", "to_statespace"),
    )
    dense = "A:real B:real C:real D:real? bias:real?"
    yield _from_arrays("DenseSSM", dense, _arrays_of("DenseSSM", {}), ("to_arrays",))
    yield _from_arrays("RNN", WEIGHTS, _gates(1))
    yield _from_arrays("LSTM", WEIGHTS, _gates(4))
    yield Row(
        "ssm_manual.layers.DenseSSM.clamp",
        lambda layer, radius: layer.clamp(radius),
        "radius:number",
        lambda rng, dtype: {
            "layer": _made("DenseSSM", {}, dtype.name, np.random.default_rng(1)),
            "radius": 0.9,
        },
        alters=True,
    )


ROWS = [*_rows()]
