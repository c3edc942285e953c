"""``ssm-manual apply``: filter a recording with a saved model."""

import argparse
import sys
import time

from ssm_manual import _validate
from ssm_manual.cli import _apply_report, _output

DESCRIPTION = """\
Filter a recording with a model that ssm-manual denoise --save has written. The recording is read,
filtered and written block by block, the model's state carried over: hours of sound take no more
memory than seconds, and the blocks leave no trace in the output.
"""

EPILOG = """\
what happens
  deep       A model of denoise --model deep without --lookahead sees the whole recording at once
             and holds it in memory, some hundred bytes for every sample and channel.
  channels   Each is filtered by itself. A model trained on one channel serves any number; one
             trained on several takes recordings of so many, a model for each.
  scale      The model knows which mean and scale it was trained with: give it recordings in the
             same units. Integers of a .wav file count as fractions of full scale.
  delay      A model trained with --lookahead answers late. The delay is taken out: the output is
             as long as the recording, and lies beside it sample by sample. At the end the model
             goes on as if silence followed.
  rate       Every pole belongs to a sampling rate. A recording at another one is refused:
             resample it, or add --resample dt if the model was trained with denoise --parameters
             continuous: it is then discretised for the recording's rate (the bilinear map: alike at
             low frequencies, warped near half the rate). A recording that does not tell its rate
             (.npy, .csv without times) is taken to have the model's, unless --rate says otherwise.

files
  .wav       Integers of 8, 16, 24, 32 bits or floating point, any number of channels.
  .npy       Real numbers, (length,) or (channels, length) or (length, channels).
  .csv       One sample a line, one channel a column, with or without a line of names. A column
             called time or t, in seconds, tells the rate; it is copied to the output.
  --out      ends like FILE: written in the same format. Integers are rounded to the nearest and
             clipped to their range, and the number of clipped samples is printed.
             ends otherwise: floating point in the model's precision; .wav needs a known rate.
  The output appears when it is complete, or not at all. A recording with NaN or infinity is
  refused: the message says where.

examples
  ssm-manual denoise --signal voice.wav --lookahead 8 --save voice.safetensors
  ssm-manual apply voice.safetensors noisy.wav --out clean.wav
  ssm-manual apply voice.safetensors noisy.wav --out clean.csv --figure clean.png
  ssm-manual apply voice.safetensors noisy.npy --out clean.wav --rate 8000
                                                    a .npy file does not tell its rate

  ssm-manual denoise --signal voice.wav --parameters continuous --save any_rate.safetensors
  ssm-manual apply any_rate.safetensors other_rate.wav --out clean.wav --resample dt

In Python: ssm_manual.checkpoint.load, ssm_manual.models.RecordingFilter and
ssm_manual.tasks.recordings.
"""

#: Most samples that are filtered twice so that compilation does not count as filtering.
WARM_UP = 65536


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "apply",
        help="filter a recording with a saved model",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file of ssm-manual denoise --save")
    parser.add_argument("file", metavar="FILE", help="the recording: .wav, .npy or .csv")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="where to write the output: .wav, .npy or .csv"
    )
    parser.add_argument(
        "--block",
        type=int,
        default=65536,
        metavar="N",
        help="samples at a time, a matter of speed and memory alone (default 65536)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="samples per second of a recording that does not tell them",
    )
    parser.add_argument(
        "--resample",
        choices=("dt",),
        help="dt: discretise a model of continuous parameters for the recording's rate",
    )
    parser.add_argument(
        "--figure",
        metavar="FILE",
        help="draw the first channel before and after (.png, .pdf, .svg)",
    )
    parser.add_argument("--json", metavar="FILE", help="write what is printed, as numbers")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    _validate.integer("--block", args.block, minimum=1)
    if args.rate is not None:
        _validate.real_number("--rate", args.rate, above=0)
    _check_files(args)
    from ssm_manual import checkpoint
    from ssm_manual.models import RecordingFilter
    from ssm_manual.tasks.recordings import RecordingFile

    trained = checkpoint.load(args.model, expected=RecordingFilter)
    with RecordingFile(args.file) as source:
        model, rate, remark = _match_rates(trained, source, args)
        if remark:
            print(f"ssm-manual apply: {remark}", file=sys.stderr)
        if rate is None and args.out.lower().endswith(".wav"):
            raise ValueError(
                f"--out is {args.out!r}; a .wav file needs a sampling rate, and neither FILE nor "
                "MODEL tells one: state it by --rate"
            )
        result = _filter(trained, model, source, rate, args)
        print(_apply_report.text(result))
        if args.json:
            _output.write_json(args.json, _apply_report.as_json(result))
            print(f"results: {args.json}")
        if args.figure:
            _output.write_figure(args.figure, _apply_report.draw(result))
            print(f"figure: {args.figure}{' (first channel)' if source.channels > 1 else ''}")
    return 0


