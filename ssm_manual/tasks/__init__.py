"""Signals with known truth, the denoising protocol, and the published runs."""
