"""What ``ssm-manual train`` prints and writes."""

import dataclasses
import platform
import textwrap

from ssm_manual._version import __version__
from ssm_manual.cli import _output


def table(found):
    """Scores on the test part, the trained models first, as text."""
    task = found.task
    options = "".join(f", {name} {value}" for name, value in task.chosen.items())
    quick = ", quick: a smaller task" if task.quick else ""
    lines = [f"{task.title}{options}, seed {found.seed}{quick}", ""]
    rows = [("", "model", "parameters", "updates", "time", "kept epoch", "validation", "test")]
    for i, run in enumerate(found.runs):
        rows.append(
            (
                "*" if i == 0 else "",
                run.title,
                f"{run.parameters:,}",
                str(run.updates),
                f"{run.seconds:.1f} s",
                f"{run.best_epoch} of {len(run.history['epoch_loss'])}",
                number(task, run.validation[task.metric]),
                number(task, run.test[task.metric]),
            )
        )
    for rival in found.rivals:
        rows.append(("", rival.name, "", "", "", "", "", number(task, rival.value)))
    for label, value in task.goal().items():
        rows.append(("", label, "", "", "", "", "", number(task, value)))
    lines += _output.columns(rows, right=range(2, 8))
    notes = [(rival.name, rival.note) for rival in found.rivals if rival.note]
    further = [(run.title, run.further) for run in found.runs if run.further]
    if further:
        lines += ["", "further, on the test part:"]
        for name in further[0][1]:
            values = ", ".join(f"{label} {own[name]:.4g}" for label, own in further)
            lines.append(_indented(f"{name}: {values}"))
    if notes:
        lines += ["", *(_indented(f"{name}: {note}") for name, note in notes)]
    lines += ["", f"validation and test: {task.metric_label}"]
    return "\n".join(lines)


def _indented(text):
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ")


def as_json(found):
    """Everything as plain data."""
    task = found.task
    return {
        "version": __version__,
        "python": platform.python_version(),
        "task": task.name,
        "options": task.chosen,
        "quick": task.quick,
        "seed": found.seed,
        "metric": task.metric,
        "levels": task.goal(),
        "runs": [
            {
                "model": run.name,
                "settings": settings_of(run.settings),
                "sequence_model": run.model.options,
                "parameters": run.parameters,
                "updates": run.updates,
                "seconds": run.seconds,
                "best_epoch": run.best_epoch,
                "validation": run.validation,
                "test": run.test,
                "further": run.further,
                "history": run.history,
            }
            for run in found.runs
        ],
        "rivals": [rival._asdict() for rival in found.rivals],
    }


def settings_of(settings):
    """Settings as plain data."""
    plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    frozen = plain.pop("frozen")
    return plain | {"frozen": None if frozen is None else frozen.__name__}


def number(task, value):
    """A value of the task's metric."""
    return f"{100 * value:.2f} %" if task.percent else f"{value:.4g}"


# ------------------------------------------------------------------------------------ for a store


class Diary:
    """What a training tells on its way into a run of a store, if there is one.

    Names begin with the model's: ``s4d/loss`` of every update, counted from 0, and
    ``s4d/validation_loss`` of every epoch, at the last of its updates.
    """

    def __init__(self, run, metadata):
        self._run, self._metadata, self._done = run, metadata, {}

    def each_epoch(self, name, history):
        """Keep what is new in a history."""
        if self._run is None:
            return
        ends = [int(end) - 1 for end in history["epoch_end"]]
        with self._run.together():
            for key, values in history.items():
                if key == "epoch_end":
                    continue
                first = self._done.get((name, key), 0)
                for i, value in enumerate(values[first:], first):
                    step = i if key in UPDATES else ends[min(i, len(ends) - 1)]
                    self._run.log(step, **{f"{name}/{key}": value})
                self._done[name, key] = len(values)

    def end(self, trained):
        """Keep a trained model."""
        if self._run is not None:
            self._run.save_checkpoint(trained.model, trained.name, metadata=self._metadata)


#: What a history has of every update; the rest is of every epoch.
UPDATES = ("loss", "lr", "grad_norm")


def scores(found):
    """Final scores by model, and of what was not trained."""
    metric = found.task.metric
    plain = {}
    for run in found.runs:
        plain[f"test {metric}, {run.name}"] = run.test[metric]
        plain[f"validation {metric}, {run.name}"] = run.validation[metric]
        plain |= {f"{label}, {run.name}": value for label, value in run.further.items()}
        plain[f"training seconds, {run.name}"] = run.seconds
    return plain | {f"test {metric}, {rival.name}": rival.value for rival in found.rivals}


# ------------------------------------------------------------------------------------ how to choose


def differences(tried):
    """Names of the settings in which the candidates differ."""
    plain = [settings_of(settings) for settings in tried]
    return [name for name in plain[0] if any(p[name] != plain[0][name] for p in plain)]


def choice_header(task, tried):
    """What is being chosen."""
    if len(tried) == 1:
        return f"{task.title}: one setting was considered"
    names = ", ".join(differences(tried))
    return f"{task.title}: {len(tried)} candidates, which differ in {names}"


def choice_row(task, tried, settings, run):
    """One candidate's score."""
    plain = settings_of(settings)
    shown = ", ".join(f"{name} {plain[name]}" for name in differences(tried)) or "as it is"
    return (
        f"  {number(task, run.validation[task.metric]):>10}  {shown} "
        f"(epoch {run.best_epoch} of {len(run.history['epoch_loss'])}, {run.seconds:.1f} s)"
    )


def choice_verdict(task, model, tried, runs):
    """Which one won, and whether it is the one that is used."""
    values = [run.validation[task.metric] for run in runs]
    best = max(values) if task.higher_is_better else min(values)
    same = values[tried.index(task.settings(model))] == best
    return "the best of them is " + ("what is used" if same else "not what is used: see its file")
