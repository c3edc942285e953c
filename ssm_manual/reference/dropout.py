"""Dropout by Python's integers, one counter at a time."""

import numpy as np

WORD, LONG = 2**32 - 1, 2**64 - 1


def long_hash(z):
    """SplitMix64: 64 bits to 64 bits."""
    z = (z + 0x9E3779B97F4A7C15) & LONG
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & LONG
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & LONG
    return z ^ (z >> 31)


def word_hash(h):
    """32 bits to 32 bits."""
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & WORD
    h = ((h ^ (h >> 15)) * 0x846CA68B) & WORD
    return h ^ (h >> 16)


def random_word(seed, counter):
    """The 32 bits that decide about number ``counter``."""
    block, j = divmod(counter, 4096)
    key = long_hash((block * 0x9E3779B97F4A7C15 + long_hash(seed)) & LONG)
    return word_hash(word_hash((j + key) & WORD) ^ (key >> 32))


def mask(shape, *, rate, seed, tied=False):
    """The factor of every number; with ``tied`` one for each row."""
    factors = np.ones(shape)
    if seed is None:
        return factors
    threshold = min(round(rate * 2**32), WORD)
    for counter, index in enumerate(np.ndindex(shape[:-1] if tied else shape)):
        dropped = random_word(seed, counter) < threshold
        factors[index] = 0 if dropped else 1 / (1 - rate)
    return factors


def dropout(x, *, rate, seed, tied=False):
    """``m x``."""
    return x * mask(x.shape, rate=rate, seed=seed, tied=tied)


def dropout_vjp(x, grad_y, *, rate, seed, tied=False):
    """``m g``."""
    return (grad_y * mask(x.shape, rate=rate, seed=seed, tied=tied),)
