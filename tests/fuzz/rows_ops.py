"""Rows of the ops: each registered pair forward, against its reference and its own differences, and
its vector-Jacobian product by itself."""

import inspect
import sys

import numpy as np
from conftest import cast, complex_normal

from fuzz.engine import Fault, Row, compare
from fuzz.hazards import EITHER
from ssm_manual.ops import PAIRS, kernels

#: (batch, H, N, L): one and zero samples, odd and prime numbers, beyond a block of 64.
SIZES = ((1, 1, 1, 1), (2, 1, 3, 5), (1, 2, 4, 17), (3, 2, 1, 64), (1, 1, 2, 65), (2, 3, 2, 0))

COMPLEX_U = "complex where real=False"
EITHER_FIELD = {f"{name} dtype: complex": (EITHER, COMPLEX_U) for name in ("u", "D")}

OPERATOR = "A_bar:pole B_bar:array C:array D:real? u:real x0:array?"
DENSE = "A_bar:array B_bar:array C:array D:array? u:array x0:array?"

#: What may come out of finite numbers, by the documentation of the op; see docs/numbers.md.
RANGE = "docs/limits.md: numbers that leave the range of the format"


def draw_poles(rng, *shape):
    """Discrete poles that last for some samples."""
    return rng.uniform(0.5, 0.999, shape) * np.exp(2j * np.pi * rng.random(shape))


class Maker:
    """Valid arguments of one call, drawn when asked for by name."""

    def __init__(self, rng, sizes=SIZES):
        self.rng = rng
        self.batch, self.H, self.N, self.L = sizes[rng.integers(len(sizes))]
        self.rank = int(rng.integers(1, 3))
        self.p, self.m = (int(n) for n in rng.integers(1, 3, 2))
        self.real = bool(rng.integers(2))

    def complex(self, *shape):
        return complex_normal(self.rng, *shape)

    def normal(self, *shape):
        return self.rng.standard_normal(shape)

    def choice(self, *values):
        return values[self.rng.integers(len(values))]

    def maybe(self, value):
        return value if self.rng.random() < 0.7 else None


def _operator(m):
    H, N = m.H, m.N
    pole = draw_poles(m.rng, *m.choice((H, N), (1, N), (N,)))
    return {
        "A_bar": pole,
        "B_bar": m.complex(H, N),
        "C": m.complex(H, N),
        "D": m.maybe(m.normal(H)),
        "u": m.normal(m.batch, H, m.L),
        "x0": m.maybe(m.complex(m.batch, H, N)),
        "real": m.real,
    }


def _exponent(m):
    given = _operator(m)
    return {"dtA": np.log(given.pop("A_bar")), **given}


def _dense(m):
    H, N = m.H, m.N
    draw = m.normal if m.real else m.complex
    A = draw(H, N, N)
    A *= 0.9 / np.max(np.abs(np.linalg.eigvals(A)), axis=-1)[:, None, None]
    return {
        "A_bar": A,
        "length": m.choice(0, 1, 2, 17, 40),
        "B_bar": draw(H, N, m.p),
        "C": draw(H, m.m, N),
        "D": m.maybe(draw(H, m.m, m.p)),
        "u": draw(m.batch, H, m.p, m.L),
        "x0": m.maybe(draw(m.batch, H, N)),
    }


def _dplr(m):
    H, N, rank = m.H, m.N, m.rank
    return {
        "Lambda": -m.rng.uniform(0.5, 2, (H, N)) + 4j * m.normal(H, N),
        "P": 0.3 * m.complex(H, rank, N),
        "Q": 0.3 * m.complex(H, rank, N),
        "B": m.complex(H, N),
        "C": m.complex(H, N),
        "D": m.maybe(m.normal(H)),
        "dt": m.rng.uniform(0.05, 0.3, H),
        "u": m.normal(m.batch, H, m.L),
        "x0": m.maybe(m.complex(m.batch, H, N)),
        "length": m.choice(1, 2, 5, 17),
        "real": m.real,
    }


def _dplr_bar(m):
    given = _dplr(m)
    return {
        "Lambda_bar": draw_poles(m.rng, m.H, m.N),
        "P_bar": given["P"] * 0.3,
        "Q_bar": given["Q"] * 0.3,
        "B_bar": given["B"],
        **{name: given[name] for name in ("C", "D", "u", "x0", "real")},
    }


def _kernel(m):
    given = _operator(m)
    A = given["A_bar"]
    return {
        "A_bar": A,
        "dtA": np.log(A),
        "B_bar": given["B_bar"],
        "C": given["C"],
        "length": m.choice(0, 1, 2, 17, 40),
        "real": m.real,
        "method": m.choice(*kernels.METHODS),
        "cutoff": m.choice(0.0, 0.0, 1e-3),
    }


