"""Training: a loop for any model with an exact resume, and the compiled descent of small models."""

from ssm_manual.training._divergence import StepDivergenceError
from ssm_manual.training.batches import Batch, Batches
from ssm_manual.training.clip import clip_elementwise, clip_gradients, global_norm
from ssm_manual.training.descent import DEFAULT_RATES, MODES, DivergenceError, History, fit
from ssm_manual.training.groups import Group, ssm_groups
from ssm_manual.training.loop import Trainer
from ssm_manual.training.metrics import accuracy
from ssm_manual.training.optimizers import SGD, Adam, AdamW, GradientDescent
from ssm_manual.training.schedules import constant, warmup_cosine
from ssm_manual.training.state import TrainingState
from ssm_manual.training.stopping import EarlyStopping

__all__ = [
    "DEFAULT_RATES",
    "MODES",
    "SGD",
    "Adam",
    "AdamW",
    "Batch",
    "Batches",
    "DivergenceError",
    "EarlyStopping",
    "GradientDescent",
    "Group",
    "History",
    "StepDivergenceError",
    "Trainer",
    "TrainingState",
    "accuracy",
    "clip_elementwise",
    "clip_gradients",
    "constant",
    "fit",
    "global_norm",
    "ssm_groups",
    "warmup_cosine",
]
