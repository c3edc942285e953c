"""``Stream``: a recording on its way through a `RecordingFilter`, block by block."""

from collections.abc import Mapping

import numpy as np

from ssm_manual import _validate
from ssm_manual.models._stream_rows import Deep, Recurrence

__all__ = ["Stream"]

#: Samples of silence that are pushed at a time.
_SILENCE = 65536

_PLAIN = (np.dtype(np.float32), np.dtype(np.float64))


class Stream:
    """A recording on its way through a `RecordingFilter`: what it remembers between blocks.

    Any cutting into blocks gives the same bits, because every sample goes through the same
    recurrence; of a deep filter, the same to rounding. One that is not causal gives nothing back
    until `finish`, and holds the whole recording until then.

    Parameters
    ----------
    filter : RecordingFilter
        What to apply, with the parameters that it has now.
    channels : int
        Rows of every block.
    state : mapping of str to array_like, optional
        From `state` of another stream of the same filter, which this one goes on from; None is the
        beginning.

    Raises
    ------
    ValueError
        If ``state`` does not fit.

    Notes
    -----
    A block of n samples costs O(n N) for each channel and about 10 microseconds of its own. What is
    remembered does not grow: two states and at most 63 samples for each channel.
    """

    def __init__(self, filter, channels, state=None):
        self.filter, self.channels = filter, channels
        rows = channels if filter.channels == 1 else 1
        part = Deep if filter.deep else Recurrence
        self._parts = [part(model, rows) for model in filter.models]
        self._causal = filter.causal
        self._skip = filter.delay
        self._held = []  # blocks of a filter that needs all of them
        self._finished = False
        if state is not None:
            self._restore(state)

    def push(self, block):
        """Take the next block and give back what is ready.

        Parameters
        ----------
        block : array_like
            ``(channels, n)``, real, in the recording's units; n may be 0.

        Returns
        -------
        ndarray
            ``(channels, m)``, float64: the next m restored samples, m <= n. The first ``delay``
            samples of output belong before the recording and are dropped. Of a filter that is not
            causal m is 0.

        Raises
        ------
        ValueError
            If the shape or a value does not fit, or the stream was finished, or numbers on the way
            leave the range of the model's format and NaN would come out. The stream then stands
            where it stood.
        """
        u = self._scaled(block)
        if not self._causal:
            self._held.append(u)
            return np.zeros((self.channels, 0))
        return self._restored(u)

    def _scaled(self, block):
        """The block as the models take it, a new array."""
        if self._finished:
            raise ValueError("the stream was finished; begin another one for another recording")
        # a plain array is looked at here, in a tenth of the time; NaN is found below
        if not (type(block) is np.ndarray and block.dtype in _PLAIN and block.dtype.isnative):
            block = _validate.array("block", block, real=True)
        if block.ndim != 2 or len(block) != self.channels:
            _validate.shape("block", block, (self.channels, None), meaning="(channels, n)")
        filter = self.filter
        with np.errstate(over="ignore", invalid="ignore"):
            u = np.subtract(block, filter.offset, dtype=np.float64)
            u /= filter.scale
            u = u.astype(filter.dtype, copy=False)
        if not np.isfinite(u).all():
            _validate.finite_values("block", block)
            raise ValueError(
                f"block holds {block[~np.isfinite(u)][0]:g}, which the model's {filter.dtype} "
                f"cannot hold in units of {filter.scale.min():g}"
            )
        return u

    def _advanced(self, u):
        """The output of every model over its rows."""
        if len(self._parts) == 1:
            return self._parts[0].advance(u)
        rows = (u[i : i + 1] for i in range(len(u)))
        return np.concatenate([part.advance(row) for part, row in zip(self._parts, rows)])

    def _restored(self, u):
        """``offset + scale y`` of every model over its rows, in double precision."""
        before = [part.mark() for part in self._parts]
        try:
            y = self._advanced(u)
            with np.errstate(over="ignore"):
                restored = np.multiply(y, self.filter.scale, dtype=np.float64)
                restored += self.filter.offset
            _validate.sound_values(restored=restored)
        except BaseException:
            for part, mark in zip(self._parts, before):
                part.go_back(mark)
            raise
        if self._skip:
            restored = restored[:, self._skip :]
            self._skip = max(0, self._skip - u.shape[1])
        return restored

    def finish(self):
        """The last ``delay`` samples, as if silence (the offset) followed the recording.

        Of a filter that is not causal: all samples.

        Returns
        -------
        ndarray
            ``(channels, m)``, so that all that was given back is as long as all that was pushed.

        Raises
        ------
        ValueError
            If the stream was finished before.
        """
        rests = [self.push(np.zeros((self.channels, 0)))]  # refuses a stream that was finished
        # in blocks, so that a long delay takes no more memory than sound does
        for start in range(0, self.filter.delay, _SILENCE):
            size = min(_SILENCE, self.filter.delay - start)
            rests.append(self.push(np.broadcast_to(self.filter.offset, (self.channels, size))))
        rest = np.concatenate(rests, axis=1)
        if self._held:
            rest, self._held = self._restored(np.concatenate(self._held, axis=1)), []
        self._finished = True
        return rest

    # ---------------------------------------------------------------------------- state, and back

    def state(self):
        """All that is remembered of the samples so far, as a copy.

        ``filter.stream(channels, state=...)`` goes on from it with the same bits, in this process
        or another: ``np.savez(path, **stream.state())`` keeps it, ``np.load(path)`` gives it back.

        Returns
        -------
        dict of ndarray
            Plain arrays by name. It does not hold the filter.

        Raises
        ------
        ValueError
            If the stream was finished: nothing comes after that.

        Examples
        --------
        >>> import numpy as np
        >>> from ssm_manual.models import DiagonalSSM, RecordingFilter
        >>> smooth = RecordingFilter(DiagonalSSM([0.5], 1.0, 0.25))
        >>> stream = smooth.stream()
        >>> stream.push(np.array([[4.0]]))
        array([[2.]])
        >>> state = stream.state()
        >>> smooth.stream(state=state).push(np.zeros((1, 2)))
        array([[1. , 0.5]])
        """
        if self._finished:
            raise ValueError("the stream was finished; take its state before")
        out = {"channels": np.array(self.channels), "skip": np.array(self._skip)}
        if self._held:
            out["held"] = np.concatenate(self._held, axis=1)
        for index, part in enumerate(self._parts):
            out |= {f"models.{index}.{key}": a for key, a in part.state().items()}
        return out

    def _restore(self, state):
        if not isinstance(state, Mapping):
            raise ValueError(f"state is {_validate.show(state)}; it must be as from Stream.state")
        own = [{} for _ in self._parts]
        rest = {}
        for name in state:
            if not isinstance(name, str):
                raise ValueError(f"state has the key {_validate.show(name)}; it must be a text")
            _, _, key = name.removeprefix("models.").partition(".")
            which = [i for i in range(len(own)) if name.startswith(f"models.{i}.")]
            into, key = (own[which[0]], key) if which else (rest, name)
            into[key] = _array(f"state[{name!r}]", state[name])
        held = rest.pop("held", None)
        if rest.keys() != {"channels", "skip"} or (held is not None and self._causal):
            raise ValueError(
                f"state has {sorted(map(str, state))}; it must be as from Stream.state of the same "
                "filter"
            )
        channels = _validate.integer("state['channels']", rest["channels"])
        if channels != self.channels:
            raise ValueError(f"state has {channels} channels; this stream has {self.channels}")
        self._skip = _validate.integer(
            "state['skip']", rest["skip"], minimum=0, maximum=self.filter.delay
        )
        for index, (part, arrays) in enumerate(zip(self._parts, own)):
            part.restore(f"models.{index}", arrays)
        if held is not None:
            held = _validate.array("state['held']", held, real=True).astype(self.filter.dtype)
            _validate.shape("state['held']", held, (self.channels, None), meaning="(channels, n)")
            self._held = [held]


def _array(name, value):
    """An array of numbers in native byte order, of any dtype."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, whose mask would be ignored; fill it first")
    try:
        a = np.asarray(value)
    except (TypeError, ValueError):  # a ragged list, or one too deep
        raise ValueError(f"{name} is {_validate.show(value)}; it must be an array") from None
    return a.astype(a.dtype.newbyteorder("="), copy=False)
