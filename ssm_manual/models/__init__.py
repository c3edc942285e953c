"""Models: parameters, forward, backward and training in one object."""

from ssm_manual.models._inside import Inside, look_inside
from ssm_manual.models.diagonal import DiagonalSSM
from ssm_manual.models.recording_filter import RecordingFilter
from ssm_manual.models.regression import LinearRegression
from ssm_manual.models.sequence import SequenceModel

__all__ = [
    "DiagonalSSM",
    "Inside",
    "LinearRegression",
    "RecordingFilter",
    "SequenceModel",
    "look_inside",
]
