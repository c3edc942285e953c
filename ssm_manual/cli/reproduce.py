"""``ssm-manual denoise --reproduce`` and ``--preset long``: two published runs, repeated."""

import sys

import numpy as np

from ssm_manual import plots
from ssm_manual._numba import announce_compilation
from ssm_manual.cli import _output
from ssm_manual.tasks import published

__all__ = ["preset_long", "reproduce"]

#: The largest relative deviation of a loss that counts as a repetition.
TOLERANCE = 1e-3

#: Full back-propagation through time from the same start: factors on all learning rates.
BPTT_SCALES = (1, 5)


def reproduce(args):
    """Repeat the published run; exit status 1 if a loss differs by more than `TOLERANCE`.

    Parameters
    ----------
    args : argparse.Namespace
        With ``figure`` and ``json``, paths or None.

    Returns
    -------
    int
        0 or 1.
    """
    with announce_compilation(lambda line: print(line, file=sys.stderr)):
        run = published.run_published()
        full = {scale: published.run_published("bptt", scale) for scale in BPTT_SCALES}
    figures = published.published_figures()
    worst, last_place = _print_log(run, figures["log"])
    table = _print_verification(run, figures["verification"])
    passed = worst <= TOLERANCE
    print(
        f"\nlargest relative deviation of a loss: {worst:.1e} (allowed {TOLERANCE:g}): "
        f"{'reproduced' if passed else 'NOT reproduced'}"
    )
    print(f"largest deviation of a printed parameter: {last_place} units in its third decimal")
    print(f"largest deviation in the verification table: {table} units in its second decimal")
    _print_full(run, full)
    if args.figure is not None:
        _output.write_figure(args.figure, _figure(run, full, figures["log"]))
        print(f"figure: {args.figure}")
    if args.json is not None:
        _output.write_json(args.json, _results(run, full, worst, last_place, table, passed))
        print(f"results: {args.json}")
    return 0 if passed else 1


def _print_log(run, log):
    """The log beside the published one; returns the worst deviations of losses and parameters."""
    print("The published run: one-step direction, complex64. Ours, and in brackets as published.")
    worst, last_place = 0.0, 0
    for entry in log:
        epoch, channel = entry["epoch"], entry["channel"]
        loss = float(run.losses[epoch])
        deviation = abs(loss / entry["loss"] - 1)
        worst = max(worst, deviation)
        if channel == 0:
            print(
                f"\nepoch {epoch:4d}  loss {loss:.6f} ({entry['loss']:.6f})  off by {deviation:.1e}"
            )
        shown = []
        for name, symbol in (("A_bar", "A"), ("B_bar", "B"), ("C", "C")):
            ours, theirs = complex(run.params_log[epoch][symbol][channel]), complex(*entry[name])
            last_place = max(last_place, _units(ours, theirs, 3))
            shown.append(f"{name} {_complex(ours, 3)} ({_complex(theirs, 3)})")
        print(f"  pole {channel}  " + "  ".join(shown))
    return worst, last_place


def _print_verification(run, rows):
    y, _, _ = run.model.forward(published.published_data()[0])
    print("\nverification after 10,000 epochs\nstep  prediction      (published)      target")
    worst = 0
    for row in rows:
        ours, theirs = complex(y[row["step"]]), complex(*row["prediction"])
        worst = max(worst, _units(ours, theirs, 2))
        print(
            f"{row['step']:4d}  {_complex(ours, 2)}  ({_complex(theirs, 2)})  "
            f"{row['target'][0]:6.2f}"
        )
    return worst


def _print_full(run, full):
    """What the gradient of the loss reaches from the same start."""
    print("\nfull back-propagation through time, from the same start:")
    print("rates          loss at epoch 1000        5000        9000")
    rows = [("one-step, x 1", run), *((f"full, x {scale}", r) for scale, r in full.items())]
    for name, r in rows:
        at = [r.losses[epoch] for epoch in (1000, 5000, 9000)]
        print(f"{name:14s}            {at[0]:8.5f}    {at[1]:8.5f}    {at[2]:8.5f}")


def _complex(z, digits):
    width = digits + 3
    return f"{z.real:{width}.{digits}f} {z.imag:+{width}.{digits}f}i"


