"""``ssm-manual regress``: linear regression by gradient descent, beside its closed form."""

import argparse
import math
import os
import sys
import time

import numpy as np

from ssm_manual import _validate
from ssm_manual.cli import _output, _regress_report

DESCRIPTION = """\
Learn a weighted sum of features by gradient descent, the training loop in its simplest form, and
compare it with least squares in closed form. Without options: a published example, three fish
whose weight is 0.5 length + 0.2 width, a table, and a figure regress.png.
"""

EPILOG = """\
what happens
  loss       (prediction - y)^2 / 2, prediction = weights . features + bias. With --l2 L, plus
             L/2 times the sum of the squared weights; the bias is free.
  updates    per_sample: after every row, in the order of the file,
             weights -= rate (prediction - y) features. full_batch: once an epoch, by the mean.
  target     Training stops when the mean of (prediction - y)^2 over an epoch is no larger than
             --target-loss.
  rate       Directions of the features contract by 1 - rate lambda an epoch, lambda being the
             eigenvalues of X'X / n (with a column of ones for the bias). Above 2 / largest lambda
             full batches diverge. The default for a table of yours is 1 / (largest lambda + l2),
             for per_sample that over the number of rows, neither of which can diverge.
  epochs     The smallest lambda decides how long it takes: about (condition number)^2 epochs. The
             condition number is printed. Features of different size, or far from zero compared
             with their spread, make it large; --standardise brings each to mean 0 and deviation 1
             while training. The weights printed are in the units of the file all the same.
  closed     Least squares by a singular value decomposition of the same table, with the same l2.

examples
  ssm-manual regress                                    the published run, bit for bit
  ssm-manual regress --standardise --rate 0.1           the same fish, in far fewer epochs
  ssm-manual regress --data houses.csv --target price   a table of yours; its first line has names
  ssm-manual regress --data houses.csv --target price --features rooms area --l2 0.1
  ssm-manual regress --epochs 100000 --target-loss 1e-7 --save fish.safetensors \\
      --checkpoint-every 10000                          may be cut off and gone on with:
  ssm-manual regress --epochs 100000 --target-loss 1e-7 --resume fish.safetensors

The model is ssm_manual.models.LinearRegression; docs/derivations/regression.md derives all of it.
"""

#: What the options stand for when they are not given, for the published example and for a table.
FISH = {
    "rate": 0.001,
    "epochs": 30_000,
    "updates": "per_sample",
    "target_loss": 1e-5,
    "standardise": False,
    "l2": 0.0,
    "seed": None,
    "dtype": "float32",
}
TABLE = {
    **FISH,
    "rate": None,
    "epochs": 10_000,
    "updates": "full_batch",
    "target_loss": None,
    "standardise": True,
    "dtype": "float64",
}

QUICK = 1000

#: Features of a table at most: the closed form forms matrices of so many rows and columns.
MOST_FEATURES = 5000

#: Float32 bits of the published initial weights.
INITIAL_BITS = (1036446394, 1018744551)

