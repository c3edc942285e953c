"""``ssm-manual apply``: filter a recording with a saved model."""

import argparse
import functools
import sys
import time

from ssm_manual import _validate
from ssm_manual.cli import _apply_report, _apply_store, _apply_stream, _output, _raw, _store

DESCRIPTION = """\
Filter a recording with a model that ssm-manual denoise --save has written. The recording is read,
filtered and written block by block, the model's state carried over: hours of sound take no more
memory than seconds, and the blocks leave no trace in the output. With --stream it filters a live
signal: raw samples from standard input to standard output.
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

--stream
  samples    float32, or int16 with --format int16 (fractions of full scale, as in a .wav file);
             little-endian, the channels of one moment beside each other, no header. Output has the
             same form. Everything that is said is said on standard error.
  blocks     A block is filtered and written as soon as its last sample is there, and not before:
             --block (64) is what you wait for; 1 is the promptest, and takes the most time. At the
             end of the input the rest comes out, with the last samples that the model owes.
  delay      A model trained with --lookahead N gives sample t when sample t + N has come in.
  endings    However it ends, there is an output sample for each complete sample of input before:
             after NaN or half a sample (status 2, the message names the sample), Ctrl-C or SIGTERM
             (130, 143; a second Ctrl-C does not wait for a reader). If the reader of the output
             leaves, it ends without a word (141).
  report     Samples, clipped ones, latency of a block (median, p99, longest) and speed; with --json
             as numbers. Memory does not grow, however long it runs.
  refused    Models that read in both directions: their first output needs the last input.

examples
  ssm-manual denoise --signal voice.wav --lookahead 8 --save voice.safetensors
  ssm-manual apply voice.safetensors noisy.wav --out clean.wav
  ssm-manual apply voice.safetensors noisy.wav --out clean.csv --figure clean.png
  ssm-manual apply voice.safetensors noisy.npy --out clean.wav --rate 8000
                                                    a .npy file does not tell its rate

  ssm-manual denoise --signal voice.wav --parameters continuous --save any_rate.safetensors
  ssm-manual apply any_rate.safetensors other_rate.wav --out clean.wav --resample dt

  arecord -t raw -f S16_LE -r 8000 | ssm-manual apply voice.safetensors --stream --format int16 \\
    | aplay -t raw -f S16_LE -r 8000
                                                    microphone to loudspeaker
  ssm-manual apply voice.safetensors --stream < noisy.f32 > clean.f32 --json speed.json

In Python: ssm_manual.checkpoint.load, ssm_manual.models.RecordingFilter and
ssm_manual.tasks.recordings.
"""

