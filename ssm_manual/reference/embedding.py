"""Rows of a table by id, and columns of a table by time."""

import numpy as np


def embedding(ids, table, *, axis=-1):
    """The row of every id."""
    y = np.zeros((*ids.shape, table.shape[1]))
    for index in np.ndindex(ids.shape):
        y[index] = table[ids[index]]
    return np.moveaxis(y, -1, axis)


def embedding_vjp(ids, table, grad_y, *, axis=-1):
    """Nothing for the ids; a row's gradient is added up over its places."""
    cotangents = np.moveaxis(grad_y, axis, -1)
    grad_table = np.zeros(table.shape)
    for index in np.ndindex(ids.shape):
        grad_table[ids[index]] += cotangents[index]
    return None, grad_table


def positions(x, table, *, start=0):
    """``x_t + table_{start + t}``."""
    y = np.zeros(x.shape)
    for t in range(x.shape[2]):
        y[:, :, t] = x[:, :, t] + table[:, start + t]
    return y


def positions_vjp(x, table, grad_y, *, start=0):
    """g, and g added up over the batch."""
    grad_table = np.zeros(table.shape)
    for t in range(x.shape[2]):
        grad_table[:, start + t] = sum(grad_y[:, :, t])
    return grad_y, grad_table
