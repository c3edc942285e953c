"""Losses, one element at a time."""


def half_mse(prediction, target):
    """``sum |e|^2 / (2 n)`` with e = prediction - target."""
    total = 0.0
    for p, d in zip(prediction.ravel(), target.ravel()):
        total += abs(p - d) ** 2
    return total / (2 * prediction.size)


def half_mse_vjp(prediction, target, grad_loss):
    """Gradients to prediction and target, ``e / n`` and its negative, times grad_loss."""
    grad = grad_loss * (prediction - target) / prediction.size
    return grad, -grad


def mse(prediction, target):
    """``sum |e|^2 / n`` with e = prediction - target."""
    return 2 * half_mse(prediction, target)


def mse_vjp(prediction, target, grad_loss):
    """Gradients to prediction and target, ``2 e / n`` and its negative, times grad_loss."""
    return half_mse_vjp(prediction, target, 2 * grad_loss)
