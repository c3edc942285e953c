"""Update rules: plain gradient descent, momentum, Adam and AdamW [OPTIM-1 to 6].

An optimiser holds the arrays of a model's ``params`` and changes them in place. It sees real
numbers alone: a complex parameter is two real ones [OPTIM-1]. Each update goes over an array in
blocks that stay in the cache, so that a rule of a dozen passes costs little more than one.
"""

import numpy as np

from ssm_manual import _validate
from ssm_manual.training.groups import assign

__all__ = ["SGD", "Adam", "AdamW", "GradientDescent"]

#: Numbers in a block: four arrays of them fit into the cache of a core. Measured beside one fused
#: compiled loop: as fast at 10^6 numbers, 30 % slower at 10^7, 3 us slower an array at 100.
BLOCK = 1 << 16


class _Optimizer:
    """Parameters, their settings and the state of a rule; a subclass has ``_slots`` and ``_rule``.

    ``updates`` counts the updates made. ``state`` is ``{slot: {name: real array}}``.
    """

    _slots = ()

    def __init__(self, params, lr, weight_decay, groups):
        if not isinstance(params, dict) or not params:
            raise ValueError(f"params is {_validate.show(params)}; it must be a dict of arrays")
        for name, a in params.items():
            _check_parameter(name, a)
        self.params = params
        self._lr = _validate.real_number("lr", lr, minimum=0)
        self._weight_decay = _validate.real_number("weight_decay", weight_decay, minimum=0)
        self.groups = assign(params, self.lr, self.weight_decay, groups)
        self.updates = 0
        self.state = {
            slot: {name: np.zeros_like(_real(a)) for name, a in params.items()}
            for slot in self._slots
        }

    @property
    def lr(self):
        """The learning rate; fixed, since the groups have theirs from it: a schedule scales all."""
        return self._lr

    @property
    def weight_decay(self):
        """The weight decay; fixed, since the groups have theirs from it."""
        return self._weight_decay

    def __repr__(self):
        return f"{type(self).__name__}({len(self.params)} parameters, lr {self.lr:g})"

    def step(self, grads, factor=1.0):
        """Make one update, in place.

        Parameters
        ----------
        grads : dict of ndarray
            Gradient of every parameter, of its shape and dtype.
        factor : float
            Multiplies every learning rate: what a schedule gives.

        Raises
        ------
        ValueError
            If a gradient is missing, unknown, of another shape or dtype, or not finite; then
            nothing has been changed.
        """
        factor = _validate.real_number("factor", factor, minimum=0)
        check_gradients(self.params, grads)
        for name in self.params:
            _validate.finite_values(f"grads[{name!r}]", np.asarray(grads[name]))
        self.updates += 1
        for name, parameter in self.params.items():
            _, lr, decay = self.groups[name]
            if lr == 0:
                continue
            arrays = [_real(parameter), _real(np.ascontiguousarray(np.asarray(grads[name])))]
            arrays += [self.state[slot][name] for slot in self._slots]
            arrays = [a.reshape(-1) for a in arrays]  # views: `_check_parameter`
            scratch = np.empty(min(arrays[0].size, BLOCK), arrays[0].dtype)
            for start in range(0, arrays[0].size, BLOCK):
                parts = [a[start : start + BLOCK] for a in arrays]
                with np.errstate(over="ignore", invalid="ignore"):  # the training loop looks
                    self._rule(*parts, scratch[: parts[0].size], lr * factor, decay)

    def settings(self):
        """What a checkpoint compares: the rule and all its numbers, fit for JSON.

        Returns
        -------
        dict
        """
        return {
            "rule": type(self).__name__,
            "lr": {name: lr for name, (_, lr, _) in self.groups.items()},
            "weight_decay": {name: decay for name, (_, _, decay) in self.groups.items()},
            **self._numbers(),
        }

    def _numbers(self):
        return {}


