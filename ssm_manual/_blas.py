"""One thread in BLAS while our own threads call it.

A kernel that shares its rows out among threads calls BLAS in each of them. Were BLAS to start
threads of its own for every small product, they would fight for the cores (a product can take sixty
times longer on a busy machine), and the order of its sums would depend on their number.
"""

import contextlib
import functools
import os
import threading

_lock = threading.Lock()
_inside = 0
_before = ()


@functools.cache
def _libraries():
    """The BLAS libraries of this process; looking for them takes milliseconds, so once."""
    import scipy.linalg.cython_blas  # noqa: F401
    import threadpoolctl

    # The first import loads the library that compiled kernels call; it must be there to be found.

    return threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers


def _set(library, number):
    """The number of threads of the process, whichever Python thread asks.

    threadpoolctl from 3.8 on lets one Python thread alone set that of OpenBLAS, the first to do so,
    and ignores all others: a limit would not hold in them, and none of them could lift it.
    """
    getattr(library, "_real_set_num_threads", library.set_num_threads)(number)


@contextlib.contextmanager
def single_threaded():
    """Inside the block BLAS runs on one thread; blocks of several Python threads may overlap.

    The number of threads belongs to the process: the first block to begin lowers it and the last
    one to end puts it back.
    """
    global _inside, _before
    libraries = _libraries()
    with _lock:
        if _inside == 0:
            _before = tuple(library.get_num_threads() for library in libraries)
            for library in libraries:
                _set(library, 1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, number in zip(libraries, _before):
                    _set(library, number)


def _after_fork_in_child():
    """The child has none of the threads that were inside: their blocks never end."""
    global _lock, _inside
    _lock = threading.Lock()
    if _inside:
        for library, number in zip(_libraries(), _before):
            _set(library, number)
    _inside = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
