"""Vector instructions are seen in the machine code, not assumed (x86-64)."""

import hashlib
import json
import os
import platform
import re
from pathlib import Path

import llvmlite
import numba
import pytest
from conftest import run_python
from llvmlite.binding import get_host_cpu_features as host_features
from llvmlite.binding import get_host_cpu_name as host

from ssm_manual import _files

#: Compiles the kernels anew (a cached kernel keeps no assembly) and prints it by dtype and name.
COMPILE = """
import json
import sys
import numpy as np
from ssm_manual.ops.kernels import generate

KERNELS = "anchored", "log", "log_parallel"
modules = {name: sys.modules[f"ssm_manual.ops.kernels.{name}"] for name in KERNELS}
assembly, seen = {}, set()
for dtype in ("complex128", "complex64"):
    pole = np.array([0.9 + 0.1j], dtype)
    K = np.empty((1, 300), dtype)
    found = assembly[dtype] = {}
    for name, module in modules.items():
        kernel = getattr(module, name)
        kernel(pole, pole, pole, np.array([300]), K)
        for part in (name, "_samples", "_samples_single", "_table"):
            compiled = getattr(module, part, None)
            compiled = getattr(compiled, "kernel", compiled)
            texts = compiled.inspect_asm() if compiled is not None else {}
            new = [key for key in texts if (name, part, key) not in seen]
            seen.update((name, part, key) for key in new)
            # Parts in double precision alone are compiled for the first dtype and serve both.
            found[name + ":" + part] = "\\n".join(texts[key] for key in new or texts)
print(json.dumps(assembly))
"""

#: Library functions, however they are called: by name, or through a register.
TRANSCENDENTAL = re.compile(
    r"(?:callq?\s+|movabsq\s+\$|movq\s+)(?:_ZGV\w*)?"
    r"(c?(?:sin|cos|sincos|exp|exp2|expm1|pow|cexp|numba_c?exp|numba_cpow))f?\b"
)
PACKED_PRODUCT = re.compile(r"\bv?(?:mul|fn?m(?:add|sub)\d*)pd\b")
PACKED_SUM = re.compile(r"\bv?(?:add|sub)pd\b")
SCALAR_PRODUCT = re.compile(r"\bv?(?:mul|fn?m(?:add|sub)\d*)sd\b")

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86-64 assembly"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Assembly by dtype and ``kernel:part``, kept beside the compile cache of these sources."""
    made_by = COMPILE, numba.__version__, llvmlite.__version__, host(), str(host_features())
    name = hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:16]
    kept = Path(os.environ["NUMBA_CACHE_DIR"], f"assembly-{name}.json")
    if not kept.exists():
        empty = tmp_path_factory.mktemp("empty")
        text = run_python(COMPILE, NUMBA_CACHE_DIR=str(empty))
        with _files.replacement(kept) as temporary:
            Path(temporary).write_text(text)
    return json.loads(kept.read_text())


@pytest.fixture(params=["complex128", "complex64"])
def assembly(request, compiled):
    return request.param, compiled[request.param]


def test_no_library_function_is_called(assembly):
    _, text = assembly
    for part, lines in text.items():
        if not part.startswith("log:"):
            assert TRANSCENDENTAL.findall(lines) == [], part
    # The plain log-space kernel does call them, and is seen to.
    assert TRANSCENDENTAL.search(text["log:log"])


def test_the_loops_are_made_of_vector_instructions(assembly):
    dtype, text = assembly
    written = "_samples" if dtype == "complex128" else "_samples_single"
    # The loop over a block of `anchored`: a product and its fused (or separate) sums.
    for part in (f"anchored:{written}", "anchored:anchored"):
        assert len(PACKED_PRODUCT.findall(text[part])) >= 2, part
    # Its tables in double-double: products apart from sums, since fusing them would break Dekker's.
    table = text["anchored:_table"]
    assert len(PACKED_PRODUCT.findall(table)) >= 20
    assert len(PACKED_SUM.findall(table)) >= 20
    assert not re.search(r"\bvfn?m(?:add|sub)\w*\b", table)
    # The polynomials: three of degree 8 to 14. What is scalar is a remainder of the same loop.
    for part in ("log_parallel:_samples", "log_parallel:log_parallel"):
        assert len(PACKED_PRODUCT.findall(text[part])) >= 30, part
    samples = text["log_parallel:_samples"]
    packed, scalar = PACKED_PRODUCT.findall(samples), SCALAR_PRODUCT.findall(samples)
    assert len(packed) >= len(scalar) - 2
