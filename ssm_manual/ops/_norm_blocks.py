"""One task of layer norm and of RMS norm: a block of neighbouring columns, or one row.

The vector that is normalised is a column, x[o, :, t], or a row. Sums over a column run through
`RUN` numbers in the data's precision and go on in double precision. `jit_contracted` keeps the
order as written, on which the two parts of the mean depend [NORM-4]; only whole sums are taken in
any order.
"""

import numpy as np

from ssm_manual._numba import jit_contracted, jit_reassociated
from ssm_manual.ops._elementary import is_bad

#: Numbers of a column that are added up before their sum goes to double precision.
RUN = 8

# -------------------------------------------------------------------------------------------- sums


@jit_reassociated
def _sum(a):
    """In any order; in the data's precision, for a few hundred numbers."""
    total = a[0] * 0
    for t in range(a.size):
        total += a[t]
    return total


@jit_reassociated
def _moments(a):
    """The sums of a and of its squares, in double precision."""
    first, second = 0.0, 0.0
    for j in range(a.size):
        first += a[j]
        second += a[j] * a[j]
    return first, second


@jit_reassociated
def _weighted_sums(g, scale, z):
    """The sums of ``g scale`` and of ``g scale z``, in double precision."""
    first, second = 0.0, 0.0
    for j in range(g.size):
        p = g[j] * scale[j]
        first += p
        second += p * z[j]
    return first, second


# ------------------------------------------------------------------------------- a block of columns


@jit_contracted
def _column_means(x, o, a, total, run):
    """The sums of the columns a, a + 1, ... of x[o] into ``total``, in double precision."""
    n, width = x.shape[1], total.size
    total[:] = 0
    for start in range(0, n, RUN):
        run[:] = 0
        for i in range(start, min(n, start + RUN)):
            row = x[o, i, a : a + width]
            for t in range(width):
                run[t] += row[t]
        for t in range(width):
            total[t] += run[t]


@jit_contracted
def column_forward(x, o, a, scale, shift, eps, centred, y, mean, rstd, runs):
    """Columns a, a + 1, ... of x[o]; returns whether a number is bad."""
    n, width = x.shape[1], mean.size
    first, second = runs[0, :width], runs[1, :width]
    near, error, r = runs[2, :width], runs[3, :width], runs[4, :width]
    if centred:
        _column_means(x, o, a, mean, first)
    for t in range(width):
        near[t] = mean[t] / n
    # Once more around this mean, so that what is squared is small [NORM-4].
    mean[:], rstd[:] = 0, 0
    for start in range(0, n, RUN):
        first[:], second[:] = 0, 0
        for i in range(start, min(n, start + RUN)):
            row = x[o, i, a : a + width]
            for t in range(width):
                d = row[t] - near[t]
                first[t] += d
                second[t] += d * d
        for t in range(width):
            mean[t] += first[t]
            rstd[t] += second[t]
    bad = False
    for t in range(width):
        bad |= is_bad(mean[t])
        rest = mean[t] / n if centred else 0.0
        error[t] = rest
        mean[t] = near[t] + rest
        rstd[t] = 1 / np.sqrt(rstd[t] / n - rest * rest + eps)  # [NORM-2]
        r[t] = rstd[t]
    for i in range(n):
        row, out = x[o, i, a : a + width], y[o, i, a : a + width]
        for t in range(width):
            out[t] = ((row[t] - near[t]) - error[t]) * r[t] * scale[i] + shift[i]  # [NORM-1]
    return bad


@jit_contracted
def column_backward(x, g, o, a, scale, mean, rstd, centred, grad_x, sums, runs):
    """The same columns backwards; the gradients of the parameters are added to ``sums``."""
    n, width = x.shape[1], mean.size
    first, second = runs[0, :width], runs[1, :width]
    near, error, r = runs[2, :width], runs[3, :width], runs[4, :width]
    product = runs[5, :width]
    total, weighted = np.zeros(width), np.zeros(width)
    bad = False
    for t in range(width):
        near[t] = mean[t]
        error[t] = mean[t] - near[t]
        r[t] = rstd[t]
    for start in range(0, n, RUN):
        first[:], second[:] = 0, 0
        for i in range(start, min(n, start + RUN)):
            row, to = x[o, i, a : a + width], g[o, i, a : a + width]
            for t in range(width):
                z = ((row[t] - near[t]) - error[t]) * r[t]
                p = to[t] * z
                first[t] += to[t] * scale[i]
                second[t] += p * scale[i]
                product[t] = p
            sums[0, i] += _sum(product)  # [NORM-6]
            alone = _sum(to)
            bad |= is_bad(alone)
            sums[1, i] += alone  # [NORM-7]
        for t in range(width):
            total[t] += first[t]
            weighted[t] += second[t]
    for t in range(width):
        first[t] = total[t] / n if centred else 0.0
        second[t] = weighted[t] / n
    for i in range(n):
        row, to = x[o, i, a : a + width], g[o, i, a : a + width]
        out = grad_x[o, i, a : a + width]
        for t in range(width):
            z = ((row[t] - near[t]) - error[t]) * r[t]
            out[t] = r[t] * (to[t] * scale[i] - first[t] - z * second[t])  # [NORM-5]
    return bad


# ------------------------------------------------------------------------------------------- a row


@jit_contracted
def row_forward(x, scale, shift, eps, centred, y):
    """One row; returns its mean, 1 / sqrt(variance + eps), and whether it is bad."""
    n = x.size
    near = x.dtype.type(_moments(x)[0] / n if centred else 0.0)
    for j in range(n):
        y[j] = x[j] - near
    offset, square = _moments(y)
    rest = offset / n if centred else 0.0
    rstd = 1 / np.sqrt(square / n - rest * rest + eps)
    error, r = x.dtype.type(rest), x.dtype.type(rstd)
    for j in range(n):
        y[j] = (y[j] - error) * r * scale[j] + shift[j]
    return near + rest, rstd, is_bad(offset)


@jit_contracted
def row_backward(x, g, scale, mean, rstd, centred, grad_x, sums):
    n = x.size
    near = x.dtype.type(mean)
    error, r = x.dtype.type(mean - near), x.dtype.type(rstd)
    for j in range(n):
        z = ((x[j] - near) - error) * r
        grad_x[j] = z
        sums[0, j] += g[j] * z
        sums[1, j] += g[j]
    total, weighted = _weighted_sums(g, scale, grad_x)
    first = x.dtype.type(total / n if centred else 0.0)
    second = x.dtype.type(weighted / n)
    bad = is_bad(_sum(g))
    for j in range(n):
        grad_x[j] = r * (g[j] * scale[j] - first - grad_x[j] * second)
    return bad
