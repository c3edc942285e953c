"""``S4DBlock``: a state-space layer, then a map of the features at every time; both pre-norm."""

from ssm_manual import _validate
from ssm_manual.layers import _makers, _parts
from ssm_manual.layers._block import Block, checked_mixing
from ssm_manual.layers._composite import Branch
from ssm_manual.layers.dropout import Dropout
from ssm_manual.layers.linear import Linear

__all__ = ["S4DBlock"]

#: Hidden features of the feed-forward map, in units of H, where nothing is said.
EXPANSION = 4


class S4DBlock(Block):
    """A residual block around an SSM, which alone sees other times.

        glu:           y = u + drop(GLU(W drop(GELU(ssm(norm(u)))) + bias))
        feed_forward:  v = u + drop(ssm(norm(u)))
                       y = v + drop(W_2 drop(GELU(W_1 norm(v) + bias_1)) + bias_2)

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    modes : int, optional
        Stored poles a channel, 32 if nothing is said; None where ``ssm`` is a layer.
    ssm : {"s4d", "s4"} or layer
        The layer within: one that is made here, or one of H features and the same precision.
    norm : {"layer", "rms", "none"}
        What comes before.
    mixer : {"glu", "feed_forward"}
        What comes after.
    expansion : int, optional
        Hidden features of ``feed_forward`` in units of H, 4 if nothing is said; None for ``glu``.
    dropout : float
        Probability that a number is dropped in training, at least 0 and less than 1.
    tied_dropout : bool
        Whether all times of a channel are dropped together.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.
    ssm_options : dict, optional
        For the layer that is made here, such as ``{"discretisation": "tustin"}``.

    Attributes
    ----------
    params : dict of ndarray
        ``norm.scale``, ``norm.shift``, ``ssm.*`` and, for ``glu``, ``mixer.weight`` (2 H, H) and
        ``mixer.bias``; for ``feed_forward`` ``feed_norm.*``, ``feed_in.*`` (expansion H, H) and
        ``feed_out.*``. Trained in place.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    ``glu`` is the block of state-spaces/s4: its minimal S4D layer with ``output_linear``, in a
    pre-norm residual. ``feed_forward`` is the block of Meggison/S4-SSM. Which of their parameters
    is which of ours, and what is saved for the backward pass: docs/models.md.

    References
    ----------
    A. Gu, A. Gupta, K. Goel, C. Ré (2022), "On the parameterization and initialization of diagonal
    state space models" (S4D), section 5.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> block = S4DBlock(4, 8, dropout=0.2, rng=rng)
    >>> u = rng.standard_normal((2, 4, 100), dtype=np.float32)
    >>> y, state, cache = block.forward(u, seed=7)
    >>> grad_u, _, grads = block.backward(np.ones_like(y), cache)
    >>> sorted(grads)[:4]
    ['mixer.bias', 'mixer.weight', 'norm.scale', 'norm.shift']
    """

    def __init__(
        self,
        features,
        modes=None,
        *,
        ssm="s4d",
        norm="layer",
        mixer="glu",
        expansion=None,
        dropout=0.1,
        tied_dropout=False,
        dtype="float32",
        rng,
        ssm_options=None,
    ):
        self._chosen = self._checked(features, norm, mixer, expansion, dropout, tied_dropout)
        self._start(_makers.New(dtype, rng), modes, ssm, ssm_options)

    @staticmethod
    def _checked(
        features, norm="layer", mixer="glu", expansion=None, dropout=0.1, tied_dropout=False
    ):
        _validate.one_of("mixer", mixer, ("glu", "feed_forward"))
        if mixer == "feed_forward":
            expansion = EXPANSION if expansion is None else expansion
            _validate.size("expansion", expansion)
        elif expansion is not None:
            raise ValueError(
                f"expansion is {_validate.show(expansion)}; it must be None for mixer 'glu', which "
                "has no hidden features"
            )
        chosen = checked_mixing(features, norm, dropout, tied_dropout)
        return chosen | {"mixer": mixer, "expansion": expansion}

    def _assemble(self, maker, ssm):
        return assemble(maker, ssm, **self._chosen)


def assemble(maker, ssm, *, features, norm, mixer, expansion, dropout, tied_dropout):
    """The branches of a block, by a maker of `_parts`."""
    masks = {"rate": dropout, "tied": tied_dropout}

    def normed(name):
        cls = _parts.NORMS.get(norm)
        return () if cls is None else ((name, maker.part(name, cls, features)),)

    def dropped(name):
        return (name, maker.part(name, Dropout, **masks))

    before = (*normed("norm"), ("ssm", ssm))
    if mixer == "glu":
        return (
            Branch(
                True,
                (
                    *before,
                    ("gelu", maker.part("gelu", _parts.GeluDropout, **masks)),
                    ("mixer", maker.part("mixer", _parts.LinearGLU, features, 2 * features)),
                    dropped("dropout"),
                ),
            ),
        )
    hidden = expansion * features
    return (
        Branch(True, (*before, dropped("dropout"))),
        Branch(
            True,
            (
                *normed("feed_norm"),
                ("feed_in", maker.part("feed_in", Linear, features, hidden)),
                ("gelu", maker.part("gelu", _parts.GeluDropout, **masks)),
                ("feed_out", maker.part("feed_out", Linear, hidden, features)),
                dropped("feed_dropout"),
            ),
        ),
    )