def _continuous(m):
    return {
        "A": -m.rng.uniform(0.5, 2, (m.H, m.N)) + 3j * m.normal(m.H, m.N),
        "B": m.complex(m.H, m.N),
        "dt": m.choice(np.array(0.1), m.rng.uniform(0.01, 0.1, (m.H, 1))),
    }


def _dense_continuous(m):
    draw = m.normal if m.real else m.complex
    A = draw(m.H, m.N, m.N) - 3 * np.eye(m.N)
    return {"A": A, "B": draw(m.H, m.N, m.p), "dt": m.rng.uniform(0.01, 0.1, m.H)}


def _features(m):
    axis = m.choice(-1, -2)
    shape = (m.batch, m.L, 2 * m.H) if axis == -1 else (m.batch, 2 * m.H, m.L)
    return {
        "x": m.normal(*shape),
        "weight": m.normal(4, 2 * m.H),
        "bias": m.maybe(m.normal(4)),
        "scale": m.normal(2 * m.H),
        "shift": m.normal(2 * m.H),
        "axis": axis,
        "eps": m.choice(1e-5, 1e-3),
        "rate": m.choice(0.1, 0.5),
        "seed": m.maybe(int(m.rng.integers(2**40))),
        "tied": m.real,
    }


def _recurrent(gates):
    def make(m):
        I, H = m.p, m.N
        lengths = m.rng.integers(0, m.L + 1, m.batch)
        return {
            "x": m.normal(m.batch, I, m.L),
            "h0": m.maybe(m.normal(m.batch, H)),
            "c0": m.maybe(m.normal(m.batch, H)),
            "W_in": 0.5 * m.normal(gates * H, I),
            "W_h": 0.5 * m.normal(gates * H, H),
            "bias": m.maybe(m.normal(gates * H)),
            "nonlinearity": "tanh",
            "lengths": m.maybe(lengths),
        }

    return make


def _pooled(m):
    L = max(m.L, 1)
    x = m.normal(m.batch, m.H, L)
    lengths = m.maybe(m.rng.integers(1, L + 1, m.batch))
    return {"x": x, "method": m.choice("mean", "last"), "lengths": lengths}


def _classes(m):
    L = max(m.L, 1)
    axis = m.choice(-1, 1)
    shape = (m.batch, L, 4) if axis == -1 else (m.batch, 4, L)
    return {
        "logits": m.normal(*shape),
        "labels": m.rng.integers(0, 4, (m.batch, L)),
        "axis": axis,
        "weights": m.maybe(m.rng.uniform(0.1, 1, (m.batch, L))),
    }


def _pair_of(first, second):
    def make(m):
        shape = (m.batch, m.H, max(m.L, 1))
        return {
            first: m.normal(*shape),
            second: m.rng.uniform(0.1, 0.9, shape),
            "weights": m.maybe(m.rng.uniform(0.1, 1, shape)),
        }

    return make


def _rows_by_number(m):
    return {
        "ids": m.rng.integers(0, 5, (m.batch, m.L)),
        "table": m.normal(5, m.H),
        "axis": m.choice(-1, -2),
    }


def _places(m):
    start = m.choice(0, 3)
    return {
        "x": m.normal(m.batch, m.H, m.L),
        "table": m.normal(m.H, m.L + start + 2),
        "start": start,
    }


def _convolution(m):
    u = m.normal(m.batch, m.H, m.L)
    shape = (m.choice(1, 5, 130),)
    shape = m.choice(shape, (m.H, *shape))
    return {
        "u": u,
        "K": m.normal(*shape) if m.real else m.complex(*shape),
        "method": m.choice("auto", "direct", "fft"),
    }


