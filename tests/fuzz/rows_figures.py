"""Rows of figures."""

import functools

import numpy as np
from conftest import cast, complex_normal

from fuzz.draws import draw_poles
from fuzz.making import simple
from ssm_manual import plots


@functools.cache
def _axes():
    return plots.figure().subplots()


def _drawn(function):
    def call(**given):
        ax = _axes()
        ax.clear()
        if not hasattr(function(ax=ax, **given), "plot"):
            raise AssertionError("no axes")

    return call


def _figure_rows():
    yield simple(
        "plots.poles",
        _drawn(plots.poles),
        "A_bar:pole initial:pole? conjugates:flag",
        lambda rng, dtype: {
            "A_bar": cast(draw_poles(rng, 4), dtype),
            "initial": None,
            "conjugates": True,
        },
    )
    yield simple(
        "plots.kernel",
        _drawn(plots.kernel),
        "K:array dt:number?",
        lambda rng, dtype: {"K": rng.standard_normal(9).astype(dtype), "dt": 0.1},
    )
    yield simple(
        "plots.frequency_response",
        _drawn(plots.frequency_response),
        "frequencies:real response:array rate:number?",
        lambda rng, dtype: {
            "frequencies": np.sort(rng.random(9)).astype(dtype) / 2,
            "response": cast(complex_normal(rng, 9), dtype),
            "rate": 10.0,
        },
    )
    yield simple(
        "plots.loss_curve",
        _drawn(plots.loss_curve),
        "losses:real",
        lambda rng, dtype: {"losses": rng.uniform(0.1, 1, 9).astype(dtype)},
    )


ROWS = [*_figure_rows()]
