"""Safetensors files of ours, and such as only a forger writes: sound sums over absurd contents."""

import copy
import hashlib
import itertools
import json
import pickle

import numpy as np

from ssm_manual import checkpoint
from ssm_manual.layers import S4, S4D, DenseSSM, GatedBlock, S4DBlock
from ssm_manual.models import DiagonalSSM, LinearRegression, RecordingFilter, SequenceModel
from ssm_manual.training import AdamW, Batches, EarlyStopping, Trainer


def models():
    """One small model of every class and kind, by name."""
    rng = np.random.default_rng(0)
    pole = np.array([0.9 + 0.1j, 0.5], np.complex64)
    discrete = DiagonalSSM(pole, 1.0, 0.3, 0.1)
    continuous = DiagonalSSM([-250.0 + 5j], 250.0, 0.5, parameters="continuous", dt=1 / 8000)
    options = {"n_layers": 1, "task": "regression", "rng": rng, "modes": 2}
    deep = SequenceModel(1, 4, 1, **options)
    trained = LinearRegression(np.array([0.5, 0.2]), np.zeros(()))
    trained.fit([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]], [1.0, 2.0, 0.5], epochs=2, standardise=True)
    return {
        "filter": RecordingFilter(discrete, offset=0.02, scale=0.25, delay=3, rate=8000.0),
        "filter of two": RecordingFilter([discrete, discrete]),
        "continuous filter": RecordingFilter(continuous, rate=8000.0),
        "deep filter": RecordingFilter(deep),
        "DiagonalSSM": discrete,
        "S4D": S4D(3, 2, rng=rng),
        "S4": S4(3, 2, rng=rng),
        "DenseSSM": DenseSSM.from_arrays(
            A=np.eye(2) / 2, B=np.ones((2, 1)), C=np.ones((1, 2)), dt=1.0, discretisation="none"
        ),
        "S4DBlock": S4DBlock(4, 2, rng=rng),
        "GatedBlock": GatedBlock(4, 2, rng=rng),
        "gated": SequenceModel(2, 4, 3, block="gated", **options | {"task": "classification"}),
        "rnn": SequenceModel(2, 4, 3, block="rnn", **options | {"modes": None}),
        "regression": LinearRegression(np.array([0.5, 0.2]), np.zeros(())),
        "regression, trained": trained,
    }


def files(folder, chosen=None):
    """The bytes of these models' files."""
    path = folder / "seed.safetensors"
    found = []
    for name, model in models().items():
        if chosen is None or name in chosen:
            checkpoint.save(path, model, metadata={"features": ["a", "b"], "target": "y"})
            found.append(path.read_bytes())
    return found


def trainer():
    """A run that can be resumed: no kernel, two epochs at most."""
    layer = SequenceModel(2, 4, 3, n_layers=1, task="classification", block="rnn",
                          rng=np.random.default_rng(1))  # fmt: skip
    return Trainer(layer, "softmax_cross_entropy", AdamW(layer.params, lr=0.01))


def resumed(path, epochs=2):
    """Go on with a run, or begin it."""
    run = trainer()
    stopping = EarlyStopping(9, metric="epoch_loss")
    return run, lambda: run.fit(
        batches(), epochs=epochs, checkpoint=path, resume=True, early_stopping=stopping
    )


def batches():
    rng = np.random.default_rng(2)
    return Batches(
        rng.standard_normal((6, 5, 2)).astype(np.float32), rng.integers(3, size=6), batch_size=3
    )


def training_states(folder):
    path = folder / "seed.safetensors"
    path.unlink(missing_ok=True)
    resumed(path, epochs=1)[1]()
    return [path.read_bytes()]


# ------------------------------------------------------------------------------------------ forging


def parts(data):
    """The header's tensors, our entry, and the arrays' bytes."""
    length = int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8 : 8 + length])
    ours = json.loads(tensors.pop("__metadata__")["ssm_manual"])
    return tensors, ours, data[8 + length :]


