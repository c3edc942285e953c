"""``ssm-manual train``: a task with a known answer, a model, and another beside it."""

import argparse
import sys

from ssm_manual.cli import _output, _store, _train_report
from ssm_manual.tasks.catalogue import TASKS, task_class

DESCRIPTION = """\
Train a deep model on a task with a known answer, beside another one of the same size: a table, and
a figure TASK.png. Every gradient is derived by hand.

tasks
{tasks}
"""

EPILOG = """\
what happens
  parts      Data comes in three parts. The model is fitted to the first; the parameters of the
             epoch that does best on the second are kept; the third is opened once, at the end, and
             every model is scored on it.
  settings   are fixed before training. --choose shows what they were chosen from, and does it
             again: on the second part, with a seed of its own.
  beside     An LSTM on the same data, for at most as many updates and with as many parameters as
             S4D has on the task, to within what one unit of width changes.

examples
  ssm-manual train previous-bit                          some seconds
  ssm-manual train copying-memory --help                 what it asks, and its own options
  ssm-manual train copying-memory --delay 200 --seed 1
  ssm-manual train digits --model s4 --beside rnn        full S4 beside a plain RNN
  ssm-manual train digits --beside none --save digits.safetensors
  ssm-manual train previous-bit --store runs.db          losses, scores, models: for later
  ssm-manual train previous-bit --choose                 how the settings were chosen

In Python: ssm_manual.tasks.training_run.compare. The protocol is documented in
ssm_manual.tasks.protocol.
"""


class TaskParser(argparse.ArgumentParser):
    """The parser of one task: the task is imported when its parser is used, not before."""

    task = None

    def load(self):
        """Take description and options from the task."""
        if self.task is None:
            self.task = task_class(self.prog.rpartition(" ")[2])
            self.description = f"{self.task.title}.\n\n{self.task.description.strip()}\n"
            self.set_defaults(run=run, task=self.task)
            _add_options(self, self.task)

    def parse_known_args(self, args=None, namespace=None):
        """As always."""
        self.load()
        return super().parse_known_args(args, namespace)

    def format_help(self):
        """As always."""
        self.load()
        return super().format_help()


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    width = max(map(len, TASKS), default=0)
    listed = "\n".join(f"  {name:{width}}  {entry.summary}" for name, entry in TASKS.items())
    parser = subparsers.add_parser(
        "train",
        help="train a deep model on a task with a known answer, beside an LSTM",
        description=DESCRIPTION.format(tasks=listed),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(
        dest="name",
        metavar="TASK",
        required=True,
        parser_class=TaskParser,
        help="one of those; TASK --help explains it",
    )
    for name in TASKS:  # no help here: they stand in the description, one line each
        tasks.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter)


def _add_options(parser, task):
    if task.options or task.needs_data:
        group = parser.add_argument_group("the task")
        if task.needs_data:
            group.add_argument("--data", metavar="FILE", nargs="+", required=True,
                               help=task.needs_data)  # fmt: skip
        for name, option in task.options.items():
            group.add_argument(
                f"--{name}", type=int, metavar="N", help=f"{option.help} (default {option.default})"
            )
    group = parser.add_argument_group("the models")
    group.add_argument(
        "--model", choices=task.models, default="s4d", help="what to train (default s4d)"
    )
    beside = ",".join(task.beside) or "none"
    group.add_argument(
        "--beside",
        metavar="MODELS",
        help=f"what else to train, with commas between, or none (default {beside})",
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of all random numbers (default 0; settings were chosen with 1000)",
    )
    group = parser.add_argument_group("what is written")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--figure",
        metavar="FILE",
        help=f".png, .pdf or .svg (default {task.name}.png, overwritten)",
    )
    which.add_argument("--no-figure", action="store_true", help="write no figure")
    group.add_argument("--json", metavar="FILE", help="write scores, settings and curves")
    group.add_argument(
        "--save", metavar="MODEL", help="keep the trained --model in a .safetensors file"
    )
    _store.add_option(group, "losses, scores and trained models")
    parser.add_argument(
        "--choose",
        action="store_true",
        help="instead: train --model with every setting that was considered, and score them on "
        "validation alone",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smaller task, few epochs: a first look"
    )