#: The published question: the weight of a fish of this length and width.
ASK = (25.0, 7.0)


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "regress",
        help="linear regression by gradient descent, beside its closed form",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("the table")
    group.add_argument(
        "--data", metavar="FILE", help="a .csv file with the columns' names in its first line"
    )
    group.add_argument("--target", metavar="COLUMN", help="the column to predict, with --data")
    group.add_argument(
        "--features",
        metavar="COLUMN",
        nargs="+",
        help="the columns to predict it from (default: all others)",
    )
    group = parser.add_argument_group("the training")
    group.add_argument(
        "--updates",
        choices=("per_sample", "full_batch"),
        help="after every row or once an epoch (default per_sample; full_batch with --data)",
    )
    group.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="learning rate (default 0.001; with --data from the largest eigenvalue, see below)",
    )
    group.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="at most so many, of the model in all (default 30000; 10000 with --data)",
    )
    group.add_argument(
        "--target-loss",
        type=float,
        metavar="E",
        help="stop at a mean (prediction - y)^2 of this (default 1e-5; none with --data)",
    )
    group.add_argument("--l2", type=float, metavar="L", help="penalty on the weights (default 0)")
    group.add_argument(
        "--standardise",
        action=argparse.BooleanOptionalAction,
        help="bring features to mean 0 and deviation 1 in training (default no; yes with --data)",
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of random initial weights (default: the published ones; zeros with --data)",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="precision (default float32; float64 with --data)",
    )
    group.add_argument(
        "--resume",
        metavar="MODEL",
        help="go on from a saved model, up to --epochs in all; give the other options again",
    )
    group = parser.add_argument_group("what is written")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--figure", metavar="FILE", help=".png, .pdf or .svg (default regress.png, overwritten)"
    )
    which.add_argument("--no-figure", action="store_true", help="write no figure")
    group.add_argument("--json", metavar="FILE", help="write results, options and parameters")
    group.add_argument("--save", metavar="MODEL", help="write the model to this .safetensors file")
    group.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="write it every N epochs too, whole each time",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} epochs: a first look")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    options = _options(args)
    figure = None if args.no_figure else args.figure or "regress.png"
    _check_files(args, figure)
    from ssm_manual import checkpoint
    from ssm_manual.models import LinearRegression
    from ssm_manual.training import DivergenceError

    if args.resume:
        model = checkpoint.load(args.resume, expected=LinearRegression)
        options["dtype"] = model.dtype.name
    table, truth, ask = _table(args, options["dtype"])
    if args.resume:
        epochs = _left(args, options, model, table)
    else:
        model, epochs = _start(options, table), options["epochs"]
    start = LinearRegression(model.params["weights"], model.params["bias"])
    rate = options["rate"]
    if rate is None:
        chosen = {name: options[name] for name in ("updates", "l2", "standardise")}
        rate = LinearRegression.safe_rate(table.X, **chosen)
    try:
        history = _train(args, options, model, table, epochs, rate)
    except DivergenceError as error:
        raise ValueError(
            f"--rate is {rate:g}: training diverged at epoch {error.epoch}; lower it"
        ) from None
    closed = LinearRegression.least_squares(
        table.X, table.y, options["l2"], standardise=options["standardise"]
    )
    result = _regress_report.Result(table, start, model, closed, history, rate, options, truth, ask)
    if args.save:  # before anything is printed, to a pipe that may be closed
        checkpoint.save(args.save, model, metadata=_names(table))
    print(_regress_report.text(result))
    if args.save:
        print(f"model: {args.save}")
    # the JSON file before the figure: it holds everything, and needs nothing that might fail
    if args.json:
        _output.write_json(args.json, _regress_report.as_json(result))
        print(f"results: {args.json}")
    if figure:
        from ssm_manual import plots

        drawn = plots.regression(table, history, model, closed, standardise=options["standardise"])
        _output.write_figure(figure, drawn)
        print(f"figure: {figure}")
    return 0


def _options(args):
    """Every option with its default, in its range, before anything slow begins."""
    if args.data is None and (args.target or args.features):
        option = "--target" if args.target else "--features"
        raise ValueError(f"{option} names columns of a table; it goes with --data FILE")
    if args.data is not None and args.target is None:
        raise ValueError("--data needs --target COLUMN, the name of the column to predict")
    defaults = FISH if args.data is None else TABLE
    options = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in defaults.items()
    }
    if args.quick and args.epochs is None:
        options["epochs"] = QUICK
    for name, lowest in (("epochs", 1), ("seed", 0)):
        if options[name] is not None and options[name] < lowest:
            raise ValueError(f"--{name} is {options[name]}; it must be at least {lowest}")
    for name in ("l2", "target_loss"):
        value = options[name]
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be 0 or greater")
    rate = options["rate"]
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"--rate is {rate}; it must be greater than 0")
    if args.checkpoint_every is not None:
        if not args.save:
            raise ValueError("--checkpoint-every goes with --save MODEL.safetensors")
        if args.checkpoint_every < 1:
            raise ValueError(
                f"--checkpoint-every is {args.checkpoint_every}; it must be at least 1"
            )
    if args.resume:
        for name in ("seed", "dtype"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name} does not go with --resume: the saved model has its own")
        options["seed"] = None
    return options | {"data": args.data, "resume": args.resume}


