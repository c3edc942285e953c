"""What ``ssm-manual denoise`` prints and writes."""

import numpy as np

from ssm_manual._version import __version__
from ssm_manual.cli import _output

#: At most so many losses of a channel are written to the JSON file.
LOSSES_WRITTEN = 500


def table(results):
    """The comparison as text: means over the channels, the best method first, the model marked."""
    first = results[0]
    rate = "" if first.rate is None else f" at {first.rate:g} Hz"
    held_out = first.clean.size - first.lookahead - first.start
    lines = [
        f"{first.name.partition(',')[0]}: {first.clean.size} samples{rate}, {first.start} to train "
        f"on, {held_out} compared; noise at {first.noise_snr:g} dB"
    ]
    if first.lookahead:
        lines.append(f"causal methods wait {first.lookahead} samples")
    if len(results) > 1:
        lines.append(f"means over {len(results)} channels, each trained and compared on its own")
    rows = [("", "method", "causal", "SNR in", "SNR out", "gain", "settings")]
    for scores in sorted(_by_method(results), key=lambda scores: -_mean(scores, "snr")):
        snr, gain = _mean(scores, "snr"), _mean(scores, "gain")
        settings = {score.settings for score in scores}
        rows.append(
            (
                "*" if scores[0].method == first.method else "",
                scores[0].method,
                "yes" if scores[0].causal else "no",
                f"{snr - gain:.2f} dB",
                f"{snr:.2f} dB",
                f"{gain:+.2f} dB",
                settings.pop() if len(settings) == 1 else "chosen for each channel",
            )
        )
    lines += ["", *_output.columns(rows, right=(3, 4, 5)), ""]
    if len(results) > 1:
        for result in results:
            score = result.score()
            lines.append(f"{result.name}: {result.snr_in:.2f} -> {score.snr:.2f} dB")
        lines.append("")
    seconds = sum(result.training_seconds for result in results)
    lines.append(
        f"* trained here in {seconds:.1f} s; the settings of all are from the training part"
    )
    if "wavelet shrinkage" not in {score.method for score in first.scores}:
        lines.append(
            "  wavelet shrinkage is left out: PyWavelets is not installed "
            "(pip install 'ssm_manual[examples]')"
        )
    halvings = max(result.halvings for result in results)
    if halvings:
        times = "once" if halvings == 1 else f"{halvings} times"
        lines.append(f"  training diverged at first: its learning rates were halved {times}")
    return "\n".join(lines)


def as_json(results, options, draws):
    """Everything as plain data; complex numbers are pairs."""
    return {
        "version": __version__,
        "options": options,
        "draws": draws,
        "means": [
            {"method": scores[0].method, "causal": scores[0].causal}
            | {name: _mean(scores, name) for name in ("snr", "gain")}
            for scores in _by_method(results)
        ],
        "channels": [_channel(result) for result in results],
    }


def _channel(result):
    step = -(-result.losses.size // LOSSES_WRITTEN)
    return {
        "name": result.name,
        "rate": result.rate,
        "samples": int(result.clean.size),
        "first_held_out": result.start,
        "snr_in": result.snr_in,
        "scores": [score._asdict() for score in result.scores],
        "training_seconds": result.training_seconds,
        "rates_halved": result.halvings,
        "losses": {
            "epochs": list(range(0, result.losses.size, step)),
            "values": result.losses[::step].tolist(),
            "unit": "mean e^2 / power of the clean training part",
        },
        "model": {"repr": repr(result.model), **_poles(result)},
    }


def _poles(result):
    """The diagonal SSM's parameters; a deep model's thousands are for --save."""
    if result.initial_A_bar is None:
        return {}
    parameters = {name: _pairs(value) for name, value in result.model.params.items()}
    return {"initial_A_bar": _pairs(result.initial_A_bar), **parameters}


# ------------------------------------------------------------------------------------ for a store


class Curve:
    """The losses of a channel on their way into a run of a store, if there is one.

    Those that are reported while it trains, so that a run that is broken off has them; and in the
    end all. Where a training was begun anew with smaller rates, its first attempt stays.
    """

    def __init__(self, run, channel, several):
        self._run, self._told = run, {}
        self.name = f"loss, channel {channel}" if several else "loss"

    def reached(self, done, loss):
        """The loss of epoch ``done``, counted from 1."""
        if self._run is not None:
            self._run.log(done - 1, **{self.name: loss})
            self._told[done - 1] = float(loss)

    def complete(self, losses):
        """All losses: those that are not there yet."""
        if self._run is None:
            return
        with self._run.together():
            for epoch, loss in enumerate(losses.tolist()):
                if self._told.get(epoch) != loss:
                    self._run.log(epoch, **{self.name: loss})


def keep(run, results):
    """Signals of all channels, one draw of noise."""
    for name in ("clean", "noisy", "restored"):
        block = np.stack([getattr(result, name) for result in results])
        run.signal(name, dtype=block.dtype, rate=results[0].rate, channels=len(results))
        run.append(name, block)


def scores(results):
    """What came out: the model, and its rivals, in dB; means over the channels."""
    own, found = results[0].method, {}
    for scores in _by_method(results):
        if scores[0].method == own:
            snr, gain = _mean(scores, "snr"), _mean(scores, "gain")
            found = {"SNR out": snr, "SNR in": snr - gain, "gain": gain} | found
        else:
            found[f"SNR out, {scores[0].method}"] = _mean(scores, "snr")
    return found | {"training seconds": sum(result.training_seconds for result in results)}


# --------------------------------------------------------------------------------------- internals


def _by_method(results):
    """One list of scores per method, over the channels, in the order of the first channel."""
    return [[r.score(score.method) for r in results] for score in results[0].scores]


def _mean(scores, name):
    return float(np.mean([getattr(score, name) for score in scores]))


def _pairs(value):
    value = np.asarray(value)
    if np.iscomplexobj(value):
        value = np.stack([value.real, value.imag], axis=-1)
    return value.tolist()
