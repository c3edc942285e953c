"""The figure of ``ssm-manual runs plot``: metrics over steps, signals over time."""

import numpy as np

#: Panels that are drawn unasked.
PANELS = 6

#: A metric is drawn on a logarithmic axis where its values span more than this factor.
SPAN = 20


def draw(runs, args):
    """A figure, as the options of the command say."""
    from ssm_manual import plots

    metrics = [run.metrics() for run in runs]
    panels = _metric_panels(metrics, args.metric)
    groups = _signal_groups(runs, args)
    if not panels and not groups:
        raise ValueError("RUN: there is neither a metric nor a signal to draw")
    count = len(panels) + len(groups)
    figure = plots.figure(8.0, 0.5 + 2.5 * count)
    axes = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    for title, names in panels.items():
        _draw_metric(axes.pop(0), title, names, runs, metrics)
    for run, names in groups:
        _draw_signals(axes.pop(0), run, names, args, titled=len(runs) > 1)
    return figure


def _metric_panels(metrics, wanted):
    """``{title: names}``: metrics that differ in what stands before a slash share a panel."""
    known = list(dict.fromkeys(name for own in metrics for name in own))
    if wanted:
        panels = {}
        for name in wanted:
            names = [k for k in known if name in (k, k.rpartition("/")[2])]
            if not names:
                listed = ", ".join(map(repr, known)) or "there is none"
                raise ValueError(f"--metric is {name!r}; it must be one of: {listed}")
            panels[name] = names
        return panels
    panels = {}
    for name in known:
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    chosen = {title: names for title, names in panels.items() if "loss" in title.lower()} or panels
    return dict(list(chosen.items())[:PANELS])


def _signal_groups(runs, args):
    """``[(run, names)]``: signals of a run that lie side by side share a panel."""
    groups = []
    for run in runs:
        signals = run.signals
        if args.signal is None:
            names = list(signals) if len(runs) == 1 else []
        else:
            names = [name for name in args.signal if name in signals]
        together = {}
        for name in names:
            signal = signals[name]
            if signal.length > 1:
                together.setdefault((signal.length, signal.rate), []).append(name)
        groups += [(run, found) for found in together.values()]
    drawn = {name for _, names in groups for name in names}
    for name in args.signal or ():
        if name not in drawn:
            raise ValueError(f"--signal is {name!r}; no RUN has a signal of this name to draw")
    return groups if args.signal else groups[:PANELS]


def _draw_metric(ax, title, names, runs, metrics):
    from ssm_manual import plots

    ax.set_prop_cycle(color=plots.CYCLE)
    ax.spines[["top", "right"]].set_visible(False)
    least, largest, lines = np.inf, -np.inf, 0
    for run, own in zip(runs, metrics):
        for name in names:
            if name not in own:
                continue
            steps, values = own[name]
            finite = np.isfinite(values)
            label = _text(name.rpartition("/")[0]) or ("" if len(runs) > 1 else _text(name))
            if len(runs) > 1:
                label = f"run {run.id} {label}".strip()
            if not finite.all():
                label += f" ({values.size - finite.sum()} not finite)"
            style = {"marker": "o", "markersize": 3} if values.size < 30 else {}
            drawn = np.where(finite, values, np.nan)  # a gap in the line
            ax.plot(steps, drawn, label=label, linewidth=1.1, **style)
            lines += 1
            if finite.any():
                least = min(least, values[finite].min())
                largest = max(largest, values[finite].max())
    if 0 < least < largest / SPAN:
        ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="step", ylabel=_text(title))
    # which run a line is of is said also where the others have none
    if len(runs) > 1 or lines > 1 or any("not finite" in line.get_label() for line in ax.lines):
        ax.legend(frameon=False, fontsize="small")


def _draw_signals(ax, run, names, args, *, titled):
    from ssm_manual import plots

    described = run.signals
    length, rate = described[names[0]].length, described[names[0]].rate
    count = min(args.samples, length)
    start = max(0, (length - count) // 2) if args.start is None else args.start
    if start >= length - 1:
        raise ValueError(
            f"--start is {start}; signal {names[0]!r} of run {run.id} has {length} samples"
        )
    stop = min(length, start + count)
    # what others are drawn over comes first
    order = sorted(names, key=lambda name: name not in ("noisy", "before", "input"))
    traces = {}
    for name in order:
        channels = described[name].channels
        if args.channel >= (channels or 1):
            raise ValueError(
                f"--channel is {args.channel}; signal {name!r} of run {run.id} has "
                f"{channels or 1}, counted from 0"
            )
        block = run.read(name, start, stop)
        block = block if channels is None else block[args.channel]
        block = np.abs(block) if block.dtype.kind == "c" else block
        block = np.asarray(block, np.float64)
        finite = np.isfinite(block)
        label = _text(f"|{name}|" if described[name].dtype.startswith("complex") else name)
        if not finite.all():
            label += f" ({block.size - finite.sum()} not finite)"
        while label in traces:  # two long names that begin alike
            label += "'"
        traces[label] = np.where(finite, block, np.nan)
    plots.signals(traces, rate, ax, start=start, gaps=True)
    several = any((described[name].channels or 1) > 1 for name in names)
    if titled or several:
        title = f"run {run.id}" + f", channel {args.channel}" * several
        ax.set_title(title, loc="left", fontsize="medium")


def _text(name):
    """A name as Matplotlib shows it: no formula, nothing that it would hide."""
    name = "".join(c if c.isprintable() else "?" for c in name)[:60].replace("$", r"\$")
    return name.lstrip("_") or name.replace("_", "-")
