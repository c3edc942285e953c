"""Rows of figures."""

import functools

import numpy as np
from conftest import cast, complex_normal

from fuzz.draws import draw_poles
from fuzz.making import simple
from ssm_manual import plots

#: Matplotlib's own arithmetic, which warns of its overflows.
BEYOND = {
    f"* {hazard}": (None, "no axis reaches so far")
    for hazard in (
        *("value: large", "value: huge", "value: one huge", "value: huge and tiny"),
        *("number: 1e308", "number: subnormal", "number: 1e-300", "number: 1e30"),
    )
}


@functools.cache
def _axes():
    return plots.figure().subplots()


def _shown(ax):
    """What a reader of the figure sees: the curves and points, the ranges and the texts."""
    lines = [np.asarray(line.get_xydata(), float) for line in ax.lines]
    points = [np.asarray(part.get_offsets(), float) for part in ax.collections]
    texts = [ax.get_xlabel(), ax.get_ylabel(), ax.get_title()]
    return lines, points, texts, ax.get_legend_handles_labels()[1]


def _drawn(function):
    def call(**given):
        ax = _axes()
        ax.clear()
        if function(ax=ax, **given) is not ax:
            raise AssertionError("not the axes that were given")
        return _shown(ax)

    return call


def figure(name, call, words, make):
    """A row of a figure."""
    groups = {kind.split(":")[1].rstrip("?") for kind in words.split()}
    beyond = {
        key: verdict
        for key, verdict in BEYOND.items()
        if ("number" in groups if "number" in key else groups - {"number", "int", "choice", "flag"})
    }
    return simple(name, call, words, make, exceptions=beyond)


def _figure_rows():
    yield figure(
        "plots.poles",
        _drawn(plots.poles),
        "A_bar:pole initial:pole? conjugates:flag",
        lambda rng, dtype: {
            "A_bar": cast(draw_poles(rng, 4), dtype),
            "initial": None,
            "conjugates": True,
        },
    )
    yield figure(
        "plots.kernel",
        _drawn(plots.kernel),
        "K:array dt:number?",
        lambda rng, dtype: {"K": rng.standard_normal(9).astype(dtype), "dt": 0.1},
    )
    yield figure(
        "plots.frequency_response",
        _drawn(plots.frequency_response),
        "frequencies:real response:array rate:number?",
        lambda rng, dtype: {
            "frequencies": np.sort(rng.random(9)).astype(dtype) / 2,
            "response": cast(complex_normal(rng, 9), dtype),
            "rate": 10.0,
        },
    )
    yield figure(
        "plots.loss_curve",
        _drawn(plots.loss_curve),
        "losses:real",
        lambda rng, dtype: {"losses": rng.uniform(0.1, 1, 9).astype(dtype)},
    )
    yield figure(
        "plots.signals",
        _drawn(
            lambda noisy, clean, **given: plots.signals({"noisy": noisy, "clean": clean}, **given)
        ),
        "noisy:real clean:real rate:number? start:int",
        lambda rng, dtype: {
            "noisy": rng.standard_normal(9).astype(dtype),
            "clean": rng.standard_normal(9).astype(dtype),
            "rate": 10.0,
            "start": 3,
        },
    )
    yield figure(
        "plots.hippo_memory",
        _drawn(plots.hippo_memory),
        "u:real N:int rate:number? window:number?",
        lambda rng, dtype: {
            "u": rng.standard_normal(12).astype(dtype),
            "N": 4,
            "rate": 10.0,
            "window": 6.0,
        },
    )
    yield figure(
        "plots.initial_kernels",
        _drawn(plots.initial_kernels),
        "kind:choice modes:int shown:int until:number",
        lambda rng, dtype: {"kind": "legs", "modes": 4, "shown": 2, "until": 2.0},
    )


ROWS = [*_figure_rows()]