#: Samples at a time, if nothing is said.
BLOCK = 65536

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
    parser.add_argument("file", metavar="FILE", nargs="?", help="the recording: .wav, .npy or .csv")
    parser.add_argument(
        "--out", metavar="FILE", help="where to write the output: .wav, .npy or .csv"
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="raw samples from standard input to standard output, instead of FILE and --out",
    )
    parser.add_argument(
        "--format",
        choices=tuple(_raw.ENCODINGS),
        help="of the samples of --stream (default float32)",
    )
    parser.add_argument(
        "--channels", type=int, metavar="N", help="of --stream, interleaved (default 1)"
    )
    parser.add_argument(
        "--block",
        type=int,
        metavar="N",
        help="samples at a time, a matter of speed and memory alone (default 65536); with --stream "
        f"also of latency (default {_apply_stream.BLOCK})",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="samples per second of a recording that does not tell them, or of --stream",
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
    _store.add_option(parser, "input, output and how it went")
    parser.set_defaults(run=run)
    parser.parse_known_args = functools.partial(_parse, parser.parse_known_args)


def _parse(parse_known_args, args=None, namespace=None):
    """FILE may come after options, which argparse lets no optional argument do."""
    namespace, rest = parse_known_args(args, namespace)
    if namespace.file is None and rest and not rest[0].startswith("-"):
        namespace.file = rest.pop(0)
    return namespace, rest


def run(args):
    """Run the command; returns the exit status."""
    if args.block is None:
        args.block = _apply_stream.BLOCK if args.stream else BLOCK
    _validate.integer("--block", args.block, minimum=1)
    if args.rate is not None:
        _validate.real_number("--rate", args.rate, above=0)
    if args.stream:
        return _run_stream(args)
    _check_files(args)
    from ssm_manual import checkpoint
    from ssm_manual.models import RecordingFilter
    from ssm_manual.tasks.recordings import RecordingFile

    trained = checkpoint.load(args.model, expected=RecordingFilter)
    with RecordingFile(args.file) as source:
        model, rate = _match_rates(trained, source, args)
        if rate is None and args.out.lower().endswith(".wav"):
            raise ValueError(
                f"--out is {args.out!r}; a .wav file needs a sampling rate, and neither FILE nor "
                "MODEL tells one: state it by --rate"
            )
        with _apply_store.recorder(args, model, source, rate) as record:
            result = _filter(trained, model, source, rate, args, record)
            scores = {"samples": source.length, "clipped": result.written.clipped}
            record.finish(**scores, real_time_factor=result.real_time_factor)
        print(_apply_report.text(result))
        if args.json:
            _output.write_json(args.json, _apply_report.as_json(result))
            print(f"results: {args.json}")
        if args.store:
            print(f"stored: run {record.number} of {args.store}")
        if args.figure:
            _output.write_figure(args.figure, _apply_report.draw(result))
            print(f"figure: {args.figure}{' (first channel)' if source.channels > 1 else ''}")
    return 0


def _run_stream(args):
    args.format = args.format or "float32"
    args.channels = 1 if args.channels is None else args.channels
    _apply_stream.check(args)
    from ssm_manual import checkpoint
    from ssm_manual.models import RecordingFilter

    trained = checkpoint.load(args.model, expected=RecordingFilter)
    model, rate = _match_rates(trained, _StandardInput, args)
    return _apply_stream.run(args, trained, model, rate)


class _StandardInput:
    """What `_match_rates` asks of a recording; nothing tells the rate of raw samples."""

    path, rate = "standard input", None


def _check_files(args):
    """Inputs that exist, outputs that can be written, and no file in two parts."""
    from ssm_manual.tasks.recordings import check_suffix

    for option, value in (("FILE", args.file), ("--out", args.out)):
        if value is None:
            raise ValueError(
                f"{option} is missing: apply MODEL FILE --out FILE filters a recording, and apply "
                "MODEL --stream raw samples from standard input"
            )
    for option, value in (("--format", args.format), ("--channels", args.channels)):
        if value is not None:
            raise ValueError(f"{option} is {value!r}; it goes with --stream (FILE itself tells)")
    inputs = {"MODEL": args.model, "FILE": args.file}
    for option, path in inputs.items():
        _output.check_exists(option, path)
    check_suffix(f"FILE is {args.file!r}", args.file)
    check_suffix(f"--out is {args.out!r}", args.out)
    _output.check_outputs(
        inputs, out=args.out, json=args.json, figure=args.figure, store=args.store
    )


def _match_rates(trained, source, args):
    """The model for the source's rate, and that rate; says what the user should know about it."""
    from ssm_manual.cli._apply_rates import match

    model, rate, remark = match(trained, source, args)
    if remark:
        print(f"ssm-manual apply: {remark}", file=sys.stderr)
    return model, rate


def _filter(trained, model, source, rate, args, record):
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

    def keep(block):
        record.add("restored", block.astype(model.dtype))
        record.moment()
        return after.add(block)

    def output(bar):
        for block in source.blocks(args.block):
            before.add(block)
            record.add("input", block.astype(_apply_store.dtype_of(source)))
            yield keep(stream.push(block))
            bar.update(block.shape[1])
        yield keep(stream.finish())

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
