"""Sizes of published models, as `SequenceModel`: which options they are, and how they are counted.

Four sizes of the gated model of needle-ssm and the S4D model of Meggison/S4-SSM. Ours differ where
ours have poles of their own in every channel; docs/models.md has the table and the reasons.
"""

from ssm_manual import _validate
from ssm_manual.layers import _makers
from ssm_manual.models import _sequence_parts
from ssm_manual.models.sequence import SequenceModel

__all__ = ["ORIGINAL_COUNTS", "PRESETS", "count_parameters", "parameter_count", "preset"]


def _gated(d_model, n_layers):
    return {"d_model": d_model, "n_layers": n_layers, "block": "gated", "positions": 2048,
            "modes": 32, "expansion": 4}  # fmt: skip


#: Options of `SequenceModel` by preset. 32 stored poles are 64 real states.
PRESETS = {
    "small": _gated(512, 4),
    "medium": _gated(768, 6),
    "large": _gated(1024, 6),
    "xlarge": _gated(1024, 12),
    "s4d": {"d_model": 128, "n_layers": 4, "mixer": "feed_forward", "modes": 32},
}

#: Parameters of the originals: of the gated ones without encoder, last norm and head, which they
#: have not; of ``s4d`` with one input and ten classes.
ORIGINAL_COUNTS = {
    "small": 11_684_356,
    "medium": 37_299_462,
    "large": 65_460_998,
    "xlarge": 128_824_844,
    "s4d": 663_306,
}


def preset(name, d_input, d_output, *, rng, dtype="float32", **options):
    """A model of a published size.

    Parameters
    ----------
    name : {"small", "medium", "large", "xlarge", "s4d"}
        The size.
    d_input, d_output : int
        As of `SequenceModel`.
    rng : numpy.random.Generator
        Draws the parameters.
    dtype : {"float32", "float64"}
        Precision.
    **options
        Of `SequenceModel`, instead of those of the preset or beside them.

    Returns
    -------
    SequenceModel

    Raises
    ------
    ValueError
        If there is no such preset, or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> preset("s4d", 1, 10, rng=np.random.default_rng(0)).count_parameters()
    597258
    """
    return SequenceModel(d_input, d_output=d_output, rng=rng, dtype=dtype, **_chosen(name, options))


def count_parameters(name, d_input, d_output, **options):
    """The number of parameters of a preset, from its shapes: nothing is formed.

    Parameters
    ----------
    name, d_input, d_output
        As of `preset`.
    **options
        As of `preset`.

    Returns
    -------
    int
        Real numbers; a complex one counts twice.

    Raises
    ------
    ValueError
        As of `preset`.

    Examples
    --------
    >>> count_parameters("xlarge", 1, 1)
    129639425
    """
    return parameter_count(d_input, d_output=d_output, **_chosen(name, options))


def parameter_count(d_input, d_model, d_output, n_layers, **options):
    """The number of parameters of any `SequenceModel`, from their shapes: nothing is formed.

    Parameters
    ----------
    d_input, d_model, d_output, n_layers, **options
        As of `SequenceModel`, without ``dtype`` and ``rng``.

    Returns
    -------
    int
        Real numbers; a complex one counts twice.

    Raises
    ------
    ValueError
        As of `SequenceModel`.

    Examples
    --------
    >>> parameter_count(1, 64, 10, 2, block="lstm")
    66954
    """
    for key in options:
        _validate.one_of("an option", key, tuple(_DEFAULTS))
    given = _sequence_parts.checked(d_input, d_model, d_output, n_layers, **_DEFAULTS | options)
    return _makers.count(_sequence_parts.shapes(given))


def _chosen(name, options):
    for key in options:
        _validate.one_of("an option", key, ("d_model", "n_layers", *_DEFAULTS))
    return PRESETS[_validate.one_of("name", name, tuple(PRESETS))] | options


_DEFAULTS = {
    key: value
    for key, value in SequenceModel.__init__.__kwdefaults__.items()
    if key not in ("dtype", "rng")
}