def _units(ours, theirs, digits):
    """The deviation of what is printed, in units of its last place."""
    pairs = ((ours.real, theirs.real), (ours.imag, theirs.imag))
    return max(round(abs(round(a, digits) - b) * 10**digits) for a, b in pairs)


def _figure(run, full, log):
    figure = plots.figure(7, 4.2)
    ax = figure.add_subplot()
    epochs = np.arange(1, run.losses.size + 1)  # from 1: the axis is logarithmic
    ax.plot(epochs, run.losses, color=plots.CYCLE[0], label="one-step direction, repeated")
    for colour, (scale, r) in zip(plots.CYCLE[1:], full.items()):
        ax.plot(epochs, r.losses, color=colour, label=f"full back-propagation, rates × {scale}")
    points = [(entry["epoch"] + 1, entry["loss"]) for entry in log if entry["channel"] == 0]
    ax.plot(*zip(*points), "o", color=plots.COLOURS["black"], ms=5, label="as published")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="epoch, counted from 1",
        ylabel="loss, sum |e|² (squared units)",
        title="The published run, and what the gradient reaches from the same start",
    )
    ax.legend(fontsize="small")
    return figure


def _results(run, full, worst, last_place, table, passed):
    logged = range(0, published.PUBLISHED_EPOCHS, published.LOG_EVERY)
    return {
        "reproduced": passed,
        "largest_relative_loss_deviation": worst,
        "largest_parameter_deviation_units": last_place,
        "largest_verification_deviation_units": table,
        "losses": {str(e): float(run.losses[e]) for e in logged},
        "full_bptt_losses": {
            f"rates x {scale}": {str(e): float(r.losses[e]) for e in logged}
            for scale, r in full.items()
        },
    }


def preset_long(args):
    """The longer published demonstration, with the correct gradient.

    Parameters
    ----------
    args : argparse.Namespace
        With ``figure`` and ``json``, paths or None.

    Returns
    -------
    int
        0.
    """
    from tqdm import tqdm

    epochs = published.LONG_EPOCHS
    u, target = published.long_data()
    model = published.long_model()
    before, _, _ = model.forward(u)
    bar = tqdm(total=epochs, unit="epoch", disable=not sys.stderr.isatty(), leave=False)
    with announce_compilation(lambda line: print(line, file=sys.stderr)), bar:
        history = model.fit(
            u,
            target,
            epochs=epochs,
            rates=published.LONG_RATES,
            margin=published.LONG_MARGIN,
            progress=lambda done, loss: bar.update(done - bar.n),
        )
    after, _, _ = model.forward(u)
    print(f"long preset: 500 samples, dt 1e-3 s, four continuous poles, {epochs} epochs")
    print(" epoch   mean |e|^2")
    for epoch in sorted({*range(0, epochs, max(1, epochs // 10)), epochs - 1}):
        print(f"{epoch:6d}   {history.losses[epoch]:.5f}")
    print("pole       A before (1/s)         A after (1/s)")
    for n, (a, b) in enumerate(zip(published.long_model().params["A"], model.params["A"])):
        print(f"{n:4d}   {_complex(complex(a), 3)}   {_complex(complex(b), 3)}")
    if args.figure is not None:
        _output.write_figure(args.figure, _long_figure(u, target, before, after, history))
        print(f"figure: {args.figure}")
    if args.json is not None:
        parameters = {
            name: [[float(np.real(z)), float(np.imag(z))] for z in np.atleast_1d(value)]
            for name, value in model.params.items()
        }
        losses = [float(x) for x in history.losses]
        _output.write_json(args.json, {"losses": losses, "parameters": parameters})
        print(f"results: {args.json}")
    return 0


def _long_figure(u, target, before, after, history):
    figure = plots.figure(9, 4)
    left, right = figure.subplots(1, 2)
    t = 1e-3 * np.arange(u.size)
    left.plot(t, u, color=plots.COLOURS["grey"], lw=1, label="input")
    left.plot(t, target.real, color=plots.COLOURS["black"], lw=2, label="target")
    left.plot(t, before.real, color=plots.COLOURS["orange"], lw=1.5, ls="--", label="before")
    left.plot(t, after.real, color=plots.COLOURS["blue"], lw=1.5, label="after training")
    left.set(xlabel="time (s)", ylabel="amplitude (real part)", title="Input, target and output")
    left.legend(fontsize="small")
    plots.loss_curve(history.losses, right)
    right.set_title("Gradient descent")
    return figure
