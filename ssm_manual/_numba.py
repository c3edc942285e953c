"""The one file that names Numba: how kernels are compiled, cached, threaded and announced.

Design
------
* ``cache=True`` keeps machine code on disk, so that only the first run of a machine compiles. Numba
  refuses to decorate at all where no cache folder can be written; then the kernel is compiled in
  memory and one warning says so.
* ``error_model="numpy"``: a division by zero gives inf or nan as in NumPy, not a Python exception
  out of a kernel. Public functions validate before they call a kernel.
* ``fastmath`` stays off, but for the sums of the training loop: ``reassoc``, ``nsz`` and
  ``contract`` let a dot product run in vector registers, which makes an epoch about twice as fast.
  ``nnan`` and ``ninf`` are never set: divergence must be seen.
* One lock is held around every parallel kernel: Numba's fall-back threading layer (workqueue)
  aborts the process when two Python threads launch at once.
* A forked child has none of its parent's threads, and GNU OpenMP ends a child that asks for them.
  Where the parent had started them, the child runs every kernel on one thread, with the same bits.
"""

import functools
import os
import threading
import types

import numba
import numpy as np
from numba.core import event as _event
from numba.core.compiler_lock import global_compiler_lock as _compiler_lock
from numba.extending import overload

from ssm_manual import _kernel_cache
from ssm_manual._sources import source_hash

prange = numba.prange

_parallel_lock = threading.RLock()  # a signal handler may run a kernel where one is about to start
_orphaned = False  # this process is a fork of one that had started threads


_sources = functools.cache(source_hash)


def _decorate(function, **options):
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        kernel = numba.njit(cache=True, **options)(function)
        _kernel_cache.guard(kernel, _sources(), ".checked" if numba.config.BOUNDSCHECK else "")
        return kernel
    except RuntimeError as error:  # "cannot cache function ...: no locator available for file ..."
        if "cache" not in str(error):
            raise
        _kernel_cache.warn(
            "ssm_manual cannot write a compile cache, so kernels are compiled anew in every "
            "process; set NUMBA_CACHE_DIR to a folder that can be written to keep them"
        )
        return numba.njit(**options)(function)


def jit(function):
    """Compile a kernel on first call, serial, releasing the interpreter lock."""
    return _decorate(function)


def jit_inlined(function):
    """As `jit`, always inlined, so that a loop around it can become a vector loop."""
    return _decorate(function, forceinline=True)


def jit_inlined_contracted(function):
    """As `jit_contracted`, always inlined: for loops too short to pay for a call."""
    return _decorate(function, fastmath={"contract"}, forceinline=True)


def jit_contracted(function):
    """As `jit`, with products and sums fused where the machine can, in the order as written."""
    return _decorate(function, fastmath={"contract"})


def jit_reassociated(function):
    """As `jit`, with sums taken in any order; NaN and infinity keep their meaning."""
    return _decorate(function, fastmath={"contract", "reassoc", "nsz"})


def parallel_jit(function):
    """Compile a kernel with ``prange`` loops; calls from several Python threads take turns."""
    kernel = _decorate(function, parallel=True)
    alone = functools.cache(lambda: _decorate(_renamed(function)))

    @functools.wraps(function)
    def call(*args):
        with _parallel_lock:
            return (alone() if _orphaned else kernel)(*args)

    call.kernel = kernel
    return call


def _renamed(function):
    """The same function by a name of its own: Numba's cache tells kernels apart by name."""
    copy = types.FunctionType(function.__code__, function.__globals__, closure=function.__closure__)
    copy.__module__ = function.__module__
    copy.__qualname__ = function.__qualname__ + "_alone"
    return copy


def threads():
    """The number of threads that a parallel kernel started from this Python thread would use."""
    if _orphaned:
        return 1
    if not _threads_started():
        with _parallel_lock:  # asking starts them, and no fork may come in between
            return numba.get_num_threads()
    return numba.get_num_threads()


# ----------------------------------------------------------------------------------------- forking


def _threads_started():
    try:
        numba.threading_layer()
    except ValueError:
        return False
    return True


def _before_fork():
    """Wait until no other thread runs a parallel kernel or compiles: a fork copies held locks."""
    _parallel_lock.acquire()
    _compiler_lock.acquire()


def _after_fork_in_parent():
    _compiler_lock.release()
    _parallel_lock.release()


def _after_fork_in_child():
    global _orphaned, _parallel_lock
    _orphaned = _orphaned or _threads_started()
    _parallel_lock = threading.RLock()
    if _compiler_lock.is_locked():  # not where C code has forked, which calls only this function
        _compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


# ------------------------------------------------------------------------------- parts of kernels


def project(z, like):
    """``z`` itself, or its real part where ``like`` is real: the projection onto its field.

    The adjoint of embedding the reals into the complex plane [COMPLEX-4].
    """
    return z if np.iscomplexobj(like) else np.real(z)


@overload(project)
def _project(z, like):
    if isinstance(like, numba.types.Array):
        like = like.dtype
    if isinstance(like, numba.types.Complex) or not isinstance(z, numba.types.Complex):
        return lambda z, like: z
    return lambda z, like: z.real


