"""How far published training directions point from the gradient, and why the loss does not tell.

    python examples/truncated_directions.py [--quick] [--figure FILE]

Four continuous poles learn to keep the slow of two sinusoids (500 samples, dt = 1 ms). The model is
trained with its gradient. Along the way three directions, as published programs compute them, are
compared with it:

* convolution without conjugates: dK/dA, dK/dB and dK/dC multiplied in as they are;
* full BPTT without the map's conjugates: the recursion is right, Tustin's derivatives are not
  conjugated;
* one step: the adjoint state is cut after its own output, lambda_t = s_t [TRUNC-4].

Then the same model is trained along each of them instead. The losses fall alike.
"""

import argparse
import sys

import numpy as np

from ssm_manual import plots
from ssm_manual.ops import discretize, scan
from ssm_manual.tasks.published import LONG_EPOCHS, LONG_RATES, long_data, long_model
from ssm_manual.training.clamp import clamp_continuous

DT = 1e-3  # seconds per sample
MARGIN = 1e-4  # 1/s: poles are kept at Re A <= -MARGIN
GAP = 16 * np.finfo(float).eps

CONVOLUTION = "convolution, no conjugates"
MAP = "BPTT, map without conjugates"
ONE_STEP = "one step"
GRADIENT = "gradient"
PUBLISHED = (CONVOLUTION, MAP, ONE_STEP)


def start():
    """The model, its input and its target, in double precision."""
    return long_model(np.float64), *long_data(np.float64)


def directions(A, B, C, u, target, names=(GRADIENT, *PUBLISHED)):
    """The loss mean |e|^2, and by name a direction to move A, B and C in.

    Parameters
    ----------
    A, B, C : ndarray
        (N,), complex; A in 1/s.
    u, target : ndarray
        (length,), the input real.
    names : sequence of str
        Which directions.

    Returns
    -------
    loss : float
    found : dict
        By name three arrays (N,).
    """
    (A_bar, B_bar), discretisation = discretize.tustin_fwd(A, B, DT)
    rows = u[np.newaxis, np.newaxis]
    (y, _), residuals = scan.scan_fwd(A_bar, B_bar, C, None, rows, real=False)
    e = (y - target) / u.size  # the gradient of half_mse [LOSS-1]
    found = {}

    def through_map(discrete):
        grad_A, grad_B, _ = discretize.tustin_vjp(discretisation, discrete[:2])
        return grad_A, grad_B, discrete[2]

    def through_map_without_conjugates(discrete):
        # g -> conj(J) g is the vjp; conjugating before and after it leaves J g
        grad_A, grad_B, _ = discretize.tustin_vjp(discretisation, [g.conj() for g in discrete[:2]])
        return grad_A.conj(), grad_B.conj(), discrete[2]

    if GRADIENT in names or MAP in names:
        full = scan.scan_vjp(residuals, (e, None))[:3]
        found[GRADIENT] = through_map(full)
        found[MAP] = through_map_without_conjugates(full)
    if ONE_STEP in names:
        one = scan.scan_vjp(residuals._replace(horizon=1), (e, None))[:3]
        found[ONE_STEP] = through_map(one)
    if CONVOLUTION in names:
        grad_K = np.correlate(e[0, 0], u, mode="full")[u.size - 1 :]  # sum_s e_s u_{s-t}
        t = np.arange(u.size)
        power = A_bar[:, np.newaxis] ** t
        before = t * np.concatenate([np.zeros((A.size, 1)), power[:, :-1]], axis=1)
        wrong = B_bar * C * (before @ grad_K), C * (power @ grad_K), B_bar * (power @ grad_K)
        found[CONVOLUTION] = through_map_without_conjugates(wrong)
    return float(np.mean(np.abs(y - target) ** 2)), {name: found[name] for name in names}


def cosine(a, b):
    """``<a, b> / (|a| |b|)`` with ``<a, b> = Re sum conj(a) b``; 0 where one of them vanishes."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.vdot(a, b).real / size) if size > 0 else 0.0


def distance(a, b):
    """``|a - b| / |b|``."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def train_along(name, epochs):
    """The losses of training along one direction, each before its update."""
    model, u, target = start()
    A, B, C = (model.params[n] for n in "ABC")
    losses = np.empty(epochs)
    for epoch in range(epochs):
        losses[epoch], found = directions(A, B, C, u, target, (name,))
        for parameter, value, direction in zip("ABC", (A, B, C), found[name]):
            value -= LONG_RATES[parameter] * direction
        clamp_continuous(A, DT, MARGIN, GAP)
    return losses


