"""Layers: parameters, forward and backward in one object, for sequences ``(batch, H, L)``."""

from ssm_manual.layers.dense import DenseSSM
from ssm_manual.layers.s4 import S4
from ssm_manual.layers.s4d import S4D

__all__ = ["S4", "S4D", "DenseSSM"]