def _check_files(args):
    """Inputs that exist, outputs that can be written, and no file in two parts."""
    from ssm_manual.tasks.recordings import check_suffix

    inputs = {"MODEL": args.model, "FILE": args.file}
    for option, path in inputs.items():
        _output.check_exists(option, path)
    check_suffix(f"FILE is {args.file!r}", args.file)
    check_suffix(f"--out is {args.out!r}", args.out)
    _output.check_outputs(inputs, out=args.out, json=args.json, figure=args.figure)


def _match_rates(model, source, args):
    """The model for the recording's rate, that rate, and what the user should know about it."""
    from ssm_manual.tasks.recordings import RATE_TOLERANCE

    def same(a, b):
        return abs(a / b - 1) <= RATE_TOLERANCE

    if None not in (args.rate, source.rate) and not same(args.rate, source.rate):
        raise ValueError(
            f"--rate is {args.rate:g}; {source.path} itself says {source.rate:g} samples per "
            "second: leave the option out"
        )
    rate = args.rate if source.rate is None else source.rate
    if args.resample and (rate is None or model.rate is None):
        who = source.path if rate is None else args.model
        advice = ": state it by --rate" if rate is None else ", so there is nothing to start from"
        raise ValueError(f"--resample dt: {who} does not tell its sampling rate{advice}")
    if model.rate is None:
        remark = "the model does not tell its sampling rate: taken as the recording's"
        return model, rate, None if rate is None else remark
    if rate is None:
        remark = f"{source.path} does not tell its sampling rate: taken as the model's"
        return model, model.rate, f"{remark}, {model.rate:g} Hz (--rate HZ states it)"
    if same(rate, model.rate):
        remark = "--resample dt was not needed: the rates agree" if args.resample else None
        return model, rate, remark
    if args.resample and model.continuous:
        return model.resampled(rate), rate, None
    advice = f"resample the recording to {model.rate:g} Hz first, for example with sox"
    if model.continuous:
        advice += ", or discretise the model for the recording's rate by --resample dt"
    elif model.deep:
        advice += " (a deep model serves no other rate)"
    else:
        advice += " (the model has discrete poles, which serve no other rate)"
    raise ValueError(
        f"{source.path} has {rate:g} samples per second, and the model was trained at "
        f"{model.rate:g}: {advice}"
    )


def _filter(trained, model, source, rate, args):
    """Everything between the two files; what came out of it, for the report."""
    from tqdm import tqdm

    from ssm_manual._numba import announce_compilation
    from ssm_manual.tasks import recordings

    before, after = (
        _apply_report.Trace(source.channels, source.length, drawn=bool(args.figure))
        for _ in range(2)
    )
    stream = model.stream(source.channels)
    with announce_compilation(lambda line: print(line, file=sys.stderr)):
        # compiled before the clock starts; short and long blocks may take different kernels
        for count in (1, min(args.block, source.length, WARM_UP)):
            trial = model.stream(source.channels)
            trial.push(source.read(0, count))
            trial.finish()

    def output(bar):
        for block in source.blocks(args.block):
            before.add(block)
            yield after.add(stream.push(block))
            bar.update(block.shape[1])
        yield after.add(stream.finish())

    began = time.perf_counter()
    with tqdm(
        total=source.length,
        unit="sample",
        unit_scale=True,
        delay=2,  # seconds: short work needs no bar
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
    ) as bar:
        written = recordings.write(
            args.out, output(bar), source, rate=rate, precision=model.dtype.name
        )
    seconds = time.perf_counter() - began
    return _apply_report.Result(args, trained, model, source, rate, written, before, after, seconds)
