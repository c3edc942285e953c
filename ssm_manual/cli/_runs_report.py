"""What ``ssm-manual runs`` prints and writes."""

import datetime
import json
import textwrap

import numpy as np

from ssm_manual.cli import _output

#: Longest text of a cell.
WIDEST = 48


def listing(runs):
    """One line a run."""
    if not runs:
        return "no runs"
    rows = [("run", "name", "status", "began", "took", "seed", "tags", "result")]
    for run in runs:
        scores = [f"{name} {number(value)}" for name, value in run.scores.items()]
        rows.append(
            (
                str(run.id),
                short(run.name),
                run.status,
                moment(run.started),
                took(run),
                "" if run.seed is None else short(json.dumps(run.seed)),
                short(", ".join(run.tags)),
                short(scores[0]) if scores else short(run.error),
            )
        )
    return "\n".join(_output.columns(rows, right=(0, 4)))


def about(run):
    """All about a run but its values."""
    from ssm_manual.store import describe

    signals = {name: signal._asdict() for name, signal in run.signals.items()}
    return describe(run) | {"signals": signals, "checkpoints": run.checkpoints}


def curves(run):
    """Every logged value, as plain data."""
    return {
        name: {"steps": steps.tolist(), "values": values.tolist()}
        for name, (steps, values) in run.metrics().items()
    }


def details(run):
    """All about a run, in words."""
    rows = [
        ("name", run.name),
        ("status", run.status + (f": {run.error}" if run.error else "")),
        ("began", moment(run.started)),
        ("took", took(run)),
        ("seed", "" if run.seed is None else json.dumps(run.seed)),
        ("tags", ", ".join(run.tags)),
    ]
    lines = [f"run {run.id}", *_paragraphs(row for row in rows if row[1])]
    for title, data in (("configuration", run.config), ("versions", run.versions)):
        lines += ["", title, *_paragraphs(flat(data).items())]
    if run.scores:
        lines += ["", "scores", *_indented(
            [(name, number(value)) for name, value in run.scores.items()], right=(1,)
        )]  # fmt: skip
    metrics = run.metrics()
    if metrics:
        rows = [("metric", "values", "steps", "first", "last", "least", "largest", "not finite")]
        for name, (steps, values) in metrics.items():
            finite = values[np.isfinite(values)]
            ends = (number(finite.min()), number(finite.max())) if finite.size else ("", "")
            rows.append(
                (short(name), str(values.size), f"{steps[0]} to {steps[-1]}", number(values[0]),
                 number(values[-1]), *ends, str(values.size - finite.size or ""))
            )  # fmt: skip
        lines += ["", *_indented(rows, right=(1, 3, 4, 5, 6, 7))]
    signals = run.signals
    if signals:
        rows = [("signal", "type", "channels", "samples", "rate", "seconds")]
        for name, signal in signals.items():
            rate = signal.rate
            rows.append(
                (short(name), signal.dtype, str(signal.channels or ""), str(signal.length),
                 "" if rate is None else f"{rate:g} Hz",
                 "" if rate is None else f"{signal.length / rate:.6g}")
            )  # fmt: skip
        lines += ["", *_indented(rows, right=(2, 3, 4, 5))]
    if run.checkpoints:
        lines += ["", "checkpoints", *(f"  {short(name)}" for name in run.checkpoints)]
    return "\n".join(lines)


def comparison(runs):
    """Differences and values of several runs, as plain data: lists in the order of the runs."""
    told = [
        {"name": run.name, "seed": run.seed, "tags": run.tags}
        | flat(run.config)
        | {f"version of {name}": version for name, version in run.versions.items()}
        for run in runs
    ]
    names = _joined(told)
    last = []
    for run in runs:
        metrics = run.metrics()
        last.append({name: float(values[-1]) for name, (_, values) in metrics.items()})
    return {
        "runs": [{"id": run.id, "name": run.name, "status": run.status} for run in runs],
        "same": sum(_equal(told, name) for name in names),
        "differences": {
            name: [own.get(name, "") for own in told] for name in names if not _equal(told, name)
        },
        "scores": {
            name: [run.scores.get(name) for run in runs]
            for name in _joined([run.scores for run in runs])
        },
        "last": {name: [own.get(name) for own in last] for name in _joined(last)},
    }


def side_by_side(found):
    """A `comparison` as text."""
    runs = found["runs"]
    head = [("", *(f"run {run['id']}" for run in runs))]
    head += [("status", *(run["status"] for run in runs))]
    sections = [head]
    differences = found["differences"]
    told = [(short(name), *map(plain, values)) for name, values in differences.items()]
    sections.append([("in which they differ", *[""] * len(runs)), *told])
    for title, key in (("scores", "scores"), ("last value of", "last")):
        if found[key]:
            rows = [
                (short(name), *("" if v is None else number(v) for v in values))
                for name, values in found[key].items()
            ]
            sections.append([(title, *[""] * len(runs)), *rows])
    rows = [row for section in sections for row in section]
    lines = _output.columns(rows, right=range(1, len(runs) + 1))
    out, at = [], 0
    for section in sections:
        out += lines[at : at + len(section)]
        at += len(section)
        if section is sections[1]:
            out.append(f"({found['same']} more are the same)" if differences else "  in nothing")
        out.append("")
    return "\n".join(out[:-1])


# -------------------------------------------------------------------------------- numbers, words


def flat(data, prefix=""):
    """Nested dicts as one, with dots between the keys."""
    found = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def short(text):
    """A text for a cell: one line, not too long."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def plain(value):
    """A value of a configuration for a cell."""
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def number(value):
    """A measured value."""
    return f"{value:.6g}"


def moment(seconds):
    """A time of the clock, local."""
    try:
        return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def took(run):
    """From beginning to end; empty where there is no end."""
    if run.ended is None:
        return ""
    seconds = run.ended - run.started
    if seconds < 100:
        return f"{seconds:.1f} s"
    try:
        return str(datetime.timedelta(seconds=round(seconds)))
    except (ValueError, OverflowError):
        return "?"


def _paragraphs(items):
    items = [(short(name), value) for name, value in items]
    width = max((len(name) for name, _ in items), default=0)
    lines = []
    for name, value in items:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = "".join(c if c.isprintable() else "?" for c in text)
        indent = " " * (width + 4)
        lines.append(
            textwrap.fill(
                text or '""', 100, initial_indent=f"  {name:{width}}  ", subsequent_indent=indent
            )
        )
    return lines


def _indented(rows, right):
    return [f"  {line}" for line in _output.columns(rows, right=right)]


def _joined(dicts):
    """All keys, in the order in which they are met."""
    return list(dict.fromkeys(key for own in dicts for key in own))


def _equal(told, name):
    return all(name in own and own[name] == told[0].get(name) for own in told)
