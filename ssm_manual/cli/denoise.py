"""``ssm-manual denoise``: train a filter, and compare it with the usual ones."""

import argparse
import os
import sys
import time

import numpy as np

from ssm_manual._modes import MODES
from ssm_manual.cli import _denoise_report, _output, _store

DESCRIPTION = """\
Add white noise to a clean signal and learn to remove it again: a diagonal state-space model,
trained by plain gradient descent on gradients derived by hand, beside the filters that one would
use instead. Without options: a sum of random sinusoids, a table, and a figure denoise.png.
--model deep adds a small network of two S4D blocks, trained by AdamW.
"""

EPILOG = """\
what happens
  split      The first 70 % of the signal are for training; everything is compared on the rest.
             Mean and scale come from the training part.
  noise      White and Gaussian, --noise-snr dB below the power of the training part about its
             mean. The model sees fresh noise in every epoch; the other methods choose their
             settings on 40 draws on the same training part. The comparison uses 32 draws that
             none of them has seen.
  SNR        10 log10(power of the clean signal about that mean / power of the error), over the
             held-out part. The noisy signal's own SNR there is printed too: it differs from
             --noise-snr where the held-out part is stronger or weaker than the training part.
  causal     "yes" means that a method looks no further ahead than --lookahead allows. The others
             see the whole signal, future included.
  deep       --model deep reads in both directions: it sees the whole signal ("no"). With
             --lookahead K, were it 0, it is causal and waits K samples. Every update has fresh
             noise on 16 stretches of the training part, a little slower or faster, weaker or
             stronger, higher or lower. It takes half a minute a channel where the diagonal SSM
             takes a second.
  modes      bptt and convolution follow the gradient of the loss, by the recurrence backwards in
             time and by the kernel; windowed cuts it every --window steps; one_step drops all
             memory from it. The last two are not gradients of the loss.

examples
  ssm-manual denoise                                    sinusoids, 5 dB
  ssm-manual denoise --signal ecg --lookahead 8         a filter that may wait 8 samples
  ssm-manual denoise --signal eeg --noise-snr 0         four channels, one by one
  ssm-manual denoise --signal voice.wav --poles 32      your own recording (.csv, .npy, .wav)
  ssm-manual denoise --signal ecg --model deep          blocks of S4D, which see the whole signal
  ssm-manual denoise --signal ecg --model deep --lookahead 8
                                                        the same, causal: it waits 8 samples
  ssm-manual denoise --mode one_step --json run.json    a direction that is not the gradient
  ssm-manual denoise --signal voice.wav --save voice.safetensors
                                                        keep the filter; then, for noisy ones:
  ssm-manual apply voice.safetensors noisy.wav --out restored.wav
  ssm-manual denoise --store runs.db                    losses, signals, model: for later
  ssm-manual denoise --reproduce                        a published run, number by number

The protocol is documented in ssm_manual.tasks.denoising, the models in
ssm_manual.models.DiagonalSSM and ssm_manual.tasks.deep_filter.
"""

#: What the options stand for when they are not given; None in the parser tells the two apart.
DEFAULTS = {
    "signal": "sinusoids",
    "noise_snr": 5.0,
    "model": "diagonal",
    "poles": 16,
    "parameters": "discrete",
    "mode": "bptt",
    "window": None,
    "lookahead": 0,
    "epochs": None,
    "seed": 0,
    "dtype": "float32",
}

#: Length and number of sinusoids of the default signal.
SINUSOIDS = {"length": 1000, "components": 3}

#: Updates of each model, and with --quick.
EPOCHS = {"diagonal": (5000, 500), "deep": (1500, 200)}

#: Draws of noise to compare on, and with --quick.
DRAWS = 32, 8

#: Options of the diagonal SSM alone.
LINEAR = ("poles", "parameters", "mode", "window")

#: With more, the slowest initial pole is closer to 1 than float32 can tell.
MOST_POLES = 1000


