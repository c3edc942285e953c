"""The operator and the layers inside PyTorch, on the CPU, with our gradients.

`apply` and `apply_from_exponent` are the operator for tensors; `S4D` is a ``torch.nn.Module``
around `ssm_manual.layers.S4D`, whose parameters are the layer's arrays themselves. Needs PyTorch:
``pip install 'ssm_manual[torch]'``. How-to: docs/pytorch.md.
"""

from ssm_manual import _validate, layers

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "ssm_manual.interop.torch needs PyTorch: pip install 'ssm_manual[torch]'", name="torch"
    ) from None

import numpy as np

from ssm_manual.interop._function import array, call, tensor, wants_grad
from ssm_manual.ops import chunked, ssm

__all__ = ["S4D", "apply", "apply_from_exponent"]


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


class _Module(torch.nn.Module):
    """A layer as a module: its parameters and fixed arrays are the layer's own memory.

    PyTorch gives a parameter other memory where it pleases (``.double()``, ``deepcopy``,
    ``share_memory``, ``load_state_dict(assign=True)``). So the layer is tied to the module's memory
    again before every use; where nothing has changed that takes a microsecond a parameter.
    """

    def __init__(self, layer):
        super().__init__()
        self._layer = layer
        self._tied = dict(layer.params)  # what the layer had of the module last
        if "B" not in layer.params:
            self._tied["B"] = layer.B
        for name, a in self._tied.items():
            if not (a.flags.writeable and a.flags.c_contiguous):
                raise ValueError(
                    f"{name} of the layer is read-only or not contiguous; it must be an array "
                    "whose memory PyTorch can share, such as a copy"
                )
            if name in layer.params:
                self.register_parameter(name, torch.nn.Parameter(tensor(a)))
            else:
                self.register_buffer(name, tensor(a))

    @property
    def layer(self):
        """The layer in NumPy, of the same memory: what one of the two learns, the other knows."""
        for name, tied in self._tied.items():
            trained = name in self._layer.params
            if (self._layer.params[name] if trained else self._layer.B) is not tied:
                raise ValueError(
                    f"{name} of the layer is another array than before; it must stay the one that "
                    f"the module shares: write into it, params[{name!r}][...] = ..."
                )
            own = getattr(self, name)
            if own.data_ptr() == tied.ctypes.data and own.dtype == _SAME[tied.dtype.name]:
                continue
            new = array(name, own)
            if new.shape != tied.shape or new.dtype.kind != tied.dtype.kind:
                raise ValueError(
                    f"{name} has shape {new.shape} and dtype {new.dtype}; it must have the shape "
                    f"{tied.shape} and be {'complex' if tied.dtype.kind == 'c' else 'real'}"
                )
            self._tied[name] = new
            if trained:
                self._layer.params[name] = new
            else:
                self._layer._fixed_B = new
        return self._layer

    def _apply(self, fn, recurse=True):
        # What `.to`, `.double()`, `.share_memory()` and the like call for every tensor. Looked at
        # before anything is converted, so that a refusal leaves the module as it was.
        sample = fn(torch.empty(0, dtype=self.D.dtype))
        if sample.device.type != "cpu":
            raise ValueError(f"device is {sample.device}; it must be the CPU for {self}")
        if sample.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {sample.dtype}; it must be float32 or float64 for {self}")

        def by_parts(t):
            # PyTorch would leave a complex tensor as it is, or drop its imaginary part.
            return torch.view_as_complex(fn(torch.view_as_real(t))) if t.is_complex() else fn(t)

        return super()._apply(by_parts, recurse)

    def extra_repr(self):
        """What stands between the brackets of ``repr(module)``."""
        return repr(self._layer).partition("(")[2].removesuffix(")")

    @torch.compiler.disable
    def forward(self, u, state=None, *, lengths=None):
        """Apply the layer to sequences.

        Parameters
        ----------
        u : torch.Tensor
            (batch, H, L), real, of any strides, in the module's precision; L may be 0. Time is
            last: of (batch, L, H), give ``u.transpose(1, 2)``.
        state : torch.Tensor, optional
            State before the first sample, (batch, H, N) complex; None is zero.
        lengths : torch.Tensor or array_like of int, optional
            Samples of each item, (batch,); what lies beyond is padding. None: all have L.

        Returns
        -------
        y : torch.Tensor
            (batch, H, L).
        state : torch.Tensor or None
            State after each item's last sample, (batch, H, N); None for a bidirectional layer.

        Raises
        ------
        ValueError
            If a shape, dtype or device does not fit, a value is not finite, or a bidirectional
            layer is given a state.
        """
        layer = self.layer
        if isinstance(lengths, torch.Tensor):
            lengths = array("lengths", lengths)

        def forward(u, state, *_):
            y, after, cache = layer.forward(u, state, lengths=lengths)
            return (y, after), cache

        def backward(cache, cotangents):
            grad_y, grad_after = cotangents
            grad_u, grad_state, grads = layer.backward(grad_y, cache, grad_after)
            return grad_u, grad_state, *(grads[name] for name in parameters)

        parameters = {name: getattr(self, name) for name in layer.params}
        return call(forward, backward, u=u, state=state, **parameters)

    @torch.compiler.disable
    def step(self, u_t, state=None):
        """One sample.

        Under ``torch.no_grad()`` this is the layer's own compiled step; where a gradient is wanted,
        it is `forward` of one sample.

        Parameters
        ----------
        u_t : torch.Tensor
            (batch, H), real, in the module's precision.
        state : torch.Tensor, optional
            (batch, H, N) complex; None is zero. It is not changed.

        Returns
        -------
        y_t : torch.Tensor
            (batch, H).
        state : torch.Tensor
            (batch, H, N).

        Raises
        ------
        ValueError
            If a shape, dtype or device does not fit, a value is not finite, or the layer is
            bidirectional.
        """
        y, after = self.layer.step(array("u_t", u_t), array("state", state))
        if not wants_grad(u_t, state, *self.parameters()):
            return tensor(y), tensor(after)
        y, after = self(u_t.unsqueeze(-1), state)
        return y.squeeze(-1), after


