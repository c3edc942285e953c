"""Doors to other libraries, where these are missing."""

from conftest import run_python

WITHOUT = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import ssm_manual.cli, ssm_manual.interop, ssm_manual.layers, ssm_manual.models, ssm_manual.training
try:
    import ssm_manual.interop.torch
except ModuleNotFoundError as error:
    print(error)
"""


def test_only_the_door_needs_pytorch_and_says_so():
    assert "needs PyTorch: pip install 'ssm_manual[torch]'" in run_python(WITHOUT)
