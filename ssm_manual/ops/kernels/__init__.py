"""The convolution kernel of one pole, ``K_t = C A_bar^t B_bar`` [KERNEL-1].

A ladder of methods, and one gradient for all of them:

=================  ==========================================================  ===================
method             how                                                         file
=================  ==========================================================  ===================
``naive``          running power, three products a step [KERNEL-2]             ``naive.py``
``recursive``      ``K_t = K_{t-1} A_bar`` [KERNEL-3]                          ``recursive.py``
``log``            ``exp(log(C B_bar) + t log A_bar)`` [KERNEL-4]              ``log.py``
``log_parallel``   log-space in double-double over blocks of time, on threads  ``log_parallel.py``
                   [LOG-1], [KERNEL-10]
``anchored``       ``K_{jM+k} = Z_j W_k``, tables in double-double             ``anchored.py``
                   [ANCHORED-1]
``hybrid``         recursive to 1024 steps, log_parallel beyond [KERNEL-9]     ``generate.py``
``auto``           by measurement: recursive to 16 steps, anchored beyond      ``generate.py``
=================  ==========================================================  ===================

``power`` gives a single ``A_bar^t`` at any t up to 2^48. The gradient is Horner's rule on the
cotangent (``moments.py``). Derivations: docs/derivations/kernels.md and
docs/derivations/precise_kernels.md.
"""

from ssm_manual.ops.kernels.generate import METHODS, generate, generate_fwd, generate_vjp
from ssm_manual.ops.kernels.power import power

__all__ = ["METHODS", "generate", "generate_fwd", "generate_vjp", "power"]
