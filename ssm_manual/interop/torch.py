"""The operator and the layers inside PyTorch, on the CPU, with our gradients.

`apply` and `apply_from_exponent` are the operator for tensors; `S4D` and `S4` are modules around
the layers of the same names, whose parameters are the layers' arrays themselves. Needs PyTorch:
``pip install 'ssm_manual[torch]'``. How-to: docs/pytorch.md.
"""

try:
    from ssm_manual.interop._function import call
    from ssm_manual.interop._module import Module
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "ssm_manual.interop.torch needs PyTorch: pip install 'ssm_manual[torch]'", name="torch"
    ) from None

from ssm_manual import layers
from ssm_manual.ops import chunked, ssm

__all__ = ["S4", "S4D", "apply", "apply_from_exponent"]


def apply(A_bar, B_bar, C, D, u, x0=None, *, view="auto", real=True):
    """``x_t = A_bar x_{t-1} + B_bar u_t``, ``y_t = 2 Re(C x_t) + D u_t`` [SCAN-1, 2].

    `ssm_manual.ops.ssm.apply` for tensors; PyTorch differentiates it to every argument, once.

    Parameters
    ----------
    A_bar, B_bar, C : torch.Tensor
        Discrete poles, input and output weights (no unit), broadcasting to (H, N).
    D : torch.Tensor or None
        Feed-through, (H,) or a scalar.
    u : torch.Tensor
        Input, (batch, H, L), of any strides; L may be 0. Real if ``real``.
    x0 : torch.Tensor, optional
        State before the first sample, (batch, H, N); None is zero.
    view : {"auto", "scan", "convolution", "chunked"}
        How the operator is applied.
    real : bool
        True: one pole of each conjugate pair is stored and ``y = 2 Re(C x) + D u``. False:
        ``y = C x + D u``, complex.

    Returns
    -------
    y : torch.Tensor
        (batch, H, L), real or complex.
    x_last : torch.Tensor
        State after the last sample, (batch, H, N), complex.

    Raises
    ------
    ValueError
        As `ssm_manual.ops.ssm.apply`, or if an argument is not a dense tensor on the CPU.

    Notes
    -----
    Cost as of `ssm_manual.ops.ssm.apply`; a call takes some tens of microseconds more.

    Examples
    --------
    >>> import torch
    >>> A, B, C = (torch.tensor([[z]]) for z in (0.5 + 0j, 1 + 0j, 0.5 + 0j))
    >>> u = torch.tensor([[[1.0, 0.0, 0.0]]], requires_grad=True)
    >>> y, x_last = apply(A, B, C, None, u)
    >>> y.sum().backward()
    >>> u.grad
    tensor([[[1.7500, 1.5000, 1.0000]]])
    """

    def forward(*arrays):
        return ssm.apply_fwd(*arrays, view=view, real=real)

    return call(forward, ssm.apply_vjp, A_bar=A_bar, B_bar=B_bar, C=C, D=D, u=u, x0=x0)


