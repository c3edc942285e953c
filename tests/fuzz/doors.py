"""Doors through which a file comes in, and the rule for what may come out.

A door is ``door(path, folder)``. What comes through it has been looked at: finite, of a size that
the file can hold. `judge` lets pass a result, or an error of the documented kinds that
names the file.
"""

import contextlib
import os
import signal
import traceback
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

from ssm_manual import checkpoint
from ssm_manual.cli import denoise, main, train
from ssm_manual.models import LinearRegression, RecordingFilter
from ssm_manual.tasks import mnist, published, signals, tables
from ssm_manual.tasks.recordings import RecordingFile

from . import forged, image_files, store_commands, store_files
from .rule import FaultError, expect
from .store_commands import CommandError

#: No case of some kilobytes takes so long; one that does is taken for a hang.
SECONDS = 60

#: Bytes that a case may ask for at once, whatever its size, and for each byte of its file.
MEMORY, FACTOR = 24 << 20, 100

#: Longest message: a name, a reason, some numbers.
MESSAGE = 1200

#: The folder that the trap in a pickle would make in the working folder.
PWNED = "pwned"


#: Errors of files that do not go together.
ABOUT_BOTH = ("this filter has a model for each", "training diverged", "which the model's float")


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, (PWNED,)


class HangError(BaseException):
    """Time is up."""


# -------------------------------------------------------------------------------------------- files


def _load(path, folder, **options):
    model = checkpoint.load(path, **options)
    _finite_or_refused(model)


def load(path, folder):
    """A sound model, which answers with finite numbers or a `ValueError`."""
    _load(path, folder)


def load_mapped(path, folder):
    """Values are not looked at here, but at the first use."""
    _load(path, folder, mmap=True)


def read_header(path, folder):
    """What a file holds, before it is a model."""
    found = checkpoint.read(path)
    size = sum(a.nbytes for a in found.arrays.values())
    expect(size <= os.path.getsize(path), f"{size} bytes of arrays")


def _finite_or_refused(model):
    if isinstance(model, RecordingFilter):
        x = np.linspace(-1, 1, 12).reshape(1, 12).repeat(model.channels, axis=0)
        with np.errstate(all="ignore"), contextlib.suppress(ValueError):
            first, again = model(x), model(x)
            expect(first.shape == x.shape, f"an output of shape {first.shape}")
            expect(np.array_equal(first, again, equal_nan=True), "another answer to the same")
    elif isinstance(model, LinearRegression):
        with np.errstate(all="ignore"), contextlib.suppress(ValueError):
            model.predict(np.ones((2, model.params["weights"].size), model.dtype))


def resume(path, folder):
    """A run that goes on, or is refused and left as it was."""
    run, go_on = forged.resumed(path)
    before = {name: a.copy() for name, a in run.model.params.items()}
    try:
        with np.errstate(all="ignore"):
            history = go_on()
    except checkpoint.CheckpointError:
        same = all(np.array_equal(a, run.model.params[name]) for name, a in before.items())
        expect(same, "refused, but half restored")
        raise
    expect(np.isfinite(history["loss"]).all(), "a loss that is not finite")
    expect(all(np.isfinite(a).all() for a in run.model.params.values()), "silent NaN")