def follow(epochs):
    """Train with the gradient; returns its losses, and the epochs and cosines measured on the way.

    The cosines have the shape (measurements, directions, parameters).
    """
    model, u, target = start()
    marks = np.unique(np.round(np.geomspace(1, epochs, 60)).astype(int)) - 1
    losses, cosines = [], []
    done = 0
    for mark in marks:
        if mark > done:
            run = model.fit(u, target, epochs=int(mark - done), rates=LONG_RATES, margin=MARGIN)
            losses.append(run.losses)
            done = mark
        loss, found = directions(*(model.params[n] for n in "ABC"), u, target)
        true = found[GRADIENT]
        cosines.append([[cosine(a, b) for a, b in zip(found[name], true)] for name in PUBLISHED])
    return np.concatenate([*losses, [loss]]), marks, np.array(cosines)


def draw(marks, cosines, losses):
    """Cosines by parameter, and the losses of training along each direction."""
    figure = plots.figure(9.0, 5.8)
    axes = figure.subplots(2, 2)
    styles = dict(zip(PUBLISHED, ("-", "--", "-.")))
    colours = dict(zip(PUBLISHED, plots.CYCLE[1:]))
    for column, (parameter, ax) in enumerate(zip("ABC", axes.flat)):
        ax.axhline(0, color=plots.COLOURS["grey"], linewidth=0.6)
        for row, name in enumerate(PUBLISHED):
            ax.plot(
                marks + 1, cosines[:, row, column], styles[name], color=colours[name], label=name
            )
        ax.set(xscale="log", ylim=(-1.05, 1.1), title=f"direction to {parameter}")
        ax.set(xlabel="epoch along the gradient, counted from 1", ylabel="cosine with the gradient")
    axes[0, 0].legend(frameon=False, fontsize="small", loc="lower left")
    ax = axes[1, 1]
    for name, values in losses.items():
        ax.plot(
            np.arange(1, values.size + 1),
            values,
            styles.get(name, "-"),
            color=colours.get(name, plots.COLOURS["black"]),
            label=name,
        )
    ax.set(xscale="log", yscale="log", title="loss when trained along each")
    ax.set(xlabel="epoch, counted from 1", ylabel="mean |e|² (squared units)")
    ax.set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize="small", loc="lower left")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv=None):
    """Print the table, write the figure if asked to; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 epochs instead of 5000")
    parser.add_argument("--figure", metavar="FILE", help="write the figure to FILE")
    options = parser.parse_args(argv)
    epochs = 200 if options.quick else LONG_EPOCHS

    model, u, target = start()
    _, found = directions(*(model.params[n] for n in "ABC"), u, target)
    true = found[GRADIENT]
    print("At the start, against the gradient: relative distance (cosine)")
    print(f"{'':30}{'A':>16}{'B':>16}{'C':>16}")
    for name in PUBLISHED:
        cells = (f"{distance(a, b):.4f} ({cosine(a, b):.4f})" for a, b in zip(found[name], true))
        print(f"{name:30}" + "".join(f"{cell:>16}" for cell in cells))

    losses, marks, cosines = follow(epochs)
    losses = {GRADIENT: losses, **{name: train_along(name, epochs) for name in PUBLISHED}}
    print(f"\nAfter {marks[-1]} updates with the gradient: cosine")
    for name, row in zip(PUBLISHED, cosines[-1]):
        print(f"{name:30}" + "".join(f"{value:16.4f}" for value in row))
    print(f"\nLowest cosine on the way, over {len(marks)} measurements")
    for name, row in zip(PUBLISHED, cosines.min(axis=0)):
        print(f"{name:30}" + "".join(f"{value:16.4f}" for value in row))
    print(f"\n{'Trained along it: mean |e|^2':30}{'epoch 0':>16}{f'epoch {epochs - 1}':>16}")
    for name, values in losses.items():
        print(f"{name:30}{values[0]:16.4f}{values[-1]:16.4f}")

    if options.figure:
        draw(marks, cosines, losses).savefig(options.figure, dpi=110)
        print(f"\nFigure: {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
