"""Models: parameters, forward, backward and training in one object."""

from ssm_manual.models.diagonal import DiagonalSSM

__all__ = ["DiagonalSSM"]
