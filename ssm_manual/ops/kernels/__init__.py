"""The convolution kernel of one pole, ``K_t = C A_bar^t B_bar`` [KERNEL-1].

A ladder of methods, and one gradient for all of them:

=================  ==========================================================  ===================
method             how                                                         file
=================  ==========================================================  ===================
``naive``          running power, three products a step [KERNEL-2]             ``naive.py``
``recursive``      ``K_t = K_{t-1} A_bar`` [KERNEL-3]                          ``recursive.py``
``log``            ``exp(log(C B_bar) + t log A_bar)`` [KERNEL-4]              ``log.py``
``log_parallel``   the same over blocks of time, on threads [KERNEL-10]        ``log_parallel.py``
``hybrid``         recursive to 1024 steps, log_parallel beyond [KERNEL-9]     ``generate.py``
``auto``           the fastest and most precise by measurement: recursive      ``generate.py``
=================  ==========================================================  ===================

The gradient is Horner's rule on the cotangent (``moments.py``). Derivation:
docs/derivations/kernels.md.
"""

from ssm_manual.ops.kernels.generate import METHODS, generate, generate_fwd, generate_vjp

__all__ = ["METHODS", "generate", "generate_fwd", "generate_vjp"]