def apply_from_exponent(dtA, B_bar, C, D, u, x0=None, *, real=True, chunk=None):
    """`apply` in chunks with ``A_bar = exp(dtA)``, which is never rounded [CHUNK-9].

    `ssm_manual.ops.chunked.apply_from_exponent` for tensors.

    Parameters
    ----------
    dtA : torch.Tensor
        Continuous poles times the sampling interval (no unit), imaginary part at most 2^40 in size.
        May be in double precision beside data in single precision; its gradient then is, too.
    B_bar, C : torch.Tensor
        Discrete input weights and output weights. All three broadcast to (H, N).
    D : torch.Tensor or None
        Feed-through, (H,) or a scalar.
    u : torch.Tensor
        Input, (batch, H, L), of any strides; L may be 0. Real if ``real``.
    x0 : torch.Tensor, optional
        State before the first sample, (batch, H, N); None is zero.
    real : bool
        As in `apply`.
    chunk : int, optional
        Samples a chunk, at least 1; None is 64, by measurement.

    Returns
    -------
    y : torch.Tensor
        (batch, H, L), real or complex.
    x_last : torch.Tensor
        State after the last sample, (batch, H, N), complex.

    Raises
    ------
    ValueError
        As `ssm_manual.ops.chunked.apply_from_exponent`, or if an argument is not a dense tensor on
        the CPU.

    Notes
    -----
    Cost as of `ssm_manual.ops.chunked.apply`; a call takes some tens of microseconds more.

    Examples
    --------
    >>> import torch
    >>> dtA = torch.log(torch.tensor([[0.5 + 0j]])).requires_grad_()
    >>> B, C = torch.tensor([[1 + 0j]]), torch.tensor([[0.5 + 0j]])
    >>> y, x_last = apply_from_exponent(dtA, B, C, None, torch.tensor([[[1.0, 0.0, 0.0]]]))
    >>> y.detach()
    tensor([[[1.0000, 0.5000, 0.2500]]])
    """

    def forward(*arrays):
        return chunked.apply_from_exponent_fwd(*arrays, real=real, chunk=chunk)

    backward = chunked.apply_from_exponent_vjp
    return call(forward, backward, dtA=dtA, B_bar=B_bar, C=C, D=D, u=u, x0=x0)


class S4D(Module):
    """`ssm_manual.layers.S4D` as a ``torch.nn.Module`` [S4D-4].

    ``y, state = module(u, state)`` with u (batch, H, L). Parameters are the layer's, by its names,
    C and B complex; any optimiser of PyTorch trains them in place.

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    modes : int
        Stored poles a channel N, at least 1.
    dtype : torch.dtype, optional
        torch.float32 or torch.float64; None is PyTorch's default.
    rng : numpy.random.Generator, optional
        Draws dt, C and D; None is one that ``torch.manual_seed`` seeds.
    **options
        As of `ssm_manual.layers.S4D`: ``initial``, ``discretisation``, ``dt_min``, ``dt_max``,
        ``train_B``, ``bidirectional``, ``view``.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    On the CPU alone, in single or double precision, differentiated once: other devices, half
    precision and second derivatives are refused. Under ``torch.no_grad()`` nothing is kept for a
    backward pass.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> module = S4D(4, 8)
    >>> y, state = module(torch.randn(2, 4, 100))
    >>> y.square().mean().backward()
    >>> sorted(name for name, p in module.named_parameters() if p.grad.abs().sum() > 0)
    ['A_imag', 'C', 'D', 'log_A_real', 'log_dt']
    """

    _wraps = layers.S4D


class S4(Module):
    """`ssm_manual.layers.S4` as a ``torch.nn.Module`` [DPLR-12].

    As `S4D`, with the low-rank term of HiPPO's matrix; P, B and C are complex.

    Parameters
    ----------
    features : int
        Channels H, at least 1.
    modes : int
        Stored modes a channel N, at least 1.
    dtype : torch.dtype, optional
        torch.float32 or torch.float64; None is PyTorch's default.
    rng : numpy.random.Generator, optional
        Draws dt, C and D; None is one that ``torch.manual_seed`` seeds.
    **options
        As of `ssm_manual.layers.S4`: ``initial``, ``dt_min``, ``dt_max``, ``train_B``,
        ``bidirectional``, ``view``.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Notes
    -----
    The same devices, precisions and derivatives as of `S4D`. P stands on both sides of the
    low-rank term, so that no step of an optimiser can make the layer unstable [DPLR-10].

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> module = S4(4, 8)
    >>> y, state = module(torch.randn(2, 4, 100))
    >>> y.square().mean().backward()
    >>> sorted(name for name, p in module.named_parameters() if p.grad.abs().sum() > 0)
    ['A_imag', 'B', 'C', 'D', 'P', 'log_A_real', 'log_dt']
    """

    _wraps = layers.S4
