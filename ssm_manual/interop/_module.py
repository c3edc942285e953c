"""A layer as a ``torch.nn.Module``: what `interop.torch.S4D` and `interop.torch.S4` are."""

import numpy as np
import torch

from ssm_manual import _validate
from ssm_manual.interop._function import array, call, tensor, wants_grad

__all__ = ["Module"]

#: PyTorch's dtypes by NumPy's names.
_SAME = {name: getattr(torch, name) for name in ("float32", "float64", "complex64", "complex128")}


class Module(torch.nn.Module):
    """A layer as a module: its parameters and fixed arrays are the layer's own memory.

    PyTorch gives a parameter other memory where it pleases (``.double()``, ``deepcopy``,
    ``share_memory``, ``load_state_dict(assign=True)``). So the layer is tied to the module's memory
    again before every use; where nothing has changed that takes a microsecond a parameter.

    A subclass names the layer's class.
    """

    _wraps = None

    def __init__(self, features, modes, *, dtype=None, rng=None, **options):
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if rng is None:
            rng = np.random.default_rng(torch.randint(2**63 - 1, ()).item())
        dtype = str(dtype).removeprefix("torch.")
        self._share(self._wraps(features, modes, dtype=dtype, rng=rng, **options))

    @classmethod
    def from_layer(cls, layer):
        """A module around a layer that exists, of the same memory.

        Parameters
        ----------
        layer : ssm_manual.layers.S4D or ssm_manual.layers.S4
            Trained, loaded or new, of the class of the same name; ``module.layer`` is the way back.

        Returns
        -------
        S4D or S4
            Of the class that was asked.

        Raises
        ------
        ValueError
            If it is no such layer, or an array of it cannot be shared.

        Examples
        --------
        >>> from ssm_manual import layers
        >>> from ssm_manual.interop.torch import S4D
        >>> layer = layers.S4D(2, 4, rng=np.random.default_rng(0))
        >>> module = S4D.from_layer(layer)
        >>> layer.params["D"][:] = 7
        >>> module.D.detach()
        tensor([7., 7.])
        """
        if type(layer) is not cls._wraps:
            raise ValueError(
                f"layer is {_validate.show(layer)}; it must be an "
                f"ssm_manual.layers.{cls._wraps.__name__}"
            )
        module = cls.__new__(cls)
        module._share(layer)
        return module

    def _share(self, layer):
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

        def evaluate(u, state, *_):
            return layer.forward(u, state, lengths=lengths, cache=False)[:2]

        def backward(cache, cotangents):
            grad_y, grad_after = cotangents
            grad_u, grad_state, grads = layer.backward(grad_y, cache, grad_after)
            return grad_u, grad_state, *(grads[name] for name in parameters)

        parameters = {name: getattr(self, name) for name in layer.params}
        return call(forward, backward, evaluate, u=u, state=state, **parameters)

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
