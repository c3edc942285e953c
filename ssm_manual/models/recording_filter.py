"""``RecordingFilter``: a trained model with all that it takes to run it over a recording."""

import copy

import numpy as np

from ssm_manual import _validate
from ssm_manual.models.diagonal import DiagonalSSM
from ssm_manual.models.sequence import SequenceModel
from ssm_manual.models.stream import Stream

__all__ = ["RecordingFilter", "Stream"]


#: Longest delay in samples, minutes of sound: a file with a longer one would be run for hours.
MOST_DELAY = 2**22


class RecordingFilter:
    """``restored_t = offset + scale y_{t+delay}``, y being the answer to ``(x - offset) / scale``.

    A model is trained on scaled input, at one sampling rate, and may answer late. This object knows
    all three, so that what comes out has the units of what goes in and lies beside it in time.

    Parameters
    ----------
    models : DiagonalSSM, SequenceModel, or sequence of either
        One for all channels, each of which it filters by itself; or one for each channel. Of real
        output, one precision, and either all discrete or all continuous; or deep, from one feature
        to one at every sample.
    offset : float or array_like
        What the recording's silence is, in its units: a number, or one for each model.
    scale : float or array_like
        What one unit of the model's input is, in the recording's units: positive, a number or one
        for each model.
    delay : int
        Samples by which the model's output is late (its lookahead).
    rate : float, optional
        Samples per second of what it was trained on; None where that is not known.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from ssm_manual.models import DiagonalSSM, RecordingFilter
    >>> smooth = RecordingFilter(DiagonalSSM([0.5], 1.0, 0.25), offset=10.0)
    >>> smooth(np.array([[10.0, 12.0, 10.0]]))
    array([[10. , 11. , 10.5]])
    """

    def __init__(self, models, *, offset=0.0, scale=1.0, delay=0, rate=None):
        models = (models,) if isinstance(models, (DiagonalSSM, SequenceModel)) else tuple(models)
        if not models or not all(_serves(m) for m in models):
            raise ValueError(
                f"models is {_validate.show(models)}; it must be one or several DiagonalSSM of "
                "real output, or SequenceModel of one feature with one output at every sample"
            )
        kinds = {(m.dtype.name, _kind(m)) for m in models}
        if len(kinds) > 1:
            raise ValueError(
                f"models has {sorted(kinds)}; all must have one precision and one kind of "
                "parameters"
            )
        self.models = models
        self.offset = self._column("offset", offset)
        self.scale = self._column("scale", scale)
        if np.any(self.scale <= 0):
            raise ValueError(f"scale is {_validate.show(scale)}; it must be positive")
        self.delay = _validate.integer("delay", delay, minimum=0, maximum=MOST_DELAY)
        self.rate = None if rate is None else _validate.real_number("rate", rate, above=0)

    def _column(self, name, value):
        value = np.asarray(_validate.array(name, value, real=True), np.float64)
        if value.shape not in ((), (len(self.models),)):
            raise ValueError(
                f"{name} has shape {value.shape}; it must be a number or ({len(self.models)},), "
                "one for each model"
            )
        return np.broadcast_to(value, (len(self.models),))[:, np.newaxis].copy()

    def __repr__(self):
        model = repr(self.models[0])
        if len(self.models) > 1:
            model = f"{len(self.models)} channels of {model}"
        rate = "any rate" if self.rate is None else f"{self.rate:g} Hz"
        return f"RecordingFilter({model}, {rate}, delay {self.delay})"

    @property
    def channels(self):
        """Channels that it was made for; 1 serves any number, each by itself."""
        return len(self.models)

    @property
    def dtype(self):
        """The models' precision as a real dtype."""
        return self.models[0].dtype

    @property
    def continuous(self):
        """Whether the parameters are continuous, so that another sampling rate can be served."""
        return _kind(self.models[0]) == "continuous"

    @property
    def deep(self):
        """Whether the models are `SequenceModel`."""
        return isinstance(self.models[0], SequenceModel)

    @property
    def causal(self):
        """Whether an output needs nothing beyond the delay; otherwise the whole recording."""
        return not (self.deep and any(_both_ways(m) for m in self.models))

    def stream(self, channels=1, *, state=None):
        """Begin a recording: the result takes its blocks one after the other.

        Parameters
        ----------
        channels : int
            Of the recording.
        state : mapping of str to array_like, optional
            From `Stream.state`, to go on where that stream stood; None is the beginning.

        Returns
        -------
        Stream

        Raises
        ------
        ValueError
            If the filter was made for another number of channels, or ``state`` does not fit.
        """
        channels = _validate.size("channels", channels)
        if self.channels not in (1, channels):
            raise ValueError(
                f"channels is {channels}; this filter has a model for each of {self.channels} "
                "channels and takes recordings of so many"
            )
        return Stream(self, channels, state)

    def __call__(self, samples):
        """Filter a whole recording.

        Parameters
        ----------
        samples : array_like
            ``(channels, length)``, real, in the recording's units.

        Returns
        -------
        ndarray
            Of the same shape, float64, aligned with the input.

        Raises
        ------
        ValueError
            If the shape or a value does not fit.
        """
        samples = _validate.array("samples", samples, real=True)
        _validate.shape("samples", samples, (-1, None), meaning="(channels, length)")
        stream = self.stream(samples.shape[0])
        return np.concatenate([stream.push(samples), stream.finish()], axis=1)

    def resampled(self, rate):
        """The same filter in continuous time, discretised for another sampling rate.

        ``dt`` becomes 1 / rate in the bilinear map [TUSTIN-1]. Frequencies small against both rates
        are filtered alike, up to about half a sample of the slower rate in time; high ones are
        warped. The delay stays the same in seconds, to the nearest sample.

        Parameters
        ----------
        rate : float
            Samples per second, positive.

        Returns
        -------
        RecordingFilter

        Raises
        ------
        ValueError
            If the parameters are discrete, or the filter does not know its own rate.
        """
        rate = _validate.real_number("rate", rate, above=0)
        if self.deep:
            raise ValueError("this filter is deep; it serves the sampling rate of its training")
        if not self.continuous:
            raise ValueError(
                "this filter has discrete poles, which belong to one sampling rate; train it with "
                "continuous parameters to use it at others"
            )
        if self.rate is None:
            raise ValueError("this filter does not know the sampling rate that it was trained at")
        if not 1e-9 < rate / self.rate < 1e9:
            raise ValueError(
                f"rate is {rate:g}, and the filter's own {self.rate:g}; they must be closer"
            )
        delay = self.delay * (rate / self.rate)
        models = [copy.deepcopy(model) for model in self.models]
        for model in models:
            model.params["log_dt"] += model.dtype.type(np.log(self.rate / rate))
        return RecordingFilter(
            models,
            offset=self.offset[:, 0],
            scale=self.scale[:, 0],
            delay=round(delay),
            rate=rate,
        )

    # ---------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self):
        """``(hyperparameters, arrays)`` for `ssm_manual.checkpoint.save`."""
        parts = [model.to_checkpoint() for model in self.models]
        hyperparameters = {
            "delay": self.delay,
            "models": [hyper for hyper, _ in parts],
            "rate": self.rate,
        }
        if self.deep:
            hyperparameters["deep"] = True
        arrays = {"offset": self.offset[:, 0], "scale": self.scale[:, 0]}
        for index, (_, own) in enumerate(parts):
            arrays |= {f"models.{index}.{name}": value for name, value in own.items()}
        return hyperparameters, arrays

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
            False: no value of a model's arrays is read.

        Returns
        -------
        RecordingFilter

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        parts = {str(index): {} for index in range(len(hyperparameters["models"]))}
        for name, value in arrays.items():
            if name not in ("offset", "scale"):
                group, index, own = (*name.split(".", 2), "", "")[:3]
                if group != "models" or index not in parts:
                    raise ValueError(f"it has an array {_validate.show(name)}, of no model")
                parts[index][own] = value
        kind = SequenceModel if hyperparameters.get("deep") else DiagonalSSM
        models = [
            kind.from_checkpoint(hyper, own, check=check)
            for hyper, own in zip(hyperparameters["models"], parts.values())
        ]
        return cls(
            models,
            offset=arrays["offset"],
            scale=arrays["scale"],
            delay=hyperparameters["delay"],
            rate=hyperparameters["rate"],
        )


def _serves(model):
    if isinstance(model, DiagonalSSM):
        return model.real
    if not isinstance(model, SequenceModel):
        return False
    options = model.options
    real = options["task"] == "regression" and options["encoder"] != "embedding"
    return real and options["d_input"] == options["d_output"] == 1


def _kind(model):
    return "deep" if isinstance(model, SequenceModel) else model.parameters


def _both_ways(model):
    return bool((model.options["layer_options"] or {}).get("bidirectional"))
