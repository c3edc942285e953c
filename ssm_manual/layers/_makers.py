"""How the parts of blocks come about: drawn, taken from a checkpoint, or counted alone.

A block says once which parts it has, by calling a maker. `New` draws them, `Stored` takes their
arrays from a checkpoint, `Counted` forms nothing and writes down shapes.
"""

import functools
import inspect
import math

from ssm_manual import _validate
from ssm_manual.layers import _forms
from ssm_manual.layers._parts import Gated, LinearGLU, Positions
from ssm_manual.layers.embedding import Embedding
from ssm_manual.layers.layer_norm import LayerNorm
from ssm_manual.layers.linear import Linear
from ssm_manual.layers.lstm import LSTM
from ssm_manual.layers.rms_norm import RMSNorm
from ssm_manual.layers.rnn import RNN
from ssm_manual.layers.s4 import S4
from ssm_manual.layers.s4d import S4D


def ssm_shapes(features, modes, *, low_rank=0, train_B, bidirectional=False, **_):
    """Shapes of the parameters of `S4D` or `S4`."""
    names = ["log_dt", "log_A_real", "A_imag", *["P"] * (low_rank > 0), "C", "D"]
    names += ["B"] * train_B + ["C_reverse"] * bidirectional
    shapes = {name: _forms.shape_of(name, features, modes) for name in names}
    return shapes | ({"P": (features, low_rank, modes)} if low_rank else {})


def recurrent_shapes(gates, features_in, features, *, bias=True, **_):
    """Shapes of the parameters of `RNN` or `LSTM`."""
    rows = gates * features
    shapes = {"W_in": (rows, features_in), "W_h": (rows, features)}
    return shapes | ({"bias": (rows,)} if bias else {})


def _nothing(*_, **__):
    return {}


#: Shapes of a part's parameters, from the arguments of its class.
SHAPES = {
    Linear: lambda i, o: {"weight": (o, i), "bias": (o,)},
    LinearGLU: lambda i, o: {"weight": (o, i), "bias": (o,)},
    LayerNorm: lambda H: {"scale": (H,), "shift": (H,)},
    RMSNorm: lambda H: {"scale": (H,)},
    Embedding: lambda V, H, **_: {"table": (V, H)},
    Positions: lambda H, longest: {"table": (H, longest)},
    RNN: functools.partial(recurrent_shapes, 1),
    LSTM: functools.partial(recurrent_shapes, 4),
    S4D: lambda H, N, train_B=False, **o: ssm_shapes(H, N, train_B=train_B, **o),
    S4: lambda H, N, train_B=True, initial="legs", **o: ssm_shapes(
        H, N, train_B=train_B, low_rank=2 if initial == "legt" else 1, **o
    ),
}


class New:
    """Parts with parameters to start from."""

    def __init__(self, dtype, rng):
        self.dtype, self.rng = _validate.precision(dtype)[0], _validate.generator("rng", rng)

    def part(self, name, cls, *args, **options):
        """A layer."""
        if "rng" in inspect.signature(cls).parameters:
            options["rng"] = self.rng
        return cls(*args, dtype=self.dtype, **options)


class Counted:
    """No parts, but the shapes of their parameters."""

    dtype = None

    def __init__(self):
        self.shapes = {}

    def part(self, name, cls, *args, **options):
        """Writes down shapes."""
        find = getattr(cls, "shapes", None) or SHAPES.get(cls, _nothing)
        shapes = find(*args, **options)
        self.shapes |= {f"{name}.{key}": shape for key, shape in shapes.items()}


class Stored:
    """Parts of a checkpoint: ``given`` holds the hyperparameters of some, by name."""

    def __init__(self, dtype, arrays, given, check):
        self.dtype, self.check = _validate.precision(dtype)[0], check
        self.arrays, self.given = dict(arrays), given

    def part(self, name, cls, *args, **options):
        """A layer around its arrays, which are not copied."""
        own = [key for key in self.arrays if key.startswith(name + ".")]
        arrays = {key[len(name) + 1 :]: self.arrays.pop(key) for key in own}
        if hasattr(cls, "from_checkpoint"):
            layer = cls.from_checkpoint(self.given[name], arrays, check=self.check)
            if layer.features != args[0] or layer.dtype != self.dtype:
                raise ValueError(
                    f"{name} is {layer!r}; it must have {args[0]} {self.dtype} features"
                )
            return layer
        drawn = "rng" in inspect.signature(cls).parameters
        layer = cls.__new__(cls) if drawn else cls(*args, dtype=self.dtype, **options)
        if cls is RNN:
            layer.nonlinearity = options.get("nonlinearity", "tanh")
        wanted = SHAPES.get(cls, _nothing)(*args, **options)
        found = {key: (a.shape, a.dtype) for key, a in arrays.items()}
        if found != {key: (shape, self.dtype) for key, shape in wanted.items()}:
            raise ValueError(f"{name} has arrays {found}; they must be {self.dtype} of {wanted}")
        if self.check:
            _validate.arrays(**arrays)
        layer.params = {key: arrays[key] for key in wanted}
        return layer

    def done(self):
        """All arrays must have been taken."""
        if self.arrays:
            raise ValueError(f"it has arrays of no part: {', '.join(sorted(self.arrays))}")


def count(shapes):
    """How many real numbers arrays of these shapes hold: a complex one is two."""
    double = _forms.COMPLEX
    return sum(
        math.prod(shape) * (2 if name.rpartition(".")[2] in double else 1)
        for name, shape in shapes.items()
    )


def checkpoint(parts):
    """Hyperparameters of the parts that have some, and all arrays, by dotted names."""
    given, arrays = {}, {}
    for name, part in parts:
        part = part.layer if isinstance(part, Gated) else part
        own = part.params
        if hasattr(part, "to_checkpoint"):
            given[name], own = part.to_checkpoint()
        arrays |= {f"{name}.{key}": a for key, a in own.items()}
    return given, arrays
