"""Plain gradient descent: the loop, its compiled form, and the clamps that keep a model stable."""

from ssm_manual.training.descent import DEFAULT_RATES, MODES, DivergenceError, History, fit

__all__ = ["DEFAULT_RATES", "MODES", "DivergenceError", "History", "fit"]
