"""Rows of the ops: each registered pair forward, against its reference and its own differences, and
its vector-Jacobian product by itself."""

import inspect
import sys

import numpy as np

from fuzz import draws
from fuzz.draws import cast_floats, cotangents
from fuzz.engine import Fault, Row, compare
from fuzz.hazard import EITHER
from ssm_manual.ops import PAIRS

COMPLEX_U = "complex where real=False"
EITHER_FIELD = {f"{name} dtype: complex": (EITHER, COMPLEX_U) for name in ("u", "D")}

OPERATOR = "A_bar:pole B_bar:array C:array D:real? u:real x0:array?"
DENSE = "A_bar:array B_bar:array C:array D:array? u:array x0:array?"

LOW_RANK = "Lambda:cpole P:array Q:array"
NORM = "x:real scale:real shift:real axis:choice eps:number"
POINT = ("x:real", draws.features)
DROP = "x:real rate:number seed:int? tied:flag"
RECURRENT = "W_in:real W_h:real bias:real? lengths:ids?"

#: By name in the registry: arguments and options, and how they are made.
OPS = {
    "relu": POINT,
    "sigmoid": POINT,
    "tanh": POINT,
    "gelu": POINT,
    "binary_cross_entropy": (
        "logits:real targets:real weights:real?",
        draws.pair_of("logits", "targets"),
    ),
    "truncate": (f"{LOW_RANK} C:array dt:real length:length real:flag", draws.dplr),
    "cauchy": (f"{LOW_RANK} B:array C:array dt:real length:length real:flag", draws.dplr),
    "causal": ("u:array K:array method:choice", draws.convolution),
    "vandermonde": ("A_bar:pole B_bar:array C:array length:length real:flag", draws.kernel),
    "vandermonde_from_exponent": (
        "dtA:cpole B_bar:array C:array length:length real:flag",
        draws.kernel,
    ),
    "chunked": (f"{OPERATOR} real:flag chunk:int?", draws.operator),
    "chunked_from_exponent": (
        OPERATOR.replace("A_bar:pole", "dtA:cpole") + " real:flag chunk:int?",
        draws.exponent,
    ),
    "kernel": (
        "A_bar:pole B_bar:array C:array length:length method:choice cutoff:number",
        draws.kernel,
    ),
    "terminal_state": ("A_bar:pole B_bar:array u:array x0:array?", draws.operator),
    "convolve": (f"{OPERATOR} real:flag", draws.operator),
    "dense_chunked": (f"{DENSE} chunk:int?", draws.dense),
    "dense_kernel": ("A_bar:array B_bar:array C:array length:length", draws.dense),
    "dense_terminal_state": ("A_bar:array B_bar:array u:array x0:array?", draws.dense),
    "dense_convolve": (DENSE, draws.dense),
    "dense_tustin": ("A:array B:array dt:real", draws.dense_continuous),
    "dense_zoh": ("A:array B:array dt:real", draws.dense_continuous),
    "dense_scan": (DENSE, draws.dense),
    "dense_apply": (f"{DENSE} view:choice", draws.dense),
    "tustin": ("A:cpole B:array dt:real input_scale:choice", draws.continuous),
    "tustin_sqrt_dt": ("A:cpole B:array dt:real input_scale:choice", draws.continuous),
    "zoh": ("A:cpole B:array dt:real", draws.continuous),
    "dplr_dense": (
        "Lambda_bar:pole P_bar:array Q_bar:array B_bar:array C:array D:real? real:flag",
        draws.dplr_bar,
    ),
    "dplr_scan": (
        "Lambda_bar:pole P_bar:array Q_bar:array B_bar:array C:array D:real? u:real x0:array? "
        "real:flag",
        draws.dplr_bar,
    ),
    "tustin_dplr": (f"{LOW_RANK} B:array dt:real real:flag", draws.dplr),
    "dplr": (
        f"{LOW_RANK} B:array C:array D:real? dt:real u:real x0:array? view:choice real:flag",
        draws.dplr,
    ),
    "dropout": (DROP, draws.features),
    "gelu_dropout": (DROP, draws.features),
    "embedding": ("ids:ids table:real axis:choice", draws.rows_by_number),
    "positions": ("x:real table:real start:int", draws.places),
    "glu": ("x:real axis:choice", draws.features),
    "layer_norm": (NORM, draws.features),
    "rms_norm": (NORM.replace(" shift:real", ""), draws.features),
    "linear": ("x:real weight:real bias:real? axis:choice", draws.features),
    "linear_glu": ("x:real weight:real bias:real? axis:choice", draws.features),
    "half_mse": ("prediction:array target:array", draws.pair_of("prediction", "target")),
    "mse": ("prediction:array target:array", draws.pair_of("prediction", "target")),
    "lstm": (f"x:real h0:real? c0:real? {RECURRENT}", draws.recurrent(4)),
    "pool": ("x:real method:choice lengths:ids?", draws.pooled),
    "rnn": (f"x:real h0:real? {RECURRENT} nonlinearity:choice", draws.recurrent(1)),
    "scan": (f"{OPERATOR} real:flag horizon:int?", draws.operator),
    "softmax_cross_entropy": ("logits:real labels:ids axis:choice weights:real?", draws.classes),
    "apply": (f"{OPERATOR} view:choice real:flag", draws.operator),
}

