"""ssm_manual: state-space sequence models with gradients derived by hand.

The operator is ``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = C x_t + D u_t``.

Glossary: name in code, symbol, unit.

=============  ======================  ===========================================================
``A``          A                       continuous poles, 1/s; stable when Re A < 0
``B`` ``C``    B, C                    input and output weights
``D``          D                       feed-through from input to output
``dt``         Δ                       sampling interval, seconds per sample
``A_bar``      Ā                       discrete poles, no unit; stable when their modulus is below 1
``B_bar``      B̄                       discrete input weights
``K``          K                       convolution kernel, ``K_t = C A_bar^t B_bar``
``u x y``      u, x, y                 input, state, output
``e``          e                       cotangent of the output, dL/dy
``lambda``     λ                       adjoint state, dL/dx (``lam`` or ``adjoint`` in code)
``H N L``      H, N, L                 channels, stored poles a channel, samples
``grad_A``     ∇A                      gradient, dL/dRe A + i dL/dIm A
=============  ======================  ===========================================================

Importing compiles nothing; kernels are compiled when first called and kept on disk.
"""

import importlib

from ssm_manual._version import __version__

_SUBMODULES = (
    "checkpoint",
    "gradcheck",
    "hippo",
    "layers",
    "models",
    "ops",
    "plots",
    "reference",
    "tasks",
    "training",
)

__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"ssm_manual.{name}")
    raise AttributeError(f"module 'ssm_manual' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