class GradientDescent(_Optimizer):
    """Plain gradient descent, ``theta <- theta - lr grad`` [OPTIM-2].

    Parameters
    ----------
    params : dict of ndarray
        A model's parameters, contiguous; they are changed in place.
    lr : float
        Learning rate.
    groups : None, "ssm" or sequence of Group
        Rates of single parameters, see `ssm_manual.training.groups.assign`. No weight decay here.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """

    def __init__(self, params, *, lr, groups=None):
        super().__init__(params, lr, 0.0, groups)
        decaying = [group for group, _, decay in self.groups.values() if decay]
        if decaying:
            raise ValueError(f"groups: {decaying[0]!r} decays; use SGD, which can")

    def _rule(self, p, g, scratch, lr, decay):
        np.multiply(g, lr, out=scratch)
        p -= scratch  # [OPTIM-2]


class SGD(_Optimizer):
    """Gradient descent with momentum, ``v <- mu v + g``, ``theta <- theta - lr v`` [OPTIM-3].

    Parameters
    ----------
    params : dict of ndarray
        A model's parameters, contiguous; they are changed in place.
    lr : float
        Learning rate.
    momentum : float
        mu, in [0, 1).
    damped : bool
        True: ``v <- mu v + (1 - mu) g`` [OPTIM-4], a mean of gradients where the usual v is a sum:
        the same steps as the usual form with ``lr (1 - mu)``.
    weight_decay : float
        Adds ``weight_decay theta`` to the gradient [OPTIM-6], before the momentum.
    groups : None, "ssm" or sequence of Group
        Settings of single parameters, see `ssm_manual.training.groups.assign`.

    Raises
    ------
    ValueError
        If an argument does not fit, or damping is asked for without momentum.
    """

    _slots = ("velocity",)

    def __init__(self, params, *, lr, momentum=0.0, damped=False, weight_decay=0.0, groups=None):
        self.momentum = _below_one("momentum", momentum)
        self.damped = _validate.flag("damped", damped)
        if self.damped and self.momentum == 0:
            raise ValueError("damped is True; it goes with a momentum above 0")
        super().__init__(params, lr, weight_decay, groups)

    def _rule(self, p, g, v, scratch, lr, decay):
        g = _with_decay(p, g, decay, scratch)
        v *= self.momentum
        v += np.multiply(g, 1 - self.momentum, out=scratch) if self.damped else g  # [OPTIM-3, 4]
        p -= np.multiply(v, lr, out=scratch)

    def _numbers(self):
        return {"momentum": self.momentum, "damped": self.damped}


class Adam(_Optimizer):
    """Adam: steps by the mean of gradients over the root of their mean square [OPTIM-5].

    Parameters
    ----------
    params : dict of ndarray
        A model's parameters, contiguous; they are changed in place.
    lr : float
        Learning rate: about the size of a step in each number.
    betas : tuple of float
        Memories of the two means, each in [0, 1).
    eps : float
        Added to the root, positive.
    weight_decay : float
        Adds ``weight_decay theta`` to the gradient [OPTIM-6]; the root then divides it too, which
        `AdamW` avoids.
    groups : "ssm", None or sequence of Group
        Settings of single parameters, see `ssm_manual.training.groups.assign`.

    Raises
    ------
    ValueError
        If an argument does not fit.

    References
    ----------
    D. P. Kingma, J. Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.
    """

    _slots = ("mean", "square")
    _decoupled = False

    def __init__(
        self, params, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, groups="ssm"
    ):
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas is {_validate.show(betas)}; it must be two numbers")
        self.betas = tuple(_below_one(f"betas[{i}]", beta) for i, beta in enumerate(betas))
        self.eps = _validate.real_number("eps", eps, above=0)
        super().__init__(params, lr, weight_decay, groups)

    def _rule(self, p, g, m, v, scratch, lr, decay):
        beta1, beta2 = self.betas
        if self._decoupled:
            if decay:
                p *= 1 - lr * decay  # [OPTIM-6]
        else:
            g = _with_decay(p, g, decay, scratch).copy() if decay else g
        m *= beta1
        m += np.multiply(g, 1 - beta1, out=scratch)
        v *= beta2
        np.multiply(g, g, out=scratch)
        scratch *= 1 - beta2
        v += scratch
        np.sqrt(v, out=scratch)  # [OPTIM-5], its corrections as two numbers
        scratch *= (1 - beta2**self.updates) ** -0.5
        scratch += self.eps
        np.divide(m, scratch, out=scratch)
        scratch *= lr / (1 - beta1**self.updates)
        p -= scratch

    def _numbers(self):
        return {"betas": list(self.betas), "eps": self.eps}


