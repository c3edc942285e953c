"""``GatedBlock``: a state-space layer behind a gate, then a feed-forward map."""

from ssm_manual import _validate
from ssm_manual.layers import _makers, _parts
from ssm_manual.layers._block import Block, checked_mixing
from ssm_manual.layers._composite import Branch
from ssm_manual.layers.dropout import Dropout
from ssm_manual.layers.linear import Linear

__all__ = ["GatedBlock"]


class GatedBlock(Block):
    """A residual block in which the SSM's output passes a gate.

        [a, gate] = W norm(u) + bias
        v = u + drop(ssm(a) sigmoid(gate))
        y = v + W_2 relu(W_1 v + bias_1) + bias_2

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
    expansion : int
        Hidden features of the feed-forward map in units of H, at least 1.
    dropout : float
        Probability that a number behind the gate is dropped in training, at least 0 and less than
        1. The feed-forward map has no dropout.
    tied_dropout : bool
        Whether all times of a channel are dropped together.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.
    ssm_options : dict, optional
        For the layer that is made here, such as ``{"initial": "real"}``.

    Attributes
    ----------
    params : dict of ndarray
        ``norm.*``, ``project.weight`` (2 H, H), whose second half forms the gate,
        ``project.bias``, ``ssm.*``, ``feed_in.*`` (expansion H, H) and ``feed_out.*``. Trained in
        place.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    The block of needle-ssm (docs/models.md), with an SSM of ours. There is no norm before the
    feed-forward map: its input is the residual stream itself.

    Examples
    --------
    >>> import numpy as np
    >>> block = GatedBlock(4, 8, rng=np.random.default_rng(0))
    >>> y, state = block.step(np.ones((2, 4), np.float32))
    >>> y.shape, state[0].shape
    ((2, 4), (2, 4, 8))
    """

    def __init__(
        self,
        features,
        modes=None,
        *,
        ssm="s4d",
        norm="layer",
        expansion=4,
        dropout=0.1,
        tied_dropout=False,
        dtype="float32",
        rng,
        ssm_options=None,
    ):
        self._chosen = self._checked(features, norm, expansion, dropout, tied_dropout)
        self._start(_makers.New(dtype, rng), modes, ssm, ssm_options)

    @staticmethod
    def _checked(features, norm="layer", expansion=4, dropout=0.1, tied_dropout=False):
        _validate.size("expansion", expansion)
        return checked_mixing(features, norm, dropout, tied_dropout) | {"expansion": expansion}

    def _assemble(self, maker, ssm):
        return assemble(maker, ssm, **self._chosen)


def assemble(maker, ssm, *, features, norm, expansion, dropout, tied_dropout):
    """The branches of a block, by a maker of `_parts`."""
    H, hidden, cls = features, expansion * features, _parts.NORMS.get(norm)
    normed = () if cls is None else (("norm", maker.part("norm", cls, H)),)
    masked = maker.part("dropout", Dropout, rate=dropout, tied=tied_dropout)
    return (
        Branch(
            True,
            (
                *normed,
                ("project", maker.part("project", Linear, H, 2 * H)),
                ("ssm", _parts.Gated(ssm)),
                ("dropout", masked),
            ),
        ),
        Branch(
            True,
            (
                ("feed_in", maker.part("feed_in", Linear, H, hidden)),
                ("relu", maker.part("relu", _parts.ReLU)),
                ("feed_out", maker.part("feed_out", Linear, hidden, H)),
            ),
        ),
    )