def by_precision(single, double):
    """A function of one real number: ``single`` of a float32, ``double`` of a float64.

    Both are kernels. Which one runs is settled when the caller is compiled.
    """

    def function(x):
        return single(x) if isinstance(x, np.float32) else double(x)

    @overload(function, jit_options={"forceinline": True})
    def _function(x):
        if x == numba.types.float32:
            return lambda x: single(x)
        return lambda x: double(x)

    return function


#: Steps between two looks at whether a decaying value has become subnormal.
FLUSH_EVERY = 64


def flushed(z):
    """``z``, or zero where both its parts are below the smallest normal number.

    A decaying state or kernel ends in subnormal numbers, on which a processor is a hundred times
    slower; rounding holds them there, so that they never reach zero by themselves.
    """
    tiny = np.finfo(np.real(z).dtype).tiny
    return z * 0 if abs(z.real) < tiny and abs(z.imag) < tiny else z


@overload(flushed)
def _flushed(z):
    single = z == numba.types.complex64
    tiny = float(np.finfo(np.float32 if single else np.float64).tiny)
    zero = np.complex64(0) if single else np.complex128(0)
    return lambda z: zero if abs(z.real) < tiny and abs(z.imag) < tiny else z


def gemm(A, B, beta, out):
    """``out = A B + beta out`` by BLAS, inside a kernel; float32 or float64 matrices.

    A and B may be transposed (``A.T``) and all three may be blocks of larger matrices
    (``A[:m, :k]``): nothing is copied. ``np.dot`` copies whatever is not contiguous and cannot add
    to what is there. This calls the symbol that Numba itself calls for ``np.dot``,
    ``numba_xxgemm``, which is SciPy's BLAS; the caller keeps that to one thread
    (`_blas.single_threaded`, which also loads it). A matrix must have one axis along which its
    elements are adjacent, ``out`` the last one; ``out`` overlaps neither A nor B. Nothing is
    checked.
    """
    product = A @ B
    out[...] = product if beta == 0 else product + out.dtype.type(beta) * out


_int, _char, _pointer = numba.types.intp, numba.types.int8, numba.types.voidptr
_xgemm = numba.types.ExternalFunction(
    "numba_xxgemm",
    numba.types.intc(
        *(_char, _char, _char, _int, _int, _int, _pointer, _pointer, _int),
        *(_pointer, _int, _pointer, _pointer, _int),
    ),
)
_KIND = {numba.types.float32: np.int8(ord("s")), numba.types.float64: np.int8(ord("d"))}
_PLAIN, _TRANSPOSED = np.int8(ord("n")), np.int8(ord("t"))


@overload(gemm)
def _gemm(A, B, beta, out):
    kind = _KIND[out.dtype]

    def call(A, B, beta, out):
        rows, columns = out.shape
        inner = A.shape[1]
        if rows == 0 or columns == 0:
            return
        size = out.itemsize
        # Rows lie one after the other, but for a transposed matrix; the distance of neighbours
        # along an axis of one element means nothing, and BLAS wants at least the row's length.
        flip_A = not (A.strides[1] == size and (rows == 1 or A.strides[0] >= inner * size))
        flip_B = not (B.strides[1] == size and (inner == 1 or B.strides[0] >= columns * size))
        step_A = max(A.strides[1] // size, rows) if flip_A else max(A.strides[0] // size, inner)
        step_B = max(B.strides[1] // size, inner) if flip_B else max(B.strides[0] // size, columns)
        step = max(out.strides[0] // size, columns)
        scale = np.empty(2, out.dtype)
        scale[0], scale[1] = 1, beta
        # BLAS reads matrices by columns and so sees every one transposed: out^T = B^T A^T.
        _xgemm(
            kind,
            _TRANSPOSED if flip_B else _PLAIN,
            _TRANSPOSED if flip_A else _PLAIN,
            columns,
            rows,
            inner,
            scale.ctypes,
            B.ctypes,
            max(step_B, 1),
            A.ctypes,
            max(step_A, 1),
            scale[1:].ctypes,
            out.ctypes,
            max(step, 1),
        )

    return call


class _Announcer(_event.Listener):
    """Tells a person which kernels are being compiled, and that it happens only once."""

    def __init__(self, say):
        self.say = say
        self.names = []

    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if not function.__module__.startswith("ssm_manual") or function.__name__ == "<lambda>":
            return  # Numba compiles parts of itself too, and `project` for each pair of types
        name = function.__name__.lstrip("_")
        if name not in self.names:
            if not self.names:
                self.say("compiling (once; kept for later runs):")
            self.names.append(name)
            self.say(f"  {name}")

    def on_end(self, event):
        pass


class announce_compilation:
    """Context manager: ``say(line)`` for every kernel that has to be compiled inside the block.

    Kernels that come from the cache are not announced.
    """

    def __init__(self, say):
        self._listener = _Announcer(say)

    def __enter__(self):
        _event.register("numba:compile", self._listener)
        return self

    def __exit__(self, *exc_info):
        _event.unregister("numba:compile", self._listener)
        return False
