"""Rows of HiPPO, of checks of gradients, and of what is no pair of the registry among the ops."""

import numpy as np
from conftest import cast, complex_normal

from fuzz.draws import draw_poles
from fuzz.hazard import EITHER, SAME
from fuzz.making import WORD, for_years, simple
from ssm_manual import gradcheck, hippo
from ssm_manual.ops import PAIRS, kernels


def _hippo_rows():
    def size(rng, dtype):
        return {"N": int(rng.integers(1, 9)), "dtype": dtype.name}

    for name in ("legs", "fout", "legt"):
        theta = " theta:number" if name != "legs" else ""
        yield simple(
            f"hippo.{name}",
            getattr(hippo, name),
            "N:int dtype:choice" + theta,
            lambda rng, dtype, theta=theta: (
                size(rng, dtype)
                | {"N": 2 * int(rng.integers(1, 5))}
                | ({"theta": 1.5} if theta else {})
            ),
            exceptions=WORD,
        )
    for name in ("nplr", "dplr"):
        yield simple(
            f"hippo.{name}",
            getattr(hippo, name),
            "measure:choice N:int dtype:choice",
            lambda rng, dtype: {
                "measure": ("legs", "legt", "fout")[rng.integers(3)],
                "N": 2 * int(rng.integers(1, 5)),
                "dtype": dtype.name,
            },
            exceptions=WORD,
        )
    yield simple(
        "hippo.diagonal",
        hippo.diagonal,
        "kind:choice modes:int channels:int? dtype:choice",
        lambda rng, dtype: {
            "kind": hippo.INITIAL[rng.integers(len(hippo.INITIAL))],
            "modes": int(rng.integers(1, 9)),
            "channels": None if rng.random() < 0.5 else 3,
            "dtype": dtype.name,
        },
        exceptions=WORD,
    )
    yield simple(
        "hippo.log_dt",
        hippo.log_dt,
        "channels:int dt_min:number dt_max:number rng:rng dtype:choice",
        lambda rng, dtype: {
            "channels": 4,
            "dt_min": 0.01,
            "dt_max": 0.1,
            "rng": np.random.default_rng(int(rng.integers(99))),
            "dtype": dtype.name,
        },
        exceptions=WORD,
    )
    yield simple(
        "hippo.basis",
        hippo.basis,
        "measure:choice N:int age:real",
        lambda rng, dtype: {
            "measure": "legs",
            "N": int(rng.integers(1, 9)),
            "age": rng.random(5).astype(dtype),
        },
    )
    yield simple(
        "hippo.project",
        hippo.project,
        "measure:choice u:real N:int",
        lambda rng, dtype: {
            "measure": "legs",
            "u": rng.standard_normal(int(rng.integers(1, 20))).astype(dtype),
            "N": int(rng.integers(1, 9)),
        },
    )


DIFFERENCES = {
    "* layout: nested lists": (EITHER, "arrays alone"),
    **{f"{n} dtype: other precision": (EITHER, "") for n in "AB"},
    **{
        f"{n} value: {hazard}": (None, "differences of such numbers mean nothing")
        for n in "AB"
        for hazard in ("tiny", "large", "huge", "one huge", "huge and tiny")
    },
}


def _other_rows():
    yield simple(
        "ops.kernels.power",
        kernels.power,
        "A_bar:pole t:ids",
        lambda rng, dtype: {
            "A_bar": cast(draw_poles(rng, 3), dtype),
            "t": rng.integers(0, 60, 3),
        },
        exceptions={
            "t number type: object": (SAME, "objects that are whole numbers"),
            "t type: a Python number": (EITHER, "a number"),
        },
    )
    yield simple(
        "ops.kernels.generate (out, hybrid)",
        kernels.generate,
        "A_bar:pole B_bar:array C:array length:length threshold:int? cutoff:number",
        lambda rng, dtype: {
            **{n: cast(complex_normal(rng, 3), dtype) for n in ("B_bar", "C")},
            "A_bar": cast(draw_poles(rng, 3), dtype),
            "length": int(rng.integers(0, 30)),
            "threshold": int(rng.integers(0, 30)),
            "cutoff": 0.0,
            "method": "hybrid",
        },
        overflows="`generate` says that complex kernels may be NaN",
    )
    pair = PAIRS["tustin"]
    yield simple(
        "gradcheck.check_vjp",
        lambda A, B, **given: bool(
            gradcheck.check_vjp(pair.fwd, pair.vjp, (A, B, np.array(0.1)), **given)
        ),
        "A:array B:array rtol:number directions:int cotangent:choice",
        lambda rng, dtype: {
            "A": -1 + 0.2 * complex_normal(rng, 2),
            "B": complex_normal(rng, 2),
            "rtol": 1e-7,
            "directions": 2,
            "cotangent": "random",
            "arguments": ("A", "B", "dt"),
        },
        exceptions=DIFFERENCES | for_years("directions"),
        also=("op_fwd",),
    )
    yield simple(
        "gradcheck.check_adjoint",
        lambda A, B, **given: bool(
            gradcheck.check_adjoint(pair.fwd, pair.vjp, (A, B, np.array(0.1)), **given)
        ),
        "A:array B:array rtol:number",
        lambda rng, dtype: {
            "A": -1 + 0.2 * complex_normal(rng, 2),
            "B": complex_normal(rng, 2),
            "linear": ("B",),
            "rtol": 1e-12,
            "arguments": ("A", "B", "dt"),
        },
        exceptions=DIFFERENCES,
        also=("op_fwd",),
    )
    yield simple(
        "gradcheck.numeric_gradient",
        lambda A, B, **given: gradcheck.numeric_gradient(pair.fwd, (A, B, np.array(0.1)), **given),
        "index:int",
        lambda rng, dtype: {
            "A": -1 + 0.2 * complex_normal(rng, 2),
            "B": complex_normal(rng, 2),
            "index": 1,
            "grad_out": (np.ones(2, complex), np.ones(2, complex)),
        },
    )
    yield simple(
        "gradcheck.check_registry",
        lambda **given: bool(gradcheck.check_registry(**given)),
        "seed:int names:object?",
        lambda rng, dtype: {"names": ["half_mse"], "seed": 0},
        covers=(
            "ssm_manual.gradcheck.check_example",
            "ssm_manual.gradcheck.registered",
            "ssm_manual.gradcheck.registry_examples",
        ),
        also=("op",),
    )


ROWS = [*_hippo_rows(), *_other_rows()]