LOW_RANK = "Lambda:cpole P:array Q:array"
NORM = "x:real scale:real shift:real axis:choice eps:number"
POINT = ("x:real", _features)
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
        _pair_of("logits", "targets"),
    ),
    "truncate": (f"{LOW_RANK} C:array dt:real length:length real:flag", _dplr),
    "cauchy": (f"{LOW_RANK} B:array C:array dt:real length:length real:flag", _dplr),
    "causal": ("u:array K:array method:choice", _convolution),
    "vandermonde": ("A_bar:pole B_bar:array C:array length:length real:flag", _kernel),
    "vandermonde_from_exponent": (
        "dtA:cpole B_bar:array C:array length:length real:flag",
        _kernel,
    ),
    "chunked": (f"{OPERATOR} real:flag chunk:int?", _operator),
    "chunked_from_exponent": (
        OPERATOR.replace("A_bar:pole", "dtA:cpole") + " real:flag chunk:int?",
        _exponent,
    ),
    "kernel": (
        "A_bar:pole B_bar:array C:array length:length method:choice cutoff:number",
        _kernel,
    ),
    "terminal_state": ("A_bar:pole B_bar:array u:array x0:array?", _operator),
    "convolve": (f"{OPERATOR} real:flag", _operator),
    "dense_chunked": (f"{DENSE} chunk:int?", _dense),
    "dense_kernel": ("A_bar:array B_bar:array C:array length:length", _dense),
    "dense_terminal_state": ("A_bar:array B_bar:array u:array x0:array?", _dense),
    "dense_convolve": (DENSE, _dense),
    "dense_tustin": ("A:array B:array dt:real", _dense_continuous),
    "dense_zoh": ("A:array B:array dt:real", _dense_continuous),
    "dense_scan": (DENSE, _dense),
    "dense_apply": (f"{DENSE} view:choice", _dense),
    "tustin": ("A:cpole B:array dt:real input_scale:choice", _continuous),
    "tustin_sqrt_dt": ("A:cpole B:array dt:real input_scale:choice", _continuous),
    "zoh": ("A:cpole B:array dt:real", _continuous),
    "dplr_dense": (
        "Lambda_bar:pole P_bar:array Q_bar:array B_bar:array C:array D:real? real:flag",
        _dplr_bar,
    ),
    "dplr_scan": (
        "Lambda_bar:pole P_bar:array Q_bar:array B_bar:array C:array D:real? u:real x0:array? "
        "real:flag",
        _dplr_bar,
    ),
    "tustin_dplr": (f"{LOW_RANK} B:array dt:real real:flag", _dplr),
    "dplr": (
        f"{LOW_RANK} B:array C:array D:real? dt:real u:real x0:array? view:choice real:flag",
        _dplr,
    ),
    "dropout": (DROP, _features),
    "gelu_dropout": (DROP, _features),
    "embedding": ("ids:ids table:real axis:choice", _rows_by_number),
    "positions": ("x:real table:real start:int", _places),
    "glu": ("x:real axis:choice", _features),
    "layer_norm": (NORM, _features),
    "rms_norm": (NORM.replace(" shift:real", ""), _features),
    "linear": ("x:real weight:real bias:real? axis:choice", _features),
    "linear_glu": ("x:real weight:real bias:real? axis:choice", _features),
    "half_mse": ("prediction:array target:array", _pair_of("prediction", "target")),
    "mse": ("prediction:array target:array", _pair_of("prediction", "target")),
    "lstm": (f"x:real h0:real? c0:real? {RECURRENT}", _recurrent(4)),
    "pool": ("x:real method:choice lengths:ids?", _pooled),
    "rnn": (f"x:real h0:real? {RECURRENT} nonlinearity:choice", _recurrent(1)),
    "scan": (f"{OPERATOR} real:flag horizon:int?", _operator),
    "softmax_cross_entropy": ("logits:real labels:ids axis:choice weights:real?", _classes),
    "apply": (f"{OPERATOR} view:choice real:flag", _operator),
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


def _cast(value, dtype):
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fc"
    return cast(value, dtype) if floats else value


def _maker(name, words, draw):
    names = [word.split(":")[0] for word in words.split()]
    chosen = CHOSEN.get(name)

    def make(rng, dtype):
        m = Maker(rng)
        given = draw(m)
        if chosen:
            given[chosen[0]] = m.choice(*chosen[1])
        return {n: _cast(given[n], dtype) for n in names}

    return make


def cotangents(out, seed=0):
    """Random cotangents of an output, an array or a tuple of them."""
    if isinstance(out, tuple):
        return tuple(cotangents(o, seed + i) for i, o in enumerate(out))
    if out is None:
        return None
    out, rng = np.asarray(out), np.random.default_rng(seed)
    draw = complex_normal(rng, *out.shape) if out.dtype.kind == "c" else rng.normal(size=out.shape)
    return np.asarray(draw, out.dtype)


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
            n: v.item() if isinstance(v, (np.ndarray, np.generic)) and v.ndim == 0 else v
            for n, v in options.items()
            if n in slow_takes or "options" in slow_takes
        }
        double = tuple(np.asarray(_cast(np.asarray(a), np.float64)) if _is(a) else a for a in args)
        if pair.name not in _NO_REFERENCE:
            compare(out, pair.reference(*double, **slow), rtol, "the reference")
        if not single and options.get("horizon") is None:
            _differences(pair, double, options)

    return result


#: Masks depend on the seed alone, and are compared by the suite.
_NO_REFERENCE = ()


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