def _check_files(args, figure):
    """Inputs that exist, and outputs that overwrite neither them nor each other."""
    for option, path in (("--data", args.data), ("--resume", args.resume)):
        if path is not None:
            _output.check_exists(option, path)
    _output.check_outputs({"--data": args.data}, figure=figure, json=args.json, save=args.save)
    # to write over the model that one goes on with is usual
    _output.check_outputs({"--resume": args.resume}, figure=figure, json=args.json)


def _table(args, dtype):
    """The table, and the rule and the question behind the published one."""
    from ssm_manual.models import LinearRegression
    from ssm_manual.tasks import tables

    if args.data is None:
        truth = LinearRegression(np.array([0.5, 0.2], dtype), np.zeros((), dtype))
        return tables.FISH.astype(dtype), truth, np.array(ASK, dtype)
    table = tables.read_csv(args.data, args.target, args.features)
    if len(table.features) > MOST_FEATURES:
        raise ValueError(
            f"--data is {args.data!r}, with {len(table.features)} features; least squares takes "
            f"memory with their square: choose at most {MOST_FEATURES} by --features"
        )
    table = table._replace(name=os.path.basename(table.name))
    return table.astype(dtype), None, None


def _start(options, table):
    """The model to begin with."""
    from ssm_manual.models import LinearRegression

    dtype, seed = options["dtype"], options["seed"]
    if seed is None and options["data"] is None:
        weights = np.array(INITIAL_BITS, np.uint32).view(np.float32)
        return LinearRegression(weights.astype(dtype), np.zeros((), dtype))
    rng = None if seed is None else np.random.default_rng(seed)
    return LinearRegression.initial(len(table.features), rng=rng, dtype=dtype)


def _left(args, options, model, table):
    """How many epochs a saved model still has to make; it must fit the table."""
    from ssm_manual import checkpoint

    wanted = list(table.features)
    saved = checkpoint.read(args.resume).metadata.get("features", wanted)
    F = model.params["weights"].size
    if saved != wanted or len(wanted) != F:
        listed = isinstance(saved, list) and all(isinstance(name, str) for name in saved)
        held = ", ".join(saved)[:200] if listed else _validate.show(saved)
        held = held if saved != wanted else f"{F} features"
        raise ValueError(
            f"--resume is {args.resume!r}, a model of {held}; the table has {', '.join(wanted)}"
        )
    left = options["epochs"] - model.epochs
    if left < 1:
        raise ValueError(
            f"--epochs is {options['epochs']}, and the model of {args.resume} has made "
            f"{model.epochs}; it counts them all, so it must be larger"
        )
    return left


def _names(table):
    """What a saved model remembers of its table, so that it goes on with no other one."""
    return {"features": list(table.features), "target": table.target}


def _train(args, options, model, table, epochs, rate):
    from tqdm import tqdm

    from ssm_manual._numba import announce_compilation

    saving = {}
    if args.checkpoint_every is not None:
        saving = {"checkpoint": args.save, "checkpoint_every": args.checkpoint_every}
        saving["checkpoint_metadata"] = _names(table)
    with (
        tqdm(
            total=epochs,
            unit="epoch",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
        ) as bar,
        announce_compilation(lambda line: tqdm.write(line, file=sys.stderr)),
    ):

        def progress(done, loss):
            if bar.n == 0:  # compilation is over: it does not count as training
                bar.start_t = bar.last_print_t = time.time()
            bar.set_postfix_str(f"mean e² {loss:.4g}", refresh=False)
            bar.update(done - bar.n)

        return model.fit(
            table.X,
            table.y,
            epochs=epochs,
            rate=rate,
            updates=options["updates"],
            l2=options["l2"],
            target_loss=options["target_loss"],
            standardise=options["standardise"],
            path=len(table.features) <= 2,  # to be drawn
            progress=progress,
            **saving,
        )