def run(args):
    """Run the command; returns the exit status."""
    if args.seed is not None and args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be at least 0")
    task = _task(args)
    names = _models(args)
    figure = None if args.no_figure or args.choose else args.figure or f"{task.name}.png"
    if args.choose:
        _check_choice(args)
    args.seed = args.seed or 0
    inputs = {f"--data {i}": path for i, path in enumerate(getattr(args, "data", None) or [])}
    inputs["--store"] = args.store
    _output.check_outputs(inputs, figure=figure, json=args.json, save=args.save)
    if args.choose:
        return _choose(args, task)
    metadata = {"task": task.name, "options": task.chosen, "quick": task.quick, "seed": args.seed}
    config = _config(args, task, names)
    with _store.recording(args.store, f"train {task.name}", config, seed=args.seed) as run:
        found = _compare(args, task, names, _train_report.Diary(run, metadata))
        if args.save:  # before anything is printed, to a pipe that may be closed
            from ssm_manual import checkpoint

            checkpoint.save(args.save, found.runs[0].model, metadata=metadata)
        if run is not None:
            run.finish(**_train_report.scores(found))
    print(_train_report.table(found))
    if args.save:
        print(f"model: {args.save}")
    if args.store:
        print(f"run {run.id} of {args.store}")
    # the JSON file before the figure: it holds everything, and needs nothing that might fail
    if args.json:
        _output.write_json(args.json, _train_report.as_json(found))
        print(f"results: {args.json}")
    if figure:
        from ssm_manual import plots

        _output.write_figure(figure, plots.task(found))
        print(f"figure: {figure}")
    return 0


def _config(args, task, names):
    """All that a run in a store is told: options, and what follows from them."""
    from ssm_manual.tasks import training_run

    settings = {name: training_run.options_of(task, name)[0] for name in names}
    return {
        "task": task.name,
        **task.chosen,
        "quick": task.quick,
        "models": names,
        "data": getattr(args, "data", None),
        "settings": {name: _train_report.settings_of(s) for name, s in settings.items()},
    }


def _task(args):
    given = {name: getattr(args, name) for name in args.task.options}
    if args.task.needs_data:
        for path in args.data:
            _output.check_exists("--data", path)
        given["data"] = args.data
    try:
        return args.task(quick=args.quick, **given)
    except ImportError as error:  # an extra
        raise ValueError(str(error)) from None
    except ValueError as error:
        name = str(error).partition(" ")[0]
        raise ValueError(f"--{error}" if name in given else str(error)) from None


def _models(args):
    """The models to train, each once."""
    if args.beside is None:
        beside = [name for name in args.task.beside if name != args.model]
    else:
        beside = [] if args.beside == "none" else args.beside.split(",")
    names = [args.model, *beside]
    for name in beside:
        if name not in args.task.models or names.count(name) > 1:
            known = ", ".join(name for name in args.task.models if name != args.model)
            raise ValueError(
                f"--beside is {args.beside!r}; it must be none, or some of {known}, each once"
            )
    return names


def _check_choice(args):
    for option in ("beside", "figure", "save", "json", "store"):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option} does not go with --choose, which prints a table")
    if args.seed is not None:
        raise ValueError("--seed does not go with --choose, which has a seed of its own")


def _compare(args, task, names, diary):
    from ssm_manual.tasks import protocol, training_run

    def begin(name, settings, parameters):
        print(
            f"training {protocol.TITLES.get(name, name)}: {parameters:,} parameters, "
            f"at most {settings.epochs} epochs",
            file=sys.stderr,
        )

    with _announced():
        return training_run.compare(
            task, names, seed=args.seed, begin=begin, each_epoch=diary.each_epoch, end=diary.end
        )


def _choose(args, task):
    from ssm_manual.tasks import training_run

    tried = task.candidates(args.model)
    print(_train_report.choice_header(task, tried))
    runs = []
    with _announced():
        for settings, run in zip(tried, training_run.choose(task, args.model)):
            runs.append(run)
            print(_train_report.choice_row(task, tried, settings, run), flush=True)
    print(_train_report.choice_verdict(task, args.model, tried, runs))
    return 0


def _announced():
    from tqdm import tqdm

    from ssm_manual._numba import announce_compilation

    return announce_compilation(lambda line: tqdm.write(line, file=sys.stderr))
