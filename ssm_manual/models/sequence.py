"""``SequenceModel``: an encoder, blocks, a norm and a head, trained by hand-derived gradients."""

from ssm_manual.layers import _makers
from ssm_manual.layers._composite import Parameters
from ssm_manual.models import _sequence_parts
from ssm_manual.models._sequence_passes import Body, Passes, State

__all__ = ["SequenceModel", "State"]


class SequenceModel(Passes):
    """Sequences to labels, to sequences or to the next token: encoder, blocks, norm, head.

    Parameters
    ----------
    d_input : int
        Features of a sample; of ``encoder="embedding"`` the size of the vocabulary.
    d_model : int
        Features H within.
    d_output : int
        Features of an output: classes, targets or the vocabulary.
    n_layers : int
        Number of blocks.
    task : {"classification", "regression", "generation"}
        ``classification``: the times are pooled, one output for each sequence. The other two: one
        output for each sample; ``generation`` must be causal.
    block : {"s4d", "s4", "gated", "rnn", "lstm"}
        `layers.S4DBlock` around S4D or S4, `layers.GatedBlock`, or the plain recurrent layer
        followed by dropout.
    encoder : {"linear", "two_layer", "embedding"}
        Dense; dense, GELU, dense; or a row of a table for each id.
    positions : int, optional
        Learned positions for so many times are added to what is encoded; no sequence may be longer.
    pooling : {"mean", "last"}, optional
        For ``classification``; ``mean`` if nothing is said.
    modes : int, optional
        Stored poles a channel of an SSM, 32 if nothing is said.
    mixer : {"glu", "feed_forward"}, optional
        Of `layers.S4DBlock`; ``glu`` if nothing is said.
    expansion : int, optional
        Hidden features of a feed-forward map in units of H, 4 if nothing is said.
    norm : {"layer", "rms", "none"}
        Before what a block does, and before the head.
    dropout : float
        Probability that a number is dropped in training, at least 0 and less than 1.
    tied_dropout : bool
        Whether all times of a channel are dropped together.
    dtype : {"float32", "float64"}
        Precision of parameters, inputs and outputs.
    rng : numpy.random.Generator
        Draws the parameters.
    layer_options : dict, optional
        For the layer in every block, such as ``{"bidirectional": True}`` of `layers.S4D`.

    Attributes
    ----------
    params : dict of ndarray
        By dotted names, such as ``blocks.0.ssm.C``; trained in place.
    options : dict
        All of the above but dtype and rng, as they were completed.

    Raises
    ------
    ValueError
        If an argument does not fit, or is not meant for the block or the task.

    Notes
    -----
    Diagrams, the formula of the number of parameters and what is saved for the backward pass:
    docs/models.md.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> model = SequenceModel(3, 8, 5, 2, modes=4, rng=rng)
    >>> y, state, cache = model.forward(rng.standard_normal((2, 50, 3), dtype=np.float32), seed=1)
    >>> y.shape
    (2, 5)
    >>> grad_u, _, grads = model.backward(np.ones_like(y), cache)
    >>> model.count_parameters()
    701
    """

    def __init__(
        self,
        d_input,
        d_model,
        d_output,
        n_layers,
        *,
        task="classification",
        block="s4d",
        encoder="linear",
        positions=None,
        pooling=None,
        modes=None,
        mixer=None,
        expansion=None,
        norm="layer",
        dropout=0.1,
        tied_dropout=False,
        dtype="float32",
        rng,
        layer_options=None,
    ):
        self.options = _sequence_parts.checked(
            d_input,
            d_model,
            d_output,
            n_layers,
            task=task,
            block=block,
            encoder=encoder,
            positions=positions,
            pooling=pooling,
            modes=modes,
            mixer=mixer,
            expansion=expansion,
            norm=norm,
            dropout=dropout,
            tied_dropout=tied_dropout,
            layer_options=layer_options,
        )
        self._fill(_makers.New(dtype, rng))

    def _fill(self, maker):
        parts, self._head = _sequence_parts.assemble(maker, self.options)
        self._body, self.dtype = Body(parts), maker.dtype

    # ---------------------------------------------------------------------------------- what it is

    def __repr__(self):
        o = self.options
        return (
            f"SequenceModel({o['d_input']} to {o['d_model']} to {o['d_output']}, {o['n_layers']} "
            f"{o['block']} blocks, {o['task']}, {self.count_parameters()} parameters, {self.dtype})"
        )

    @property
    def params(self):
        """Arrays by dotted names: those of the layers, trained in place."""
        head = {f"head.{key}": a for key, a in self._head.params.items()}
        return Parameters(self._body.params | head)

    @property
    def layers(self):
        """The layers by name, in order: encoder, positions, blocks, norm, head."""
        return dict(self._body._parts()) | {"head": self._head}

    def count_parameters(self):
        """How many real numbers are trained; a complex one counts twice.

        Returns
        -------
        int
        """
        return _makers.count({name: a.shape for name, a in self.params.items()})

    def summary(self):
        """Name, shape, count and dtype of every parameter, and the total.

        Returns
        -------
        str
            A table; complex numbers count twice.
        """
        rows = [("parameter", "shape", "numbers", "dtype")]
        for name, a in self.params.items():
            rows.append((name, str(a.shape), str(_makers.count({name: a.shape})), a.dtype.name))
        rows.append(("total", "", str(self.count_parameters()), ""))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip()
            for a, b, c, d in rows
        )

    # -------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        layers, arrays = _makers.checkpoint(list(self.layers.items()))
        return {"options": self.options, "dtype": self.dtype.name, "layers": layers}, arrays

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
        SequenceModel

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        model = cls.__new__(cls)
        model.options = _sequence_parts.checked(**hyperparameters["options"])
        given = hyperparameters["dtype"], arrays, hyperparameters["layers"]
        maker = _makers.Stored(*given, check)
        model._fill(maker)
        maker.done()
        return model
