"""Rows of what makes and scores the tasks' data."""

import numpy as np

from fuzz.hazard import EITHER
from fuzz.making import WORD, simple
from ssm_manual.tasks import (
    denoising,
    filters,
    fir,
    free_run,
    memory,
    previous_bit,
    seasonal,
    sentinel,
    signals,
    sinusoids,
    xor,
)


def _rng(rng):
    return np.random.default_rng(int(rng.integers(1 << 20)))


def _series(rng, dtype, n=260):
    t = np.arange(n)
    return (300 + 0.03 * t + 3 * np.sin(2 * np.pi * t / 52) + 0.1 * rng.standard_normal(n)).astype(
        dtype
    )


SERIES = {
    "values value": (EITHER, "NaN stands for a missing week"),
    "values dtype": (EITHER, "converted"),
    "values type": (EITHER, "converted"),
    "values type: None": ("refused", ""),
    "values layout": (EITHER, "converted"),
}


def _task_rows():
    drawn = "rng:rng sequences:int length:length"

    def made(rng, dtype, **more):
        return {"rng": _rng(rng), "sequences": 2, "length": 9, **more}

    yield simple("tasks.memory.previous_bit", memory.previous_bit, drawn, made)
    yield simple(
        "tasks.memory.delayed",
        memory.delayed,
        f"{drawn} delay:int cycles:int",
        lambda rng, dtype: made(rng, dtype, delay=2, cycles=2),
    )
    yield simple(
        "tasks.memory.copying_memory",
        memory.copying_memory,
        "rng:rng sequences:int symbols:int gap:length",
        lambda rng, dtype: {"rng": _rng(rng), "sequences": 2, "symbols": 3, "gap": 4},
    )
    yield simple(
        "tasks.memory.one_hot",
        memory.one_hot,
        "tokens:ids classes:int dtype:choice",
        lambda rng, dtype: {
            "tokens": rng.integers(0, 5, (2, 7)),
            "classes": 5,
            "dtype": dtype.name,
        },
        exceptions=WORD,
    )
    yield simple(
        "tasks.memory.previous_bit_floor",
        memory.previous_bit_floor,
        "inputs:real bias:flag",
        lambda rng, dtype: {
            "inputs": memory.previous_bit(_rng(rng), 2, 9, dtype=dtype.name)[0],
            "bias": bool(rng.integers(2)),
        },
    )
    yield simple(
        "tasks.sentinel.sentinel",
        sentinel.sentinel,
        f"{drawn} vocabulary:int",
        lambda rng, dtype: made(rng, dtype, vocabulary=10),
    )
    yield simple("tasks.xor.delayed_xor", xor.delayed_xor, drawn, made)
    yield simple(
        "tasks.sinusoids.sequences",
        lambda **given: tuple(sinusoids.sequences(**given)),
        "rng:rng items:int length:length features:int noise:number",
        lambda rng, dtype: {
            "rng": _rng(rng),
            "items": 2,
            "length": 12,
            "features": 2,
            "noise": 0.1,
        },
    )
    yield simple(
        "tasks.signals.sinusoids",
        lambda **given: signals.sinusoids(**given).samples,
        "length:length components:int rng:rng lowest:number highest:number rate:number?",
        lambda rng, dtype: {
            "length": 30,
            "components": 2,
            "rng": _rng(rng),
            "lowest": 0.01,
            "highest": 0.1,
            "rate": 10.0,
        },
    )
    yield simple(
        "tasks.denoising.prepare",
        lambda **given: denoising.prepare(**given).clean,
        "samples:real noise_snr:number lookahead:int train_share:number",
        lambda rng, dtype: {
            "samples": rng.standard_normal(200).astype(dtype),
            "noise_snr": 5.0,
            "lookahead": 2,
            "train_share": 0.7,
        },
    )
    for name in ("seasonal_naive", "carried", "autoregression"):
        options = {
            "seasonal_naive": {"weeks": 3},
            "autoregression": {"order": 3, "first": 120},
        }.get(name, {})
        horizons = {} if name == "carried" else {"horizons": (1, 4)}
        yield simple(
            f"tasks.seasonal.{name}",
            lambda name=name, **given: _finite_part(getattr(seasonal, name)(**given)),
            "values:real" + "".join(f" {n}:int" for n in options),
            lambda rng, dtype, options=options, horizons=horizons: {
                "values": _series(rng, dtype),
                **horizons,
                **options,
            },
            exceptions=SERIES,
            overflows="differences of values",
        )
    yield simple(
        "tasks.fir.advance",
        fir.advance,
        "y:real delay:int",
        lambda rng, dtype: {"y": rng.standard_normal(12).astype(dtype), "delay": 3},
        exceptions={"y *": (EITHER, "moved, not read")},
        overflows="given back as it is",
        given_back=True,
    )
    yield simple(
        "tasks.free_run.Autoregression",
        _continued,
        "x:real order:int",
        lambda rng, dtype: {"x": rng.standard_normal((2, 30, 2)).astype(dtype), "order": 3},
        covers=(
            "ssm_manual.tasks.free_run.Autoregression.next",
            "ssm_manual.tasks.free_run.Autoregression.error",
            "ssm_manual.tasks.free_run.Autoregression.free_run",
        ),
    )
    yield simple(
        "tasks.denoising.snr",
        denoising.snr,
        "clean:real error:real",
        lambda rng, dtype: {
            "clean": rng.standard_normal(9).astype(dtype),
            "error": rng.standard_normal((int(rng.integers(1, 3)), 9)).astype(dtype),
        },
        overflows="powers beyond the range",
        given_back=True,  # an error of zero is infinitely many dB
    )
    yield simple(
        "tasks.previous_bit.bits_right",
        previous_bit.bits_right,
        "logits:real bits:ids",
        lambda rng, dtype: {
            "logits": rng.standard_normal((2, 7)).astype(dtype),
            "bits": rng.integers(0, 2, (2, 7)),
        },
        exceptions={"bits *": (EITHER, "what is not 1 is 0")},
    )
    for name in ("LeastSquaresFIR", "ChosenFIR"):
        yield simple(
            f"tasks.filters.{name}",
            lambda taps, name=name: getattr(filters, name)(taps) and None,
            "taps:int",
            lambda rng, dtype: {"taps": 8},
        )


def _continued(x, order):
    fitted = free_run.Autoregression(x, order)
    forecasts = fitted.next(x, order), fitted.free_run(x, order, 3)
    return fitted.weights, fitted.error(x, order), *forecasts


def _finite_part(out):
    """Forecasts where there are any: NaN stands for weeks without one."""
    return [np.nan_to_num(a) for a in (out if isinstance(out, tuple) else (out,))]


ROWS = [*_task_rows()]
