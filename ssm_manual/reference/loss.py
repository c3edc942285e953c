"""Losses, one element at a time."""


def half_mse(prediction, target):
    """``sum |e|^2 / (2 n)`` with e = prediction - target."""
    total = 0.0
    for p, d in zip(prediction.ravel(), target.ravel()):
        total += abs(p - d) ** 2
    return total / (2 * prediction.size)


def mse(prediction, target):
    """``sum |e|^2 / n`` with e = prediction - target."""
    return 2 * half_mse(prediction, target)