#: Options that are not drawn with the arguments.
CHOSEN = {
    "dense_apply": ("view", ("auto", "scan", "chunked", "convolution")),
    "apply": ("view", ("auto", "scan", "chunked", "convolution")),
    "dplr": ("view", ("auto", "scan", "chunked", "convolution")),
    "tustin": ("input_scale", ("dt", "sqrt_dt")),
    "tustin_sqrt_dt": ("input_scale", ("sqrt_dt",)),
    "chunked": ("chunk", (None, 1, 7)),
    "chunked_from_exponent": ("chunk", (None, 3)),
    "dense_chunked": ("chunk", (None, 1, 7)),
    "scan": ("horizon", (None, 1, 7)),
}

#: Outputs, where there are several.
OUTPUTS = {"dplr_dense": 4, "tustin_dplr": 4, "lstm": 3} | dict.fromkeys(
    (
        *("chunked", "chunked_from_exponent", "convolve", "scan", "apply", "dplr", "dplr_scan"),
        *("dense_chunked", "dense_convolve", "dense_scan", "dense_apply", "rnn"),
        *("tustin", "tustin_sqrt_dt", "zoh", "dense_tustin", "dense_zoh"),
    ),
    2,
)


def _maker(name, words, draw):
    names = [word.split(":")[0] for word in words.split()]
    chosen = CHOSEN.get(name)

    def make(rng, dtype):
        m = draws.Maker(rng)
        given = draw(m)
        if chosen:
            given[chosen[0]] = m.choice(*chosen[1])
        return {n: cast_floats(given[n], dtype) for n in names}

    return make


def _split(pair, given):
    args = tuple(given[name] for name in pair.arguments)
    return args, {n: v for n, v in given.items() if n not in pair.arguments}


def _public(pair):
    """The op that belongs to a pair's ``op_fwd``."""
    return getattr(sys.modules[pair.fwd.__module__], pair.fwd.__name__.removesuffix("_fwd"))


def _forward(pair):
    def call(**given):
        args, options = _split(pair, given)
        out, residuals = pair.fwd(*args, **options)
        outs = out if isinstance(out, tuple) else (out,)
        if not all(o is None or np.isfinite(o).all() for o in outs):
            return out, ()
        grads = pair.vjp(residuals, cotangents(out))
        return out, tuple(g for g in grads if g is not None)

    return call


