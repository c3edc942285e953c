"""Plain gradient descent against AdamW on the same denoisers, and what each costs.

Both rules get the same model, the same initial parameters, the same training data and as many
updates. Each has learning rates of its own, chosen by the SNR on the last 40 % of the training part
(the last quarter of an electrocardiogram may hold no heart beat): `CANDIDATES` lists what was
compared, and `validation` repeats the comparison.
"""

import time
from typing import NamedTuple

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks import deep_filter, denoising, trained_filter

__all__ = ["CANDIDATES", "MODELS", "RULES", "UPDATES", "Run", "inner", "train", "validation"]

MODELS = ("diagonal", "deep")

RULES = deep_filter.OPTIMIZERS

#: Updates of each model.
UPDATES = {"diagonal": 5000, "deep": deep_filter.UPDATES}

#: Learning rates compared. Of the diagonal SSM they are those of B, C and D; its poles learn more
#: slowly, in the proportion of `trained_filter.RATES`. Beside them, the SNR in dB on the last 40 %
#: of the electrocardiogram's training part, noise at 5 dB, seed 1000.
CANDIDATES = {
    ("diagonal", "descent"): (0.03, 0.1, 0.3),  # 9.26, 9.26, diverges
    ("diagonal", "adamw"): (0.003, 0.01, 0.03),  # 9.25, 9.28, 9.29
    ("deep", "descent"): (0.03, 0.1, 0.3, 1.0),  # 14.70, 15.57, diverges, diverges
    ("deep", "adamw"): (0.004, 0.008, 0.016),  # 16.80, 16.67, 16.41
}

#: The chosen ones.
RATES = {
    ("diagonal", "descent"): 0.1,
    ("diagonal", "adamw"): 0.03,
    ("deep", "descent"): deep_filter.RATES["descent"],
    ("deep", "adamw"): deep_filter.RATES["adamw"],
}


class Run(NamedTuple):
    """One model trained by one rule.

    Attributes
    ----------
    model, rule : str
        Of `MODELS` and `RULES`.
    lr : float
        Largest learning rate.
    losses : ndarray
        ``(updates,)``: mean e^2 in units of the clean training power.
    steps, seconds : ndarray
        Processor time of training, data included, after so many updates; without compilation.
    parameters, memory : int
        Real numbers that are trained; those that the rule keeps beside them.
    snr : float
        SNR of the restored signal on the held-out part, dB.
    """

    model: str
    rule: str
    lr: float
    losses: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    parameters: int
    memory: int
    snr: float


def inner(samples, **options):
    """The task within the training part: fitted to its first 60 %, compared on the rest.

    Parameters
    ----------
    samples : array_like
        ``(length,)``, the whole signal; its last 30 % are not looked at.
    **options
        Of `denoising.prepare`.

    Returns
    -------
    denoising.Task
    """
    start = denoising.prepare(samples, **options).start
    return denoising.prepare(samples[:start], train_share=0.6, **options)


def train(task, model, rule, *, lr=None, updates=None, seed=0, draws=32):
    """Train one model by one rule, and score it on the task's held-out part.

    Parameters
    ----------
    task : denoising.Task
    model : {"diagonal", "deep"}
        The latter in both directions.
    rule : {"adamw", "descent"}
    lr : float, optional
        None: the chosen one.
    updates : int, optional
        None: those of `UPDATES`.
    seed : int
        Of everything; initial parameters and data are the same for both rules.
    draws : int
        Draws of noise to score on.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If an argument does not fit, or training diverges.
    StepDivergenceError
        The deep model's way to say so.
    """
    _validate.one_of("model", model, MODELS)
    _validate.one_of("rule", rule, RULES)
    lr = RATES[model, rule] if lr is None else _validate.real_number("lr", lr, above=0)
    updates = UPDATES[model] if updates is None else updates
    updates = _validate.integer("updates", updates, minimum=1)
    draws = _validate.integer("draws", draws, minimum=1)
    seed = _validate.integer("seed", seed, minimum=0)
    fit = _diagonal if model == "diagonal" else _deep
    fit(task, rule, lr, 1, seed, lambda *_: None)  # compiles what must be, before the clock
    clock, times = time.process_time(), []
    trained = fit(
        task, rule, lr, updates, seed, lambda n, _: times.append((n, time.process_time() - clock))
    )
    steps, seconds = np.array(times).T
    unseen = np.random.default_rng([seed, 4])
    held_out = slice(task.start, task.clean.size - task.lookahead)
    noisy = task.clean + task.sigma * unseen.standard_normal((draws, task.clean.size))
    errors = np.array([trained(row) - task.clean for row in noisy])[:, held_out]
    reals = (a.size * (1 + np.iscomplexobj(a)) for a in trained.model.params.values())
    parameters = int(sum(reals))
    return Run(
        model,
        rule,
        lr,
        trained.losses,
        steps,
        seconds,
        parameters,
        2 * parameters if rule == "adamw" else 0,
        denoising.snr(task.clean[held_out], errors),
    )