def add_parser(subparsers):
    """Enter the command into the parser of ``ssm-manual``."""
    parser = subparsers.add_parser(
        "denoise",
        help="train a filter that removes noise, beside the usual ones",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("the signal")
    group.add_argument(
        "--signal",
        metavar="WHAT",
        help="a clean signal, to which noise is added: sinusoids, ecg, eeg, or a file ending in "
        ".csv, .npy or .wav (default sinusoids)",
    )
    group.add_argument(
        "--noise-snr",
        type=float,
        metavar="DB",
        help="power of the signal over that of the noise (default 5)",
    )
    group = parser.add_argument_group("the model and its training")
    group.add_argument(
        "--model",
        choices=tuple(EPOCHS),
        help="diagonal: a linear filter of 16 poles; deep: two blocks of S4D, beside that filter "
        "(default diagonal)",
    )
    group.add_argument(
        "--poles", type=int, metavar="N", help="poles, one of each conjugate pair (default 16)"
    )
    group.add_argument(
        "--parameters",
        choices=("discrete", "continuous"),
        help="train A_bar and B_bar themselves, or A and B of the bilinear map: a continuous "
        "filter can later be applied at other sampling rates (default discrete)",
    )
    group.add_argument("--mode", choices=MODES, help="direction of descent (default bptt)")
    group.add_argument(
        "--window",
        type=int,
        metavar="STEPS",
        help="length of a window, for --mode windowed (default 128)",
    )
    group.add_argument(
        "--lookahead",
        type=int,
        metavar="K",
        help="samples that the filter may wait (default 0; --model deep without it is not causal)",
    )
    group.add_argument(
        "--epochs", type=int, metavar="N", help="updates to make (default 5000; deep: 1500)"
    )
    group.add_argument(
        "--seed", type=int, metavar="N", help="seed of all random numbers (default 0)"
    )
    group.add_argument(
        "--dtype", choices=("float32", "float64"), help="precision (default float32)"
    )
    group = parser.add_argument_group("what is written")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--figure", metavar="FILE", help=".png, .pdf or .svg (default denoise.png, overwritten)"
    )
    which.add_argument("--no-figure", action="store_true", help="write no figure")
    group.add_argument("--json", metavar="FILE", help="write results, options and parameters")
    group.add_argument(
        "--save",
        metavar="MODEL",
        help="keep the trained filter in a .safetensors file, for ssm-manual apply",
    )
    _store.add_option(group, "losses, scores, signals and the trained filter")
    group = parser.add_argument_group("instead of a signal of your own")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--reproduce",
        action="store_true",
        help="repeat a published run; exit status 1 if a loss is off by more than 0.1 %%",
    )
    which.add_argument(
        "--preset",
        choices=("long",),
        help="long: the longer published run, 500 samples and four continuous poles",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="500 epochs (deep: 200), 8 draws of noise: a first look",
    )
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    if args.reproduce or args.preset:
        return _published(args)
    options = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in DEFAULTS.items()
    }
    if options["epochs"] is None:
        options["epochs"] = EPOCHS[options["model"]][args.quick]
    draws = DRAWS[args.quick]
    if options["model"] == "deep":
        _refuse_linear(args)
        options = {name: value for name, value in options.items() if name not in LINEAR}
        options["lookahead"] = args.lookahead  # None: it sees the whole signal
    _check(options)
    figure = None if args.no_figure else args.figure or "denoise.png"
    outputs = {"figure": figure, "json": args.json, "save": args.save}
    _output.check_outputs({"--signal": options["signal"], "--store": args.store}, **outputs)
    recording = _recording(options["signal"], options["seed"])
    config = options | {"draws": draws, "quick": args.quick}
    name = f"denoise {os.path.basename(options['signal'])}"
    with _store.recording(args.store, name, config, seed=options["seed"]) as run:
        results = _compare(recording, options, draws, run)
        filter = _filter(recording, results, options)
        metadata = {"options": options, "signal": recording.name}
        if args.save:  # before anything is printed, to a pipe that may be closed
            from ssm_manual import checkpoint

            checkpoint.save(args.save, filter, metadata=metadata)
        if run is not None:
            _denoise_report.keep(run, results)
            run.save_checkpoint(filter, metadata=metadata)
            run.finish(**_denoise_report.scores(results))
    print(_denoise_report.table(results))
    if args.save:
        print(f"model: {args.save}")
    if args.store:
        print(f"run {run.id} of {args.store}")
    # the JSON file before the figure: it holds everything, and needs nothing that might fail
    if args.json:
        _output.write_json(args.json, _denoise_report.as_json(results, options, draws))
        print(f"results: {args.json}")
    if figure:
        from ssm_manual import plots

        _output.write_figure(figure, plots.denoising(results[0]))
        print(f"figure: {figure}{' (first channel)' if len(results) > 1 else ''}")
    return 0