def _agrees(pair):
    """A clean call: the public op, the reference, and differences along one direction."""
    public = _public(pair)
    slow_takes = inspect.signature(pair.reference).parameters

    def result(found, given):
        args, options = _split(pair, given)
        out, _ = found
        floats = [a for a in map(np.asarray, args) if a.dtype.kind in "fc"]
        single = any(a.real.itemsize == 4 for a in floats)
        rtol = 2e-3 if single else 1e-8
        compare(out, public(*args, **options), 1e-12, "the op without residuals")
        slow = {
            n: _plain_option(v)
            for n, v in options.items()
            if n in slow_takes or "options" in slow_takes
        }
        double = tuple(
            np.asarray(cast_floats(np.asarray(a), np.float64)) if _is(a) else _plain(a)
            for a in args
        )
        if pair.name not in _NO_REFERENCE:
            compare(out, pair.reference(*double, **slow), rtol, "the reference")
        if not single and options.get("horizon") is None:
            _differences(pair, double, options)

    return result


#: Masks depend on the seed alone, and are compared by the suite.
_NO_REFERENCE = ()


def _plain(a):
    return np.asarray(a) if isinstance(a, (list, np.ndarray)) else a


def _plain_option(value):
    """Python's numbers and arrays of no subclass, which references are written for."""
    if isinstance(value, list):
        value = np.asarray(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.item() if value.ndim == 0 else np.asarray(value)
    return value


def _is(a):
    return a is not None and np.asarray(a).dtype.kind in "fc"


def _differences(pair, args, options, step=1e-6):
    """``<g, J v>`` by a central difference against ``<J* g, v>``."""
    out, residuals = pair.fwd(*args, **options)
    g = cotangents(out)
    grads = pair.vjp(residuals, g)
    v = [cotangents(a, 7 + i) if _is(a) else None for i, a in enumerate(args)]

    def moved(h):
        given = [a if d is None else a + h * d for a, d in zip(args, v)]
        return _inner(g, pair.fwd(*given, **options)[0])

    analytic = sum((_inner(grad, d) for grad, d in zip(grads, v) if d is not None), start=0.0)
    numeric = (moved(step) - moved(-step)) / (2 * step)
    size = sum(
        (np.sum(np.abs(grad) * np.abs(d)) for grad, d in zip(grads, v) if d is not None), start=1.0
    )
    if not abs(analytic - numeric) <= 1e-5 * size:
        raise Fault(
            f"the gradient along a direction is {analytic:.6g}, by differences {numeric:.6g}"
        )


def _inner(a, b):
    if isinstance(a, tuple):
        return sum(_inner(x, y) for x, y in zip(a, b))
    return 0.0 if a is None else float(np.sum((np.conj(a) * b).real))


def _vjp_row(name, pair, words, draw):
    """Hazards to the cotangents."""
    make_given, n = _maker(name, words, draw), OUTPUTS.get(name, 1)

    def make(rng, dtype):
        args, options = _split(pair, make_given(rng, dtype))
        out, residuals = pair.fwd(*args, **options)
        grads = cotangents(out if n > 1 else (out,))
        return {"residuals": residuals, **{f"grad_{i}": g for i, g in enumerate(grads)}}

    def call(residuals, **grads):
        grads = tuple(grads.values())
        return pair.vjp(residuals, grads if n > 1 else grads[0])

    kinds = " ".join(f"grad_{i}:array?" for i in range(n))
    return Row(
        f"{_name(pair.vjp)} ({name})",
        call,
        kinds,
        make,
        covers=(_name(pair.vjp),),
        exceptions={
            "* type: a Python number": (EITHER, "a number where the output is one"),
            "* type: None": (EITHER, "None is zeros"),
        },
        precise=False,
    )


def _name(function):
    return f"{function.__module__}.{function.__name__}"


def _rows():
    for name, (words, draw) in OPS.items():
        pair = PAIRS[name]
        yield Row(
            f"{_name(pair.fwd)} ({name})",
            _forward(pair),
            words,
            _maker(name, words, draw),
            covers=(_name(pair.fwd), _name(_public(pair)), _name(pair.vjp)),
            exceptions={
                n: v
                for n, v in EITHER_FIELD.items()
                if "real:flag" in words and f"{n[0]}:real" in words.replace("?", "")
            },
            result=_agrees(pair),
            overflows="`generate` says that complex kernels may be NaN" if name == "kernel" else "",
            precise=name != "tustin_dplr",  # a table in double precision, by its docstring
        )
        yield _vjp_row(name, pair, words, draw)


ROWS = [*_rows()]
