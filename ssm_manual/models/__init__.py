"""Models: parameters, forward, backward and training in one object."""

from ssm_manual.models.diagonal import DiagonalSSM
from ssm_manual.models.recording_filter import RecordingFilter

__all__ = ["DiagonalSSM", "RecordingFilter"]
