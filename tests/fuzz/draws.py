"""Valid arguments of the ops, drawn from a generator."""

import numpy as np
from conftest import cast, complex_normal

from ssm_manual.ops import kernels

#: (batch, H, N, L): one and zero samples, odd and prime numbers, beyond a block of 64.
SIZES = ((1, 1, 1, 1), (2, 1, 3, 5), (1, 2, 4, 17), (3, 2, 1, 64), (1, 1, 2, 65), (2, 3, 2, 0))


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


def operator(m):
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


def exponent(m):
    given = operator(m)
    return {"dtA": np.log(given.pop("A_bar")), **given}


def dense(m):
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


def dplr(m):
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


def dplr_bar(m):
    given = dplr(m)
    return {
        "Lambda_bar": draw_poles(m.rng, m.H, m.N),
        "P_bar": given["P"] * 0.3,
        "Q_bar": given["Q"] * 0.3,
        "B_bar": given["B"],
        **{name: given[name] for name in ("C", "D", "u", "x0", "real")},
    }


def kernel(m):
    given = operator(m)
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


def continuous(m):
    return {
        "A": -m.rng.uniform(0.5, 2, (m.H, m.N)) + 3j * m.normal(m.H, m.N),
        "B": m.complex(m.H, m.N),
        "dt": m.choice(np.array(0.1), m.rng.uniform(0.01, 0.1, (m.H, 1))),
    }


def dense_continuous(m):
    draw = m.normal if m.real else m.complex
    A = draw(m.H, m.N, m.N) - 3 * np.eye(m.N)
    return {"A": A, "B": draw(m.H, m.N, m.p), "dt": m.rng.uniform(0.01, 0.1, m.H)}


def features(m):
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


def recurrent(gates):
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


def pooled(m):
    L = max(m.L, 1)
    x = m.normal(m.batch, m.H, L)
    lengths = m.maybe(m.rng.integers(1, L + 1, m.batch))
    return {"x": x, "method": m.choice("mean", "last"), "lengths": lengths}


def classes(m):
    L = max(m.L, 1)
    axis = m.choice(-1, 1)
    shape = (m.batch, L, 4) if axis == -1 else (m.batch, 4, L)
    return {
        "logits": m.normal(*shape),
        "labels": m.rng.integers(0, 4, (m.batch, L)),
        "axis": axis,
        "weights": m.maybe(m.rng.uniform(0.1, 1, (m.batch, L))),
    }


def pair_of(first, second):
    def make(m):
        shape = (m.batch, m.H, max(m.L, 1))
        return {
            first: m.normal(*shape),
            second: m.rng.uniform(0.1, 0.9, shape),
            "weights": m.maybe(m.rng.uniform(0.1, 1, shape)),
        }

    return make


def rows_by_number(m):
    return {
        "ids": m.rng.integers(0, 5, (m.batch, m.L)),
        "table": m.normal(5, m.H),
        "axis": m.choice(-1, -2),
    }


def places(m):
    start = m.choice(0, 3)
    return {
        "x": m.normal(m.batch, m.H, m.L),
        "table": m.normal(m.H, m.L + start + 2),
        "start": start,
    }


def convolution(m):
    u = m.normal(m.batch, m.H, m.L)
    shape = (m.choice(1, 5, 130),)
    shape = m.choice(shape, (m.H, *shape))
    return {
        "u": u,
        "K": m.normal(*shape) if m.real else m.complex(*shape),
        "method": m.choice("auto", "direct", "fft"),
    }


def cast_floats(value, dtype):
    """A floating-point array in this precision; anything else as it is."""
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fc"
    return cast(value, dtype) if floats else value


def cotangents(out, seed=0):
    """Random cotangents of an output, an array or a tuple of them."""
    if isinstance(out, tuple):
        return tuple(cotangents(o, seed + i) for i, o in enumerate(out))
    if out is None:
        return None
    out, rng = np.asarray(out), np.random.default_rng(seed)
    draw = complex_normal(rng, *out.shape) if out.dtype.kind == "c" else rng.normal(size=out.shape)
    return np.asarray(draw, out.dtype)
