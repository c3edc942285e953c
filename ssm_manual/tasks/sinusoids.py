"""Sums of two sinusoids in noise: what is the next sample, and what are the next fifty?

Each feature of each sequence is ``sin(f1 t + p1) + 0.5 sin(f2 t + p2)`` with frequencies and phases
of its own, plus noise. A model that reads x_0 .. x_t says what comes at t + 1. It gives the step
``x_{t+1} - x_t``, which is added to the last sample: mean squared errors are the same, and where a
model knows nothing yet, its answer is the last sample.

Source: the data of Meggison/S4-SSM, tutorial 4, where the sequences, their number and the 20 epochs
are as here, and the test error after training is 0.00757.
"""

from typing import ClassVar, NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks.free_run import Autoregression, free_run
from ssm_manual.tasks.protocol import Option, Parts, Score, Sealed, Settings, Task
from ssm_manual.training import Batches

__all__ = [
    "NOISE",
    "STEP",
    "Forecasts",
    "Sequences",
    "SinusoidForecast",
    "sequences",
]

#: Radians between two samples at frequency 1: two hundred steps to 4 pi.
STEP = 4 * np.pi / 200

#: Standard deviation of the noise.
NOISE = 0.05

#: Numbers of past samples among which the autoregression chooses.
ORDERS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192)


class Sequences(NamedTuple):
    """What `sequences` draws.

    Attributes
    ----------
    noisy, clean : ndarray
        (sequences, length, features), with noise and without.
    """

    noisy: np.ndarray
    clean: np.ndarray


def sequences(rng, items, length, *, features=3, noise=NOISE):
    """``sin(f1 t + p1) + 0.5 sin(f2 t + p2)`` plus normal noise, t = 0, `STEP`, 2 `STEP`, ...

    f1 is uniform in [0.5, 2.5], f2 in [1, 4], both phases on the circle; all are drawn anew for
    every feature of every sequence.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    items : int
        Sequences, at least 1.
    length : int
        Samples of each, at least 1.
    features : int
        At least 1.
    noise : float
        Its standard deviation, at least 0, in units of the larger amplitude.

    Returns
    -------
    Sequences
        In double precision.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> noisy, clean = sequences(np.random.default_rng(0), 2, 200)
    >>> noisy.shape, round(float(np.std(noisy - clean)), 2)
    ((2, 200, 3), 0.05)
    """
    _validate.generator("rng", rng)
    items = _validate.length("items", items, minimum=1)
    length = _validate.length("length", length, minimum=1)
    features = _validate.size("features", features)
    _validate.room(items=items, length=length, features=features)
    noise = _validate.real_number("noise", noise, minimum=0, maximum=1e300)
    shape = items, 1, features
    f1, f2 = rng.uniform(0.5, 2.5, shape), rng.uniform(1, 4, shape)
    p1, p2 = rng.uniform(0, 2 * np.pi, shape), rng.uniform(0, 2 * np.pi, shape)
    t = STEP * np.arange(length)[:, np.newaxis]
    clean = np.sin(f1 * t + p1) + 0.5 * np.sin(f2 * t + p2)
    return Sequences(clean + noise * rng.standard_normal(clean.shape), clean)


class Forecasts(Batches):
    """Batches of sequences and their steps, and how the sequences go on.

    Parameters
    ----------
    drawn : Sequences
    length : int
        Samples that are read.
    batch_size : int
    shuffle : bool

    Attributes
    ----------
    later : Sequences
        From the sample after the last one read.
    """

    def __init__(self, drawn, length, *, batch_size, shuffle=True):
        x = drawn.noisy[:, : length + 1].astype(np.float32)
        super().__init__(
            x[:, :-1].copy(), np.diff(x, axis=1), batch_size=batch_size, shuffle=shuffle
        )
        self.later = Sequences(*(a[:, length:] for a in drawn))