def forged(tensors, ours, arrays, *, text=lambda inner, outer: (inner, outer)):
    """A file with sound sums; ``text`` may change both JSON texts, the entry's and the whole."""
    if isinstance(ours, dict):
        ours["header_sha256"] = "0" * 64
        ours["data_sha256"] = hashlib.sha256(arrays).hexdigest()
    inner = json.dumps(ours, sort_keys=True, separators=(",", ":"))
    inner, _ = text(inner, None)
    outer = json.dumps({"__metadata__": {"ssm_manual": inner}, **tensors}, separators=(",", ":"))
    _, outer = text(inner, outer)
    outer = outer.encode("utf-8", "surrogatepass")
    raw = len(outer).to_bytes(8, "little") + outer
    field = b'\\"header_sha256\\":\\"'
    at = raw.find(field)
    if at >= 0:
        at += len(field)
        raw = raw[:at] + hashlib.sha256(raw).hexdigest().encode() + raw[at + 64 :]
    return raw + arrays


#: What stands where a name, a number, a list or an object should.
CLAIMS = (0, 1, -1, 2, 7, 2**31, 2**32, 2**40, 2**53, 2**62, 2**63, 2**64, 10**30, 10**400)
NONSENSE = (None, True, False, "", "x", "A", [], {}, [[]], [1, 2], {"a": 1}, 0.5, -0.0, 1e308)
NAMES = ("\x1b[31m", "a\nb", "../../up", "/etc/passwd", "\0", "'; DROP TABLE runs; --", "$\\frac{$",
         "\ud800", "é" * 300, "os.system", "__class__", "x" * 20_000, "%s%n", "models.-1.A",
         "models.9.A", "models.x.A", "models.0", "\u202etxt.wav")  # fmt: skip


def places(tree, path=()):
    """Paths to everything within a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def changed(tree, path, value):
    """The tree with another value at a path; ``KeyError`` as value removes it."""
    tree = copy.deepcopy(tree)
    at = tree
    for key in path[:-1]:
        at = at[key]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return tree


def replaced(data, values, rng):
    """Every place of the header with every value, shuffled."""
    tensors, ours, arrays = parts(data)
    both = {"tensors": tensors, "ours": ours}
    cases = list(itertools.product([p for p in places(both) if len(p) > 1], range(len(values))))
    for i in rng.permutation(len(cases)).tolist():
        path, which = cases[i]
        bad = changed(both, path, values[which])
        label = f"{'/'.join(map(str, path))} is {str(values[which])[:40]!r}"
        yield label, forged(bad["tensors"], bad["ours"], arrays)


def alternating(*streams):
    """One of each in turn, until the last has ended."""
    for together in itertools.zip_longest(*streams):
        yield from filter(None, together)


def claims(data, header, rng):
    yield from alternating(shapes(data), replaced(data, CLAIMS, rng))


def shapes(data):
    """Shapes that no array can have, and such as have no number in them."""
    tensors, ours, arrays = parts(data)
    for name in tensors:
        entry = tensors[name]
        for shape in ([1] * 65, [1] * 33, [0, 2**62, 2**62], [2**63, 0], [2**32, 2**32], [1] * 5000,
                      [10**1000] * 200, [-1, -1], [True], [1.0], ["1"], [[1]], "12"):  # fmt: skip
            for end in (entry["data_offsets"][1], entry["data_offsets"][0], 2**63):
                offsets = [entry["data_offsets"][0], end]
                bad = tensors | {name: entry | {"shape": shape, "data_offsets": offsets}}
                yield f"{name} of shape {str(shape)[:30]}", forged(bad, ours, arrays)
        yield (
            "an empty array more",
            forged(
                tensors
                | {"zero": {"dtype": "F32", "shape": [0, 2**62, 9], "data_offsets": [0, 0]}},
                ours,
                arrays,
            ),
        )


def structure(data, header, rng):
    tensors, ours, arrays = parts(data)
    yield from alternating(
        texts(tensors, ours, arrays),
        complex_twice(tensors, ours, arrays),
        replaced(data, (*NONSENSE, KeyError), rng),
    )


def complex_twice(tensors, ours, arrays):
    for key in ours["complex"]:
        more = ours | {"complex": [*ours["complex"], key]}
        yield f"{key} complex twice", forged(tensors, more, arrays)


def texts(tensors, ours, arrays):
    """Keys twice, numbers that JSON has not, depth."""
    for depth in (100, 900, 2000, 100_000):
        for inside in (True, False):
            deep = "[" * depth + "]" * depth

            def put(inner, outer, deep=deep, inside=inside):
                if outer is None:
                    return (
                        inner.replace('"metadata":', f'"more":{deep},"metadata":', 1)
                        if inside
                        else inner
                    ), None
                return inner, outer if inside else outer[:-1] + f',"deep":{deep}}}'

            yield f"depth {depth}, {inside}", forged(dict(tensors), ours, arrays, text=put)
    first = next(iter(tensors))
    entry = json.dumps(tensors[first], separators=(",", ":"))
    twice = f"{json.dumps(first)}:{entry},"
    yield (
        "an array twice",
        forged(tensors, ours, arrays, text=lambda i, o: (i, o and "{" + twice + o[1:])),
    )
    for key in ours:
        again = json.dumps({key: ours[key]}, separators=(",", ":"))[1:-1]
        yield (
            f"{key} twice",
            forged(tensors, ours, arrays, text=lambda i, o, a=again: (i[:-1] + "," + a + "}", o)),
        )
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "1" + "0" * 300):
        for old in ("8000.0", "1.0", '"epochs":0', "null"):
            new = old.partition(":")[0] + ":" + number if ":" in old else number

            def put(inner, outer, old=old, new=new):
                return (inner.replace(old, new, 1), None) if outer is None else (inner, outer)

            yield f"{new[:20]} for {old}", forged(tensors, ours, arrays, text=put)
    yield "a list for all", len(b"[]").to_bytes(8, "little") + b"[]"
    yield "our entry a list", forged(tensors, [ours], arrays)
    yield "our entry a number", forged(tensors, 7, arrays)


def values(data, header, rng):
    """Numbers of a sound file replaced by such as are no numbers, or no sound model's."""
    tensors, ours, arrays = parts(data)
    formats = {"F32": np.float32, "F64": np.float64}
    names = [name for name, entry in tensors.items() if entry["dtype"] in formats]
    hostile = (np.nan, np.inf, -np.inf, -np.nan, 0.0, -0.0, 1e-45, -1.0, 1.0, 3e38, -3e38, 1e-300)
    for value in hostile:
        for name in names:
            for every in (False, True):
                entry = tensors[name]
                begin, end = entry["data_offsets"]
                a = np.frombuffer(arrays[begin:end], formats[entry["dtype"]]).copy()
                if not a.size:
                    continue
                a[slice(None) if every else rng.integers(a.size)] = value
                bad = arrays[:begin] + a.tobytes() + arrays[end:]
                yield f"{name} holds {value}, every {every}", forged(tensors, dict(ours), bad)
    for name in tensors:
        for dtype in ("F16", "BF16", "F64", "F32", "I64", "U8", "BOOL", "F8_E4M3", "C64", "O"):
            bad = changed(tensors, (name, "dtype"), dtype)
            yield f"{name} is {dtype}", forged(bad, ours, arrays)


