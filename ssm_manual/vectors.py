"""Test vectors: inputs, outputs and gradients of every op, for ports to other languages.

`write` makes a folder with a pair of files for every registered op, ``OP.npz`` and ``OP.json``,
which hold the same numbers, an ``index.json`` and a README that explains both. A case is written
only after it has passed its proof: the op against its slow reference, the gradients against finite
differences (`ssm_manual.gradcheck.check_example`).
"""

import io
import json
import os
import pathlib

import numpy as np

from ssm_manual import _files, _validate, gradcheck
from ssm_manual._gradcheck.differences import as_tuple, is_number, like_output, random_cotangents
from ssm_manual._version import __version__

__all__ = ["case", "write"]

#: How far a port may be off, in the norm of an array relative to that of the vector: what the
#: rounding of double precision and another order of summation explain, with room to spare.
TOLERANCE = 1e-9

README = """\
# Test vectors of ssm_manual {version}

For each op a pair of files that hold the same numbers: `OP.npz` (NumPy's format: an uncompressed
zip of .npy files, little endian, C order) and `OP.json`. `index.json` lists ops, arguments, files
and the number of cases. Seed {seed}; the same seed and version give the same files.

A case k consists of

| in the .npz | in the .json | what |
|---|---|---|
| `k/in/NAME` | `inputs` | an argument of the op; one that is missing was not given (None) |
| `k/option/NAME` | `options` | an option, where one was given; text is in bytes |
| `k/out/i` | `outputs` | output i |
| `k/cotangent/i` | `cotangents` | dL/d(output i): random numbers |
| `k/grad/NAME` | `gradients` | dL/d(argument); one that is missing does not exist (whole numbers) |

with L = sum over outputs of Re sum conj(cotangent) output. The gradient of a complex argument z is
dL/dRe z + i dL/dIm z; that of a real argument is real. In the .json an array is
`{{"dtype", "shape", "data"}}`, data flat in C order, complex numbers as pairs: real, imaginary.

A port passes where for every output and gradient a: norm(yours - a) <= {tolerance:g} norm(a), and
exactly zero where a is zero. All numbers are in double precision. Before it was written, every case
was compared with a slow reference (1e-10), and every gradient with five-point differences (1e-7).

What each op computes and how its gradient comes about: the derivations in the documentation, by the
name of the op. Start with `tustin`, `scan` and `mse`: a model that trains.
"""


def case(pair, example, rng):
    """One case as nested dicts of arrays.

    Parameters
    ----------
    pair : ssm_manual.ops.registry.Pair
        The op.
    example : ssm_manual.ops.registry.Example
        The call.
    rng : numpy.random.Generator
        Of the cotangents.

    Returns
    -------
    dict
        ``note`` (str), and ``in``, ``option``, ``out``, ``cotangent``, ``grad``: dicts of arrays by
        name or number.

    Raises
    ------
    RuntimeError
        If the case fails its proof; nothing wrong is to be handed on.
    """
    report = gradcheck.check_example(pair, example, rng=rng)
    if not report:
        raise RuntimeError(f"{pair.name}, {example.note or 'an example'}: {report.headline}")
    out, residuals = pair.fwd(*example.args, **example.options)
    cotangents = random_cotangents(rng, as_tuple(out), "random")
    grads = pair.vjp(residuals, like_output(cotangents, out))

    def named(names, values):
        return {
            str(name): np.asarray(x) for name, x in zip(names, values, strict=True) if x is not None
        }

    differentiated = [
        grad if is_number(x) else None for x, grad in zip(example.args, grads, strict=True)
    ]
    outputs = as_tuple(out)
    return {
        "note": example.note,
        "in": named(pair.arguments, example.args),
        "option": named(example.options, map(_plain, example.options.values())),
        "out": named(range(len(outputs)), outputs),
        "cotangent": named(range(len(outputs)), cotangents),
        "grad": named(pair.arguments, differentiated),
    }


def write(folder, names=None, *, seed=0, progress=None):
    """Write the vectors of all ops, or of some.

    Parameters
    ----------
    folder : path_like
        Is made if there is none; files of the same names are replaced, each whole.
    names : sequence of str, optional
        Which ops; None is all.
    seed : int
        Of inputs and cotangents.
    progress : callable, optional
        ``progress(done, total, name)`` before each case and once after the last.

    Returns
    -------
    dict
        The index.

    Raises
    ------
    ValueError
        If a name is not registered, or the folder cannot be made.
    RuntimeError
        As of `case`.
    """
    seed = _validate.integer("seed", seed, minimum=0)
    jobs = [
        (pair, *gradcheck.registry_examples(pair, seed)) for pair in gradcheck.registered(names)
    ]
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder is {str(folder)!r}, which cannot be made: {error}") from None
    total, done, ops = sum(len(calls) for _, calls, _ in jobs), 0, []
    for pair, calls, rng in jobs:
        cases = []
        for example in calls:
            if progress:
                progress(done, total, pair.name)
            cases.append(case(pair, example, rng))
            done += 1
        arrays = {
            f"{k}/{kind}/{name}": np.asarray(a, order="C")
            for k, one in enumerate(cases)
            for kind, values in one.items()
            if kind != "note"
            for name, a in values.items()
        }
        _write(folder / f"{pair.name}.npz", _npz(arrays))
        described = {"op": pair.name, "arguments": list(pair.arguments)}
        _write(folder / f"{pair.name}.json", _json(described | {"cases": list(map(_told, cases))}))
        files = [f"{pair.name}.npz", f"{pair.name}.json"]
        ops.append(described | {"cases": len(cases), "files": files})
    if progress:
        progress(total, total, "")
    index = {"version": __version__, "seed": seed, "tolerance": TOLERANCE, "ops": ops}
    text = README.format(version=__version__, seed=seed, tolerance=TOLERANCE)
    _write(folder / "README.md", text.encode())
    _write(folder / "index.json", _json(index))  # last: it names nothing that is not there
    return index


# --------------------------------------------------------------------------------------- internals


def _plain(value):
    """An option as something that an array can hold."""
    return value.encode() if isinstance(value, str) else value


def _npz(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _told(one):
    """A case for JSON."""

    def array(a):
        if a.dtype.kind == "S":
            return a.item().decode()
        data = a.ravel().view(a.real.dtype) if a.dtype.kind == "c" else a.ravel()
        return {"dtype": a.dtype.name, "shape": list(a.shape), "data": data.tolist()}

    keys = {"in": "inputs", "option": "options", "grad": "gradients"}
    keys |= {"out": "outputs", "cotangent": "cotangents"}
    told = {"note": one["note"]}
    return told | {
        keys[kind]: {name: array(np.asarray(a, order="C")) for name, a in values.items()}
        for kind, values in one.items()
        if kind != "note"
    }


def _json(data):
    return (json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _write(path, content):
    _files.write_atomically(os.fspath(path), lambda file: file.write(content))
