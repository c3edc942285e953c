"""One ``torch.autograd.Function`` around any forward and backward of this package.

The gradient conventions agree: both hold dL/dRe z + i dL/dIm z for a complex z [COMPLEX-1], so that
cotangents and gradients pass unchanged. No array is copied on the way in or out, but for layouts
that NumPy cannot see as they are (lazily conjugated tensors).

What the backward pass needs is given to PyTorch to keep, not to the function's object: PyTorch
frees it after the backward pass, moves it where its hooks say (checkpointing, ``save_on_cpu``), and
raises if an input was changed in place meanwhile.
"""

from typing import NamedTuple

import numpy as np
import torch

from ssm_manual import _validate

#: Bytes from which an array among the residuals is PyTorch's to keep; handing one over takes about
#: a microsecond.
LARGE = 1 << 16


def array(name, tensor):
    """A tensor's memory as an array, without its history; None stays None."""
    if tensor is None:
        return None
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} is {_validate.show(tensor)}; it must be a torch.Tensor")
    if tensor.device.type != "cpu":
        raise ValueError(
            f"{name} is on the device {tensor.device}; it must be on the CPU, where this engine "
            f"runs: {name}.cpu()"
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} has the layout {tensor.layout}; it must be dense")
    try:
        return tensor.numpy(force=True)  # detaches, and resolves conjugates
    except TypeError:  # bfloat16 and others that NumPy does not know
        raise ValueError(
            f"{name} has dtype {tensor.dtype}; it must be float32, float64, complex64 or complex128"
        ) from None


def tensor(a):
    """An array as a tensor of the same memory; None stays None."""
    return None if a is None else torch.from_numpy(a)


def wants_grad(*tensors):
    """Whether PyTorch records what is done with these tensors; None is none."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


@torch.compiler.disable  # torch.compile leaves it out of its graph
def call(forward, backward, evaluate=None, /, **tensors):
    """``forward(*arrays)[0]`` as tensors, differentiable where a gradient is wanted.

    Parameters
    ----------
    forward : callable
        ``forward(*arrays) -> (outputs, residuals)``, outputs a tuple of arrays or None.
    backward : callable
        ``backward(residuals, cotangents) -> one gradient per argument``, arrays or None.
    evaluate : callable, optional
        ``evaluate(*arrays) -> outputs``, which keeps nothing: where no gradient is wanted.
    **tensors
        The arguments by name, or None.
    """
    arrays = [array(name, t) for name, t in tensors.items()]
    if not wants_grad(*tensors.values()):
        outputs = forward(*arrays)[0] if evaluate is None else evaluate(*arrays)
        return tuple(tensor(a) for a in outputs)
    return _Function.apply(forward, backward, arrays, *tensors.values())


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, arrays, *tensors):
        outputs, residuals = forward(*arrays)
        present = [(t, a) for t, a in zip(tensors, arrays) if t is not None]
        ctx.residuals, kept = _pack(residuals, [a for _, a in present])
        ctx.save_for_backward(*(t for t, _ in present), *kept)
        ctx.run_backward = backward
        ctx.set_materialize_grads(False)  # a cotangent that is zero comes as None
        return tuple(tensor(a) for a in outputs)

    @staticmethod
    def backward(ctx, *grad_outputs):
        # PyTorch's `once_differentiable` would let a graph through whose cotangents are constants,
        # and then drop what its second derivative adds to the gradient, without a word.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph is True; it must be False: ssm_manual has first derivatives alone"
            )
        saved = ctx.saved_tensors  # raises if one of them was changed, or was freed
        cotangents = tuple(array("the gradient", g) for g in grad_outputs)
        grads = ctx.run_backward(_unpack(ctx.residuals, saved), cotangents)
        wanted = ctx.needs_input_grad[3:]
        return (None, None, None, *(tensor(g) if w else None for g, w in zip(grads, wanted)))


# -------------------------------------------------------------------------------- residuals


class _Kept(NamedTuple):
    """Stands in residuals for an array that PyTorch keeps."""

    index: int
    order: tuple  # turns axes of negative stride around, which tensors do not have


def _place(a):
    return a.ctypes.data, a.shape, a.strides, a.dtype


def _pack(residuals, inputs):
    """Residuals with `_Kept` in place of the inputs and of large arrays, and these as tensors."""
    places = {_place(a): index for index, a in enumerate(inputs)}
    kept = []

    def walk(node):
        if isinstance(node, tuple):
            items = map(walk, node)
            return type(node)(*items) if hasattr(node, "_fields") else tuple(items)
        if not isinstance(node, np.ndarray) or not node.flags.writeable:
            return node
        order = (*(slice(None, None, -1 if s < 0 else 1) for s in node.strides), ...)
        straight = node[order]
        place = _place(straight)
        if place not in places:
            if straight.nbytes < LARGE:
                return node
            places[place] = len(inputs) + len(kept)
            kept.append(torch.from_numpy(straight))
        return _Kept(places[place], order)

    return walk(residuals), kept


def _unpack(residuals, saved):
    """The inverse of `_pack`."""
    if isinstance(residuals, _Kept):
        return array("a residual", saved[residuals.index])[residuals.order]
    if isinstance(residuals, tuple):
        items = (_unpack(node, saved) for node in residuals)
        return type(residuals)(*items) if hasattr(residuals, "_fields") else tuple(items)
    return residuals
