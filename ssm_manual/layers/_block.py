"""What the residual blocks around a state-space layer share: options, the layer, checkpoints."""

import inspect

from ssm_manual import _validate
from ssm_manual.layers import _makers, _parts
from ssm_manual.layers._composite import Composite
from ssm_manual.layers.s4 import S4
from ssm_manual.layers.s4d import S4D

__all__ = ["Block", "checked_options"]

#: Layers that a block makes by name.
SSM = {"s4d": S4D, "s4": S4}

#: Layers that a checkpoint of a block can hold.
STORED = {cls.__name__: cls for cls in SSM.values()}

#: Stored modes where nothing is said.
MODES = 32


class Block(Composite):
    """A block of a given width; a subclass has ``_chosen``, its options, and ``_assemble``."""

    @property
    def features(self):
        """Channels H, of input and output."""
        return self._chosen["features"]

    @property
    def dtype(self):
        """The precision."""
        return self._dtype

    @property
    def ssm(self):
        """The layer within that sees other times."""
        part = dict(self._parts())["ssm"]
        return part.layer if isinstance(part, _parts.Gated) else part

    @property
    def _width(self):
        return self.features

    def __repr__(self):
        shown = ", ".join(f"{key} {value}" for key, value in self._chosen.items())
        return f"{type(self).__name__}({shown}, {self.ssm!r})"

    def _start(self, maker, modes, ssm, ssm_options):
        """Make the parts anew, around a layer that is made too or is given."""
        if isinstance(ssm, str):
            cls = SSM[_validate.one_of("ssm", ssm, tuple(SSM))]
            options = checked_options("ssm_options", ssm_options, cls)
            modes = MODES if modes is None else modes
            ssm = maker.part("ssm", cls, self.features, modes, **options)
        else:
            _given_layer(ssm, self.features, maker.dtype)
            for name, value in (("modes", modes), ("ssm_options", ssm_options)):
                if value is not None:
                    raise ValueError(
                        f"{name} is {_validate.show(value)}; it must be None where ssm is a layer, "
                        "which has its own"
                    )
        self._fill(maker, ssm)

    def _fill(self, maker, ssm):
        self._dtype, self._branches = maker.dtype, self._assemble(maker, ssm)

    @classmethod
    def shapes(cls, features, modes=None, *, ssm="s4d", ssm_options=None, **options):
        """Shapes of the parameters of a block that is not made."""
        maker, block = _makers.Counted(), cls.__new__(cls)
        block._chosen = cls._checked(features, **options)
        block._start(maker, modes, ssm, ssm_options)
        return maker.shapes

    # -------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        name = type(self.ssm).__name__
        if name not in STORED:
            raise ValueError(f"ssm is {self.ssm!r}; a checkpoint can hold {' or '.join(STORED)}")
        given, arrays = _makers.checkpoint(self._parts())
        chosen = self._chosen | {"dtype": self.dtype.name}
        return {"options": chosen, "ssm": [name, given["ssm"]]}, arrays

    @classmethod
    def from_checkpoint(cls, hyperparameters, arrays, *, check=True):
        """The inverse of `to_checkpoint`; see `ssm_manual.checkpoint.load`.

        Parameters
        ----------
        hyperparameters : dict
            From a file.
        arrays : dict of ndarray
            From a file; kept, not copied.
        check : bool
            False: names, shapes and dtypes are looked at, but no value is read.

        Returns
        -------
        Composite
            Of the class that was asked.

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        options, (name, own) = dict(hyperparameters["options"]), hyperparameters["ssm"]
        maker = _makers.Stored(options.pop("dtype"), arrays, {"ssm": own}, check)
        ssm = STORED[_validate.one_of("ssm", name, tuple(STORED))]
        block = cls.__new__(cls)
        block._chosen = cls._checked(**options)
        block._fill(maker, maker.part("ssm", ssm, block.features))
        maker.done()
        return block


def checked_options(name, options, cls):
    """Options of a layer's class, by name; those that a block sets itself are not among them."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError(f"{name} is {_validate.show(options)}; it must be a dict, or None")
    taken = inspect.signature(cls).parameters.values()
    allowed = [p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.name not in ("dtype", "rng")]
    for key in options:
        _validate.one_of(f"a key of {name}", key, tuple(allowed))
    return dict(options)


def checked_mixing(features, norm, dropout, tied_dropout):
    """Options that both blocks have."""
    dropout = _validate.real_number("dropout", dropout, minimum=0)
    if dropout >= 1:
        raise ValueError(f"dropout is {dropout!r}; it must be at least 0 and less than 1")
    return {
        "features": _validate.size("features", features),
        "norm": _validate.one_of("norm", norm, ("layer", "rms", "none")),
        "dropout": dropout,
        "tied_dropout": _validate.flag("tied_dropout", tied_dropout),
    }


def _given_layer(ssm, features, dtype):
    if not all(hasattr(ssm, name) for name in ("params", "forward", "backward", "step")):
        raise ValueError(f"ssm is {_validate.show(ssm)}; it must be 's4d', 's4' or a layer")
    if getattr(ssm, "features", None) != features or ssm.dtype != dtype:
        raise ValueError(f"ssm is {ssm!r}; it must have {features} features in {dtype}")
