"""Training: a loop for any model with an exact resume, and the compiled descent of small models."""

from ssm_manual.training.descent import DEFAULT_RATES, MODES, DivergenceError, History, fit
from ssm_manual.training.groups import Group, ssm_groups
from ssm_manual.training.optimizers import SGD, Adam, AdamW, GradientDescent

__all__ = [
    "DEFAULT_RATES",
    "MODES",
    "SGD",
    "Adam",
    "AdamW",
    "DivergenceError",
    "GradientDescent",
    "Group",
    "History",
    "fit",
    "ssm_groups",
]
