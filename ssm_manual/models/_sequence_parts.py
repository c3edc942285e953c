"""Which parts a `SequenceModel` has: its options checked, and the parts by a maker.

The makers are those of blocks (`layers._makers`), so that one description serves to draw a model,
to restore it from a file and to count its parameters without forming any.
"""

from ssm_manual import _validate
from ssm_manual.layers import _makers, _parts
from ssm_manual.layers._block import MODES, SSM, checked_mixing, checked_options
from ssm_manual.layers.dropout import Dropout
from ssm_manual.layers.embedding import Embedding
from ssm_manual.layers.gated_block import GatedBlock
from ssm_manual.layers.linear import Linear
from ssm_manual.layers.lstm import LSTM
from ssm_manual.layers.rnn import RNN
from ssm_manual.layers.s4d_block import S4DBlock

TASKS = ("classification", "regression", "generation")
ENCODERS = ("linear", "two_layer", "embedding")
POOLINGS = ("mean", "last")

#: The largest number of blocks: each is an object of its own.
DEEPEST = 10_000

#: What a block is made of, by its name.
RECURRENT = {"rnn": RNN, "lstm": LSTM}
BLOCKS = ("s4d", "s4", "gated", *RECURRENT)

#: Which options are meant for which blocks.
MEANT_FOR = {
    "modes": ("s4d", "s4", "gated"),
    "mixer": ("s4d", "s4"),
    "expansion": ("s4d", "s4", "gated"),
}


def checked(
    d_input,
    d_model,
    d_output,
    n_layers,
    *,
    task,
    block,
    encoder,
    positions,
    pooling,
    modes,
    mixer,
    expansion,
    norm,
    dropout,
    tied_dropout,
    layer_options,
):
    """All options as a dict that JSON can hold, defaults filled in."""
    widths = {"d_input": d_input, "d_model": d_model, "d_output": d_output, "n_layers": n_layers}
    for name, value in widths.items():
        largest = DEEPEST if name == "n_layers" else _validate.SIDE
        widths[name] = _validate.size(name, value, maximum=largest)
    _validate.one_of("task", task, TASKS)
    _validate.one_of("block", block, BLOCKS)
    _validate.one_of("encoder", encoder, ENCODERS)
    if positions is not None:
        positions = _validate.length("positions", positions, minimum=1)
    if task == "classification":
        pooling = _validate.one_of("pooling", "mean" if pooling is None else pooling, POOLINGS)
    elif pooling is not None:
        raise ValueError(f"pooling is {pooling!r}; it must be None for task {task!r}")
    for name, value in {"modes": modes, "mixer": mixer, "expansion": expansion}.items():
        if value is not None and block not in MEANT_FOR[name]:
            raise ValueError(
                f"{name} is {_validate.show(value)}; it must be None for block {block!r}"
            )
    if block in MEANT_FOR["modes"]:
        modes = MODES if modes is None else _validate.size("modes", modes)
    mixing = checked_mixing(widths["d_model"], norm, dropout, tied_dropout)
    mixing.pop("features")
    layer = RECURRENT.get(block) or SSM.get(block, SSM["s4d"])
    layer_options = checked_options("layer_options", layer_options, layer)
    if task == "generation" and layer_options.get("bidirectional", False):
        raise ValueError("layer_options asks for a bidirectional layer; generation must be causal")
    options = widths | {"task": task, "block": block, "encoder": encoder, "positions": positions}
    options |= {"pooling": pooling, "modes": modes, "mixer": mixer, "expansion": expansion}
    return options | mixing | {"layer_options": layer_options}


def assemble(maker, options):
    """The parts up to the last norm, as (name, layer), and the head."""
    H, block = options["d_model"], options["block"]
    parts = []

    def add(name, cls, *args, **given):
        parts.append((name, maker.part(name, cls, *args, **given)))

    if options["encoder"] == "embedding":
        add("encoder", Embedding, options["d_input"], H)
    elif options["encoder"] == "linear":
        add("encoder", Linear, options["d_input"], H)
    else:
        add("encoder.first", Linear, options["d_input"], H)
        add("encoder.gelu", _parts.GeluDropout, 0.0)
        add("encoder.second", Linear, H, H)
    if options["positions"] is not None:
        add("positions", _parts.Positions, H, options["positions"])
    masks = {"dropout": options["dropout"], "tied_dropout": options["tied_dropout"]}
    given = masks | {"norm": options["norm"], "ssm_options": options["layer_options"]}
    if options["expansion"] is not None:
        given["expansion"] = options["expansion"]
    for i in range(options["n_layers"]):
        name = f"blocks.{i}"
        if block in RECURRENT:
            add(f"{name}.{block}", RECURRENT[block], H, H, **options["layer_options"])
            add(f"{name}.dropout", Dropout, masks["dropout"], tied=masks["tied_dropout"])
        elif block == "gated":
            add(name, GatedBlock, H, options["modes"], **given)
        else:
            mixer = options["mixer"] or "glu"
            add(name, S4DBlock, H, options["modes"], ssm=block, mixer=mixer, **given)
    if options["norm"] != "none":
        add("norm", _parts.NORMS[options["norm"]], H)
    return tuple(parts), maker.part("head", Linear, H, options["d_output"])


def shapes(options):
    """Shapes of all parameters by name, without forming any."""
    maker = _makers.Counted()
    assemble(maker, options)
    return maker.shapes
