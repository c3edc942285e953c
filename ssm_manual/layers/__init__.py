"""Layers: parameters, forward and backward in one object, for sequences ``(batch, H, L)``."""

from ssm_manual.layers.dense import DenseSSM
from ssm_manual.layers.dropout import Dropout
from ssm_manual.layers.embedding import Embedding
from ssm_manual.layers.gated_block import GatedBlock
from ssm_manual.layers.layer_norm import LayerNorm
from ssm_manual.layers.linear import Linear
from ssm_manual.layers.lstm import LSTM
from ssm_manual.layers.rms_norm import RMSNorm
from ssm_manual.layers.rnn import RNN
from ssm_manual.layers.s4 import S4
from ssm_manual.layers.s4d import S4D
from ssm_manual.layers.s4d_block import S4DBlock

__all__ = [
    "LSTM",
    "RNN",
    "S4",
    "S4D",
    "DenseSSM",
    "Dropout",
    "Embedding",
    "GatedBlock",
    "LayerNorm",
    "Linear",
    "RMSNorm",
    "S4DBlock",
]