def _published(args):
    """Hand over to the runs with fixed settings; an option that they would ignore is refused."""
    for name in DEFAULTS:
        if getattr(args, name) is not None:
            option = "--" + name.replace("_", "-")
            which = "--reproduce" if args.reproduce else f"--preset {args.preset}"
            raise ValueError(f"{option} does not go with {which}, whose settings are fixed")
    for option in ("quick", "save", "store"):
        if getattr(args, option):
            raise ValueError(
                f"--{option} does not go with a published run, whose settings are fixed"
            )
    _output.check_outputs({}, figure=args.figure, json=args.json)
    from ssm_manual.cli import reproduce

    return reproduce.reproduce(args) if args.reproduce else reproduce.preset_long(args)


def _refuse_linear(args):
    """Options of the diagonal SSM, which a deep model would ignore."""
    for name in LINEAR:
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} goes with --model diagonal, not with deep")


def _check(options):
    """Every option's range, before anything slow begins."""
    for name, lowest in (("poles", 1), ("lookahead", 0), ("epochs", 1), ("seed", 0)):
        if options.get(name) is not None and options[name] < lowest:
            raise ValueError(f"--{name} is {options[name]}; it must be at least {lowest}")
    if not -60 <= options["noise_snr"] <= 120:  # NaN fails too
        raise ValueError(f"--noise-snr is {options['noise_snr']}; it must be from -60 to 120 dB")
    if options["model"] == "deep":
        return
    if options["poles"] > MOST_POLES:
        raise ValueError(f"--poles is {options['poles']}; it must be at most {MOST_POLES}")
    if options["window"] is not None:
        if options["mode"] != "windowed":
            raise ValueError(f"--window goes with --mode windowed, not with {options['mode']}")
        if options["window"] < 1:
            raise ValueError(f"--window is {options['window']}; it must be at least 1")


def _recording(signal, seed):
    from ssm_manual.tasks import signals

    if signal == "sinusoids":
        return signals.sinusoids(**SINUSOIDS, rng=np.random.default_rng(seed))
    if signal in ("ecg", "eeg"):
        return getattr(signals, signal)()
    if os.path.splitext(signal)[1].lower() not in signals.SUFFIXES:
        raise ValueError(
            f"--signal is {signal!r}; it must be sinusoids, ecg, eeg, or a file ending in .csv, "
            ".npy or .wav"
        )
    _output.check_exists("--signal", signal)
    return signals.read(signal)


def _filter(recording, results, options):
    """The models of all channels, with all that it takes to apply them."""
    from ssm_manual.models import RecordingFilter

    return RecordingFilter(
        [result.model for result in results],
        offset=[result.offset for result in results],
        scale=[result.scale for result in results],
        delay=options["lookahead"] or 0,
        rate=recording.rate,
    )


def _compare(recording, options, draws, run=None):
    """One comparison a channel; a bad channel is found before any is trained on."""
    from tqdm import tqdm

    from ssm_manual._numba import announce_compilation
    from ssm_manual.tasks import denoising

    several = len(recording.samples) > 1
    names = [
        f"{recording.name}, channel {i}" if several else recording.name
        for i in range(len(recording.samples))
    ]
    for name, samples in zip(names, recording.samples):
        try:
            denoising.prepare(
                samples, noise_snr=options["noise_snr"], lookahead=options["lookahead"] or 0
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    training = {name: options[name] for name in denoising.MODELS[options["model"]]}
    results = []
    with (
        tqdm(
            total=len(names) * options["epochs"],
            unit="epoch",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
        ) as bar,
        announce_compilation(lambda line: tqdm.write(line, file=sys.stderr)),
    ):
        for channel, (name, samples) in enumerate(zip(names, recording.samples)):
            curve = _denoise_report.Curve(run, channel, several)

            def progress(done, loss, name=name, first=channel * options["epochs"], curve=curve):
                curve.reached(done, loss)
                if bar.n == 0:  # compilation is over: it does not count as training
                    bar.start_t = bar.last_print_t = time.time()
                bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                bar.update(first + done - bar.n)
                if first + done == bar.total or done == options["epochs"]:
                    bar.set_description(f"{name}: fitting the other methods")

            bar.set_description(name)
            results.append(
                denoising.compare(
                    samples,
                    name=name,
                    rate=recording.rate,
                    seed=[options["seed"], channel],
                    draws=draws,
                    progress=progress,
                    **{name: options[name] for name in ("noise_snr", "lookahead", "model")},
                    **training,
                )
            )
            curve.complete(results[-1].losses)
    return results