def names(data, header, rng):
    """Strings of the header replaced, keys renamed."""
    tensors, ours, arrays = parts(data)
    for old in tensors:
        for new in NAMES:
            bad = {new if name == old else name: entry for name, entry in tensors.items()}
            yield f"{old} called {new[:30]!r}", forged(bad, ours, arrays)
    for new in NAMES:
        place = next((name for name in tensors if name.count(".") > 1), None)
        if place is not None:
            bad = dict(tensors)
            bad[f"models.{new}.D"] = bad.pop(place)
            yield f"a model called {new[:30]!r}", forged(bad, ours, arrays)
    newer = {"format_version": 2}
    for new in NAMES:
        yield f"library {new[:30]!r}", forged(tensors, ours | newer | {"library": new}, arrays)
        metadata = {"features": [new, "b"], "target": new, new: 1}
        yield f"metadata {new[:30]!r}", forged(tensors, ours | {"metadata": metadata}, arrays)
    yield from replaced(data, NAMES, rng)


def pickles(data, header, rng, trap):
    """Pickled code as the whole file, as an array's bytes, as a class."""
    code = pickle.dumps(trap)
    tensors, ours, arrays = parts(data)
    yield "a pickle", code
    yield "a pickle in the arrays", forged(tensors, ours, (code * 100)[: len(arrays)])
    yield "a pickle after the arrays", data + code
    yield "a pickle as class", forged(tensors, ours | {"class": code.hex()}, arrays)
    for name in ("os.system", "builtins.eval", "subprocess.Popen", "__init__", "ssm_manual.models"):
        yield f"class {name}", forged(tensors, ours | {"class": name}, arrays)
