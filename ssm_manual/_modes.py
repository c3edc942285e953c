"""How a training direction is formed; named here once, where importing costs nothing."""

#: See `ssm_manual.training.fit`.
MODES = ("bptt", "windowed", "one_step", "convolution")