#: PyTorch's dtypes by NumPy's names.
_SAME = {name: getattr(torch, name) for name in ("float32", "float64", "complex64", "complex128")}


class S4D(_Module):
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
    >>> _ = torch.manual_seed(0)
    >>> module = S4D(4, 8)
    >>> y, state = module(torch.randn(2, 4, 100))
    >>> y.square().mean().backward()
    >>> sorted(name for name, p in module.named_parameters() if p.grad.abs().sum() > 0)
    ['A_imag', 'C', 'D', 'log_A_real', 'log_dt']
    """

    def __init__(self, features, modes, *, dtype=None, rng=None, **options):
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if rng is None:
            rng = np.random.default_rng(torch.randint(2**63 - 1, ()).item())
        dtype = str(dtype).removeprefix("torch.")
        super().__init__(layers.S4D(features, modes, dtype=dtype, rng=rng, **options))

    @classmethod
    def from_layer(cls, layer):
        """A module around a layer that exists, of the same memory.

        Parameters
        ----------
        layer : ssm_manual.layers.S4D
            Trained, loaded or new; ``module.layer`` is the way back.

        Returns
        -------
        S4D

        Raises
        ------
        ValueError
            If it is no such layer, or an array of it cannot be shared.

        Examples
        --------
        >>> layer = layers.S4D(2, 4, rng=np.random.default_rng(0))
        >>> module = S4D.from_layer(layer)
        >>> layer.params["D"][:] = 7
        >>> module.D.detach()
        tensor([7., 7.])
        """
        if type(layer) is not layers.S4D:
            raise ValueError(
                f"layer is {_validate.show(layer)}; it must be an ssm_manual.layers.S4D"
            )
        module = cls.__new__(cls)
        _Module.__init__(module, layer)
        return module