class SinusoidForecast(Task):
    """The next sample of noisy sums of sinusoids; see the head of this file.

    Parameters
    ----------
    quick, data, **options
        As of `protocol.Task`; options are ``length`` and ``steps``.
    """

    name = "sinusoids"
    title = "Forecast of noisy sums of two sinusoids"
    summary = "the next sample of three noisy sums of sinusoids, and a free run of fifty"
    description = """\
Three features, each a sum of two sinusoids of random frequencies and phases, plus noise (standard
deviation 0.05). From x[0:T] a model says x[1:T+1]. 1000 sequences for training, 200 each for
validation and test; 20 epochs. Beside the models: the last sample again, and an autoregression
whose order is chosen on validation. Further: 50 samples in free run after the end, each forecast
fed back; errors are to what comes without noise, and to what comes with it."""
    options: ClassVar[dict] = {
        "length": Option(200, "samples of a sequence", minimum=10, maximum=5000, quick=60),
        "steps": Option(50, "samples of the free run", minimum=1, maximum=1000),
    }
    loss = "mse"
    metric, metric_label = "loss", "mean squared error of the next sample"
    higher_is_better = False
    percent = False

    def __init__(self, *, quick=False, data=None, **options):
        super().__init__(quick=quick, data=data, **options)
        self.length, self.steps = self.chosen["length"], self.chosen["steps"]
        self.items = (100, 20, 20) if self.quick else (1000, 200, 200)

    def parts(self, seed):
        """Three streams of the seed."""
        drawn = [
            sequences(np.random.default_rng([seed, 2 + i]), items, self.length + self.steps)
            for i, items in enumerate(self.items)
        ]
        train, validation, test = (
            Forecasts(d, self.length, batch_size=size, shuffle=i == 0)
            for i, (d, size) in enumerate(zip(drawn, (10, 50, 50)))
        )
        return Parts(train, validation, Sealed(test))

    def shape(self):
        """A step for every feature at every sample."""
        return {"d_input": 3, "d_output": 3, "task": "regression"}

    def candidates(self, model):
        """Norms are left out: a sample's size is what the answer depends on. The first is used."""
        epochs = 3 if self.quick else 20

        def own(lr, width=None, blocks=1, **options):
            return Settings(
                d_model=width,
                n_layers=blocks,
                options={"norm": "none", "dropout": 0.0, **options},
                lr=lr,
                ssm_lr=lr,
                epochs=epochs,
            )

        # Errors on validation; the LSTM's with 45 features.
        if model in ("lstm", "rnn"):
            return own(0.01), own(0.003)  # 0.00496, 0.00527
        ssm = {"modes": 16, "layer_options": {"dt_min": 0.01, "dt_max": 0.2}}
        slow = {"modes": 16, "layer_options": {"dt_min": 0.01, "dt_max": 0.1}}
        return (
            own(0.02, 32, 3, **ssm),  # 0.00493
            own(0.02, 32, 2, **slow),  # 0.00506, in two thirds of the time
            own(0.005, 32, 2, **slow),  # 0.00545
        )

    def goal(self):
        """The noise of the next sample is what nobody can know."""
        levels = {"the noise alone": NOISE**2}
        if not self.quick and self.length == 200:
            levels = {"goal": 0.0070, "published S4": 0.00757, **levels}
        return levels

    def rivals(self, parts, test):
        """The last sample again, and an autoregression."""
        u, step = test.arrays.u, test.arrays.target
        ahead = self.steps
        stay = Score(
            "last sample",
            float(np.mean(step.astype(float) ** 2)),
            f"free run of {ahead}: {_off(u[:, -1:], test.later.clean):.3g} to the clean sequence",
        )
        fitted, order = self.autoregression(parts)
        run = fitted.free_run(u, order, ahead)
        fit = Score(
            "autoregression",
            fitted.error(_whole(test), order),
            f"order {order}, chosen on validation, at most {fitted.order}; free run of {ahead}: "
            f"{_off(run, test.later.clean):.3g} to the clean sequence",
        )
        return stay, fit

    def autoregression(self, parts):
        """Fitted to the training part, its order chosen on validation.

        Parameters
        ----------
        parts : Parts

        Returns
        -------
        fitted : Autoregression
        order : int
        """
        orders = [n for n in ORDERS if n < self.length]
        fitted = Autoregression(_whole(parts.train), orders[-1])
        errors = [fitted.error(_whole(parts.validation), n) for n in orders]
        return fitted, orders[int(np.argmin(errors))]

    def further(self, model, test):
        """Errors of the free run."""
        run = free_run(model, test.arrays.u, self.steps)
        return {
            f"free run of {self.steps}, to the clean sequence": _off(run, test.later.clean),
            f"free run of {self.steps}, to the noisy sequence": _off(run, test.later.noisy),
        }

    def draw(self, runs, ax):
        """One feature of a test sequence, and how the models think it goes on."""
        from ssm_manual import plots

        parts = self.parts(runs[0].seed)
        test = parts.test.open()
        u, later = test.arrays.u[:1], test.later
        shown = min(self.length, 60)
        before, after = np.arange(1 - shown, 1), np.arange(1, self.steps + 1)
        ax.plot(before, u[0, -shown:, 0], ".", color="0.6", markersize=4, label="read")
        ax.plot(after, later.clean[0, :, 0], color="0.2", linewidth=1.2, label="without noise")
        fitted, order = self.autoregression(parts)
        answers = {run.title: free_run(run.model, u, self.steps) for run in runs}
        answers[f"autoregression of order {order}"] = fitted.free_run(u, order, self.steps)
        own = {run.title: plots.model_colour(run.name) for run in runs}
        for name, answer in answers.items():
            look = {"color": own.get(name, "black"), "linestyle": "-" if name in own else ":"}
            ax.plot(after, answer[0, :, 0], linewidth=1.6, label=name, **look)
        ax.axvline(0.5, color="0.8", linewidth=0.8, zorder=0)
        ax.set(xlabel="sample (number after the last one read)", ylabel="x (amplitudes 1 and 0.5)")
        ax.set_title("free run: every forecast is fed back", loc="left")
        ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=5,
                  bbox_to_anchor=(0.5, -0.17))  # fmt: skip


# --------------------------------------------------------------------------------------- internals


def _whole(part):
    """(sequences, length + 1, features): what was read, and the last sample that is asked for."""
    u, step = part.arrays.u, part.arrays.target
    return np.concatenate([u, u[:, -1:] + step[:, -1:]], axis=1).astype(float)


def _off(forecast, truth):
    return float(np.mean((forecast - truth) ** 2))
