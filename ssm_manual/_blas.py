"""One thread in BLAS while our own threads call it.

A kernel that shares its rows out among threads calls BLAS in each of them. Were BLAS to start
threads of its own for every small product, they would fight for the cores (a product can take sixty
times longer on a busy machine), and the order of its sums would depend on their number.
"""

import contextlib
import functools
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
                library.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, number in zip(libraries, _before):
                    library.set_num_threads(number)