def recording(path, folder):
    """Blocks and the whole are the same finite numbers, as many as the file can hold."""
    with RecordingFile(path) as file:
        whole = file.read()
        expect(whole.shape == (file.channels, file.length), f"shape {whole.shape}")
        expect(whole.size <= os.path.getsize(path), f"{whole.size} samples")
        expect(whole.dtype == np.float64 and np.isfinite(whole).all(), "silent NaN")
        rate = file.rate
        expect(rate is None or (rate > 0 and np.isfinite(rate)), f"rate {rate}")
        expect(isinstance(repr(file), str), "no text")
        size = max(7, file.length // 5)
        blocks = np.concatenate(list(file.blocks(size)), axis=1)
        expect(np.array_equal(blocks, whole), "blocks differ from the whole")


def read_signal(path, folder):
    """As a signal to denoise."""
    found = signals.read(path)
    expect(np.isfinite(found.samples).all() and found.samples.shape[1] >= 2, "silent NaN")


def read_table(path, folder):
    """Columns by name."""
    found = tables.read_csv(path, "y")
    expect(np.isfinite(found.X).all() and np.isfinite(found.y).all(), "silent NaN")
    expect(len(found.X) == len(found.y) > 0, "rows without a target")
    expect(found.X.size <= os.path.getsize(path), f"{found.X.size} numbers")


def log(path, folder):
    """The published figures, from another folder."""

    class Files:
        def joinpath(self, name):
            return Path(path)

    class Resources:
        @staticmethod
        def files(package):
            return Files()

    kept, published.resources = published.resources, Resources
    try:
        expect(set(published.published_figures()) >= {"log", "verification"}, "half of it")
    finally:
        published.resources = kept


def _labelled(found, path):
    images, labels = found
    expect(images.ndim == 3 and labels.shape == images.shape[:1], "shapes")
    expect(np.isfinite(images).all(), "silent NaN")


def archive(path, folder):
    """Images and labels of one archive."""
    _labelled(mnist.labelled_images(path), path)


def pair(path, folder):
    """The images of a pair."""
    labels = _labels(folder)
    _labelled(mnist.labelled_images([path, labels]), path)


def _labels(folder):
    path = folder / "labels-idx1-ubyte"
    if not path.exists():
        path.write_bytes(image_files.LABELS)
    return path


# ----------------------------------------------------------------------------------------- commands


class Reached(ValueError):
    """The file was read, and what is slow would begin."""


def command(*argv):
    """A command: status 0, or 2 and one line."""
    status = main(list(map(str, argv)))
    if status == 2:
        raise CommandError
    expect(status == 0, f"exit status {status}")


def _keeping(folder, argv, suffix):
    """A command with ``--out``, whose old file stays unless the command is done."""
    out = folder / f"out{suffix}"
    out.write_bytes(b"old")
    try:
        command(*argv, "--out", out)
    except BaseException:
        expect(out.read_bytes() == b"old", "an old output was touched")
        raise
    with RecordingFile(out) as file:
        expect(np.isfinite(file.read()).all(), "silent NaN")


def apply_model(path, folder):
    """A model from a stranger, a recording of one's own."""
    mine = folder / "mine.npy"
    if not mine.exists():
        np.save(mine, np.linspace(-1, 1, 50))
    with np.errstate(all="ignore"):
        _keeping(folder, ("apply", path, mine), ".npy")


def apply_file(path, folder):
    """A recording from a stranger, a model of one's own."""
    model = folder / "mine.safetensors"
    if not model.exists():
        pole = np.array([0.9], np.complex64)
        from ssm_manual.models import DiagonalSSM

        checkpoint.save(model, RecordingFilter(DiagonalSSM(pole, 1.0, 0.1), delay=2))
    _keeping(folder, ("apply", model, path, "--block", 32), ".npy")


def _reached(*args, **kwargs):
    raise Reached("reached")


def _until(module, argv):
    """A command up to where it would train."""
    kept, module._compare = module._compare, _reached
    try:
        command(*argv)
    finally:
        module._compare = kept


def denoise_signal(path, folder):
    """What is read is a signal."""
    _until(denoise, ("denoise", "--signal", path, "--quick", "--no-figure"))


def regress_data(path, folder):
    """A table from a stranger; two epochs."""
    command("regress", "--data", path, "--target", "y", "--epochs", 2, "--no-figure")


def regress_resume(path, folder):
    """A model from a stranger, a table of one's own."""
    mine = folder / "mine.csv"
    if not mine.exists():
        mine.write_text("a,b,y\n1,2,1\n3,1,2\n0,1,0.5\n2,2,1\n")
    with np.errstate(all="ignore"):
        command("regress", "--data", mine, "--target", "y", "--resume", path, "--epochs", 5,
                "--no-figure")  # fmt: skip


def train_archive(path, folder):
    """Pixels as sequences."""
    _task([path])


def train_pair(path, folder):
    """Pixels as sequences, of two files."""
    _task([path, _labels(folder)])


def _task(paths):
    _until(train, ("train", "mnist", "--data", *paths, "--quick", "--no-figure"))
    # what the command would go on with
    task = mnist.SequentialMNIST(quick=True, data=[str(path) for path in paths])
    parts = task.parts(0)
    for part in (parts.train, parts.validation):
        expect(np.isfinite(part.arrays.u).all(), "silent NaN")


DOORS = {
    "checkpoint.load": load,
    "checkpoint.load, mapped": load_mapped,
    "checkpoint.read": read_header,
    "apply MODEL": apply_model,
    "Trainer.fit, resume": resume,
    "regress --resume": regress_resume,
    "RecordingFile": recording,
    "signals.read": read_signal,
    "apply FILE": apply_file,
    "denoise --signal": denoise_signal,
    "tables.read_csv": read_table,
    "regress --data": regress_data,
    "labelled_images": archive,
    "labelled_images, two": pair,
    "train mnist --data": train_archive,
    "train mnist --data, two": train_pair,
    "published_figures": log,
    "Store": store_files.read,
    "Store.export": store_files.export,
    **store_commands.DOORS,
}

# ---------------------------------------------------------------------------------------- the judge


@contextlib.contextmanager
def _timed():
    def ring(*_):
        raise HangError(f"took more than {SECONDS} s")

    kept = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)


def judge(door, path, folder, capsys, limit=None, refused=False):
    """None, or what is wrong: ``(kind, text)``.

    ``refused``: whether the file is known to be unsound, so that a result is a fault. ``limit``:
    bytes that may be asked for at once; None: `MEMORY` and `FACTOR` of the file's size.
    """
    path = str(path)
    if limit is None:
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        limit = MEMORY + FACTOR * size
    tracemalloc.start()
    try:
        with _timed(), warnings.catch_warnings():
            warnings.simplefilter("error")
            DOORS[door](path, folder)
        found = ("accepted", "an unsound file was taken") if refused else None
    except CommandError:
        found = _message(capsys.readouterr().err, path, command=True)
    except (ValueError, OSError) as error:
        named = str(getattr(error, "filename", "") or "") + str(error)
        found = _message(named, path)
    except FaultError as error:
        found = "broken rule", str(error)
    except (Exception, HangError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})"
        found = type(error).__name__, text
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if found is None and peak > limit:
        found = "memory", f"{peak >> 20} MiB at once, {limit >> 20} allowed"
    if os.path.exists(PWNED):  # whatever came of it
        found = "code was executed", "the trap in a pickle has made its folder"
    capsys.readouterr()
    return found


def _message(text, path, *, command=False):
    """None, or what is wrong with an error's text."""
    lines = [line for line in text.splitlines() if "taken as the" not in line]
    if command:
        if len(lines) != 1 or not lines[0].startswith("ssm-manual "):
            return "not one line", text[-600:]
        if lines[0].endswith(": reached"):
            return None
        if not lines[0].isprintable():  # a terminal would obey it
            return "control characters", repr(text)[:600]
    # of a model and a recording, a model and a table: neither is wrong by itself
    about_both = command and any(known in text for known in ABOUT_BOTH)
    name = os.path.basename(path)
    if name not in text and ascii(name)[1:-1] not in text and not about_both:
        return "file not named", text[:600]
    if len(text) > MESSAGE + 2 * len(path):
        return "long message", f"{len(text)} characters: {text[:200]}"
    return None