class AdamW(Adam):
    """Adam with decoupled decay: ``theta <- (1 - lr weight_decay) theta``, then Adam [OPTIM-6].

    Parameters
    ----------
    params : dict of ndarray
        A model's parameters, contiguous; they are changed in place.
    lr : float
        Learning rate: about the size of a step in each number.
    betas : tuple of float
        Memories of the two means, each in [0, 1).
    eps : float
        Added to the root, positive.
    weight_decay : float
        Share of a parameter that a step with ``lr`` 1 takes away.
    groups : "ssm", None or sequence of Group
        Settings of single parameters. By default state-space parameters learn at
        ``min(lr, 1e-3)`` and do not decay, see `ssm_manual.training.groups`.

    Raises
    ------
    ValueError
        If an argument does not fit.

    References
    ----------
    I. Loshchilov, F. Hutter (2019), "Decoupled weight decay regularization", algorithm 2; the decay
    is scaled by the learning rate, as PyTorch does.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"C": np.ones(2, complex), "head.weight": np.ones((1, 2))}
    >>> optimizer = AdamW(params, lr=0.01)
    >>> optimizer.groups
    {'C': ('ssm', 0.001, 0.0), 'head.weight': ('rest', 0.01, 0.01)}
    >>> optimizer.step({"C": np.array([1j, -2.0]), "head.weight": np.array([[3.0, 0.0]])})
    >>> params["C"].round(6)
    array([1.   -0.001j, 1.001+0.j   ])
    """

    _decoupled = True

    def __init__(
        self, params, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, groups="ssm"
    ):
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, groups=groups
        )


# --------------------------------------------------------------------------------------- internals


def check_gradients(params, grads):
    """Raise `ValueError` unless every parameter has its gradient and none is left over."""
    if not isinstance(grads, dict):
        raise ValueError(f"grads is {_validate.show(grads)}; it must be a dict of arrays")
    missing, unknown = sorted(params.keys() - grads.keys()), sorted(grads.keys() - params.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"holds {unknown[0]!r}"
        raise ValueError(f"grads {what}; the parameters are {', '.join(params)}")
    for name, a in params.items():
        g = grads[name]
        if not isinstance(g, np.ndarray) or isinstance(g, np.ma.MaskedArray):
            raise ValueError(f"grads[{name!r}] is {_validate.show(g)}; it must be an array")
        if g.shape != a.shape or g.dtype != a.dtype:
            raise ValueError(
                f"grads[{name!r}] has shape {g.shape} and dtype {g.dtype}; it must have those of "
                f"the parameter, {a.shape} and {a.dtype}"
            )


def _check_parameter(name, a):
    known = (*_validate.SINGLE, *_validate.DOUBLE)
    if not isinstance(a, np.ndarray) or a.dtype not in known:
        raise ValueError(
            f"params[{name!r}] is {_validate.show(a)}; it must be an array of float32, float64, "
            "complex64 or complex128"
        )
    if not a.flags.c_contiguous or not a.flags.writeable:
        raise ValueError(f"params[{name!r}] must be contiguous and writeable, to be updated")


def _real(a):
    """A complex array as pairs along a new last axis, without a copy [OPTIM-1]."""
    return a[..., np.newaxis].view(a.real.dtype) if a.dtype.kind == "c" else a


def _with_decay(p, g, decay, scratch):
    if not decay:
        return g
    np.multiply(p, decay, out=scratch)
    return np.add(scratch, g, out=scratch)  # [OPTIM-6]


def _below_one(name, value):
    value = _validate.real_number(name, value, minimum=0)
    if value >= 1:
        raise ValueError(f"{name} is {value:g}; it must be below 1")
    return value