def validation(samples, model, rule, *, seed=1000, updates=None, **options):
    """How the learning rate was chosen: SNR within the training part, of every candidate.

    Parameters
    ----------
    samples : array_like
        ``(length,)``.
    model, rule : str
        See `train`.
    seed : int
        One that no reported run has.
    updates : int, optional
        See `train`.
    **options
        Of `denoising.prepare`.

    Yields
    ------
    lr, snr : float
        SNR in dB; minus infinity where training diverged.
    """
    from ssm_manual.training import StepDivergenceError

    _validate.one_of("model", model, MODELS)
    _validate.one_of("rule", rule, RULES)
    seed = _validate.integer("seed", seed, minimum=0)
    if updates is not None:
        updates = _validate.integer("updates", updates, minimum=1)
    task = inner(samples, **options)
    for lr in CANDIDATES[model, rule]:
        try:
            run = train(task, model, rule, lr=lr, updates=updates, seed=seed)
            yield lr, run.snr
        except (StepDivergenceError, ValueError):  # or kernels refuse what has become of it
            yield lr, -np.inf


# --------------------------------------------------------------------------------------- internals


def _deep(task, rule, lr, updates, seed, progress):
    rng = np.random.default_rng([seed, 1])
    return deep_filter.train(
        task, epochs=updates, optimizer=rule, lr=lr, rng=rng, progress=progress
    )


def _diagonal(task, rule, lr, updates, seed, progress):
    """`trained_filter.train` in its plainest mode, written out so that either rule fits."""
    from ssm_manual.models import DiagonalSSM
    from ssm_manual.ops.loss import half_mse_fwd, half_mse_vjp
    from ssm_manual.training import AdamW, GradientDescent, Group
    from ssm_manual.training.clamp import clamp_discrete

    rng = np.random.default_rng([seed, 1])
    gain = 1 / np.sqrt(1 + task.sigma**2)
    dtype = np.dtype("float32")
    batches = trained_filter._batches(task, gain, dtype, rng)
    model = DiagonalSSM.initial(16, rng=rng, dtype=dtype.name)
    first = np.array(model.A_bar)
    ratio = trained_filter.RATES["A"] / trained_filter.RATES["B"]
    poles = [Group("poles", lambda name: name == "A", lr=lr * ratio)]
    if rule == "adamw":
        optimizer = AdamW(model.params, lr=lr, weight_decay=0.0, groups=poles)
    else:
        optimizer = GradientDescent(model.params, lr=lr, groups=poles)
    radius = min(trained_filter.RADIUS, float(np.exp(-trained_filter.FORGET / task.start)))
    losses = []
    for start, count, factor in trained_filter._stages(updates):
        for _ in range(count):
            u, target = (x[0] for x in batches(start, 1))
            y, _, cache = model.forward(u)
            with np.errstate(over="ignore"):
                loss, residuals = half_mse_fwd(y, target)
            if not np.isfinite(loss):
                raise ValueError(
                    f"training diverged at update {len(losses)}; lr {lr:g} is too large"
                )
            _, _, grads = model.backward(half_mse_vjp(residuals, 1.0)[0], cache)
            losses.append(2 * float(loss) / gain**2)
            optimizer.step(grads, factor)
            clamp_discrete(model.params["A"], dtype.type(radius))
            progress(len(losses), losses[-1])
    losses = np.array(losses)
    return trained_filter.TrainedFilter(model, gain, task.lookahead, losses, first, 0)
