# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. The convolution and its gradient
#
# Seen as a filter, a state-space model convolves its input with a kernel, $y = K * u$. In this
# notebook we take the gradient of that view: first through the convolution, where the adjoint
# turns out to be a *correlation*; then through the kernel to the pole, where a vector
# $0, 1, 2, \dots$ appears and disappears again; and in the end we see why the result must be, and
# is, the gradient that back-propagation through time finds on a quite different path.
#
# We need the kernel of notebook 1, the inner product and the conjugates of notebook 2, and, towards
# the end, the adjoint recursion of notebook 3. Labels such as [CONV-3] name equations of
# [Causal convolution](../docs/derivations/convolution.md) and
# [The kernel of one pole](../docs/derivations/kernels.md).

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.fft

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_adjoint, check_vjp

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = plots.CYCLE
GREY = plots.COLOURS["grey"]
plt.rcParams.update(plots.STYLE)

rng = np.random.default_rng(4)


def complex_normal(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def inner(a, b):
    """<a, b> = Re sum conj(a) b."""
    return np.vdot(a, b).real


# %% [markdown]
# ## The equation and the reference
#
# An output is a sum over the inputs so far, each weighted by how long ago it was, [CONV-1]:
#
# $$
# y_t = \sum_{j=0}^{t} K_j\, u_{t-j}, \qquad t = 0, \dots, L - 1 .
# $$
#
# As a loop it is two lines, which are all of `reference.convolve.causal`.

# %%
L = 24
K = ops.kernels.generate(0.88 * np.exp(0.5j), 1.0, 0.4 - 0.2j, L)
u = complex_normal(L)

y = np.zeros(L, complex)
for t in range(L):
    for j in range(t + 1):
        y[t] += K[j] * u[t - j]

assert np.allclose(y, reference.convolve.causal(u, K), rtol=1e-14)
assert np.allclose(y, ops.convolve.causal(u, K), rtol=1e-13)

# %% [markdown]
# The sum is a product with a matrix that has the same number all along each diagonal (a
# *Toeplitz* matrix). It is zero above the main one, because the future does not act on the past:
#
# $$
# y = T u, \qquad T_{t\tau} = \begin{cases} K_{t-\tau} & \tau \le t, \\ 0 & \tau > t . \end{cases}
# $$
#
# The adjoint of a matrix is its conjugate transpose [COMPLEX-3]. We can see it before we derive
# it, and what becomes of it when the conjugate or the transposition is left out:

# %%
lag = np.arange(L)[:, None] - np.arange(L)
T = np.where(lag >= 0, K[lag], 0)  # negative lags index from the end, and are then dropped
assert np.allclose(T @ u, y)
g, v = complex_normal(2, L)
assert np.isclose(inner(g, T @ v), inner(T.conj().T @ g, v))
for label, adjoint in (
    ("adjoint", T.conj().T),
    ("no conjugate", T.T),
    ("no transposition", T.conj()),
):
    print(f"{label:17} <g, T v> {inner(g, T @ v):+.6f}   <T* g, v> {inner(adjoint @ g, v):+.6f}")

fig, axes = plt.subplots(1, 2, figsize=(9, 4.1))
limit = np.abs(K).max()
for ax, matrix, title in zip(axes, (T, T.conj().T), (r"$T$: forward", r"$T^\dagger$: backward")):
    picture = ax.imshow(matrix.real, cmap="PuOr", vmin=-limit, vmax=limit)
    ax.set(title=title)
axes[0].set(xlabel="time of the input (samples)", ylabel="time of the output (samples)")
axes[1].set(xlabel="time of the cotangent (samples)", ylabel="time of the gradient (samples)")
fig.colorbar(picture, ax=axes, label="real part (no unit)", shrink=0.8)
plt.show()

# %% [markdown]
# *Left: the convolution as a matrix; each row is the kernel, read backwards, ending at the
# diagonal. An output listens to inputs before it. Right: its conjugate transpose. The gradient at
# a time listens to cotangents after it.*
#
# ## Derive: the adjoint is a correlation
#
# The change of an output has two parts,
# $dy_t = \sum_{j \le t} (K_j\, du_{t-j} + u_{t-j}\, dK_j)$. With the cotangent $g$ of the output,
# the change of the loss is
#
# $$
# dL = \langle g, dy \rangle
# = \operatorname{Re} \sum_{t=0}^{L-1} \sum_{j=0}^{t} \overline{g_t}\, K_j\, du_{t-j}
# + \operatorname{Re} \sum_{t=0}^{L-1} \sum_{j=0}^{t} \overline{g_t}\, u_{t-j}\, dK_j .
# $$

# %%
du, dK = complex_normal(2, L)
change = sum(
    (g[t].conj() * (K[j] * du[t - j] + u[t - j] * dK[j])).real
    for t in range(L)
    for j in range(t + 1)
)
h = 1e-6
moved = reference.convolve.causal(u + h * du, K + h * dK)
assert np.isclose(inner(g, moved - y) / h, change, rtol=1e-4)

# %% [markdown]
# In the first sum we give the index of $du$ a name, $\tau = t - j$, so that $t = \tau + j$; then
# $j$ runs up to $L - 1 - \tau$. What stands beside $du_\tau$ is the gradient, [CONV-3]:
#
# $$
# \operatorname{grad}_{u_t} = \sum_{j=0}^{L-1-t} \overline{K_j}\, g_{t+j} .
# $$
#
# In the second we exchange the sums: $j \le t$ means that $t$ begins at $j$, [CONV-4]:
#
# $$
# \operatorname{grad}_{K_j} = \sum_{t=j}^{L-1} g_t\, \overline{u_{t-j}} .
# $$
#
# The plus in $t + j$, where the convolution has a minus, makes both *correlations*.

# %%
grad_u = np.array([sum(K[j].conj() * g[t + j] for j in range(L - t)) for t in range(L)])
grad_K = np.array([sum(g[t] * u[t - j].conj() for t in range(j, L)) for j in range(L)])
assert np.isclose(inner(grad_u, du) + inner(grad_K, dK), change)
assert np.allclose(grad_u, T.conj().T @ g)
for ours, theirs in zip((grad_u, grad_K), reference.convolve.causal_vjp(u, K, g)):
    assert np.allclose(ours, theirs)

# %% [markdown]
# A correlation is a convolution between two reversals of time, if one wants to reuse the program.
# [CONV-3] and [CONV-4] once more:
#
# $$
# \operatorname{grad}_u = \operatorname{rev}\left( \overline K * \operatorname{rev}(g) \right),
# \qquad
# \operatorname{grad}_K = \operatorname{rev}\left( \overline u * \operatorname{rev}(g) \right) .
# $$

# %%
assert np.allclose(grad_u, ops.convolve.causal(g[::-1], K.conj())[::-1])
assert np.allclose(grad_K, ops.convolve.causal(g[::-1], u.conj())[::-1])

# %% [markdown]
# ## Check
#
# The convolution is linear in $u$ and linear in $K$, so that beside the finite differences a
# sharper test applies: $\langle g, J v \rangle = \langle J^\dagger g, v \rangle$ to rounding.
# Batch and channels come along: one kernel a channel, shared by the batch, collects from all
# sequences [COMPLEX-5].

# %%
args = complex_normal(3, 2, 40), complex_normal(2, 40)  # u (batch, H, L), K (H, L)
for method in ("direct", "fft"):
    report = check_vjp(ops.convolve.causal_fwd, ops.convolve.causal_vjp, args, method=method)
    print(method, report, sep=": ")
    assert report
    for name in ("u", "K"):
        exact = check_adjoint(
            ops.convolve.causal_fwd, ops.convolve.causal_vjp, args, (name,), method=method
        )
        print(f"adjoint, linear in {name}: {exact.headline}")
        assert exact

# %% [markdown]
# ## The same by Fourier transforms
#
# The double loop costs $L^2/2$ products. A Fourier transform turns convolution into
# multiplication and costs $L \log L$. But it knows only *circular* convolution: time has $n$
# samples and then begins anew, and what runs out at the end comes in at the front:
#
# $$
# y^{\circ}_t = \sum_{(i + j) \bmod n\, =\, t} K_j\, u_i .
# $$
#
# So we append zeros, enough that nothing comes round. The last product of all, $K_{L-1} u_{L-1}$,
# belongs to time $2L - 2$. It must have a place of its own, [CONV-2]:
#
# $$
# y = P^\dagger F^{-1} \left( \hat K \odot \hat u \right), \qquad n \ge 2L - 1,
# $$
#
# where $F$ is the transform of length $n$, $P$ appends zeros, $P^\dagger$ keeps the first $L$
# samples, and $\hat u = F P u$.


# %%
def by_fft(u, K, n):
    """Circular convolution of length n, the first samples of it."""
    return scipy.fft.ifft(scipy.fft.fft(u, n) * scipy.fft.fft(K, n))[: u.size]


n = 30
circular = np.zeros(n, complex)
for i in range(L):
    for j in range(L):
        circular[(i + j) % n] += K[j] * u[i]
assert np.allclose(by_fft(u, K, n), circular[:L])

assert np.allclose(by_fft(u, K, 2 * L - 1), y)
assert not np.allclose(by_fft(u, K, 2 * L - 2), y)

# %% [markdown]
# What goes wrong with too little room? We let a single push near the end ring, and draw what
# comes round.

# %%
L = 60
K = ops.kernels.generate(0.96 * np.exp(0.35j), 1.0, 0.5, L).real * 2
u = np.zeros(L)
u[40] = 1.0
right = ops.convolve.causal(u, K)
fig, axes = plt.subplots(3, 1, figsize=(8.6, 5.8), sharex=True, sharey=True)
for ax, n in zip(axes, (L, 85, 2 * L - 1)):
    wrapped = by_fft(u, K, n).real
    ax.fill_between(np.arange(L), right, wrapped, color=VERMILION, alpha=0.3, lw=0)
    ax.plot(wrapped, color=VERMILION, lw=2, label=f"n = {n}")
    ax.plot(right, "--", color="black", lw=1.3, label="true")
    ax.axvline(40, color=GREY, lw=0.8, ls=":")
    error = np.linalg.norm(wrapped - right) / np.linalg.norm(right)
    ax.set(ylabel="y (no unit)", title=f"n = {n}: relative error {error:.0%}")
    ax.legend(loc="upper left", ncols=2)
axes[-1].set_xlabel("time (samples); the push comes at 40")
plt.show()
assert np.allclose(wrapped, right, atol=1e-14)

# %% [markdown]
# *A push at sample 40 (dotted line) and its answer. Top: without padding, the tail that should
# leave at the right comes in at the left, before its cause. Middle: with some padding, less of
# it. Bottom: with $n = 2L - 1$ nothing comes round.*
#
# One sample too little is enough to be wrong, and hard to see, because a decaying kernel has
# little at its end:

# %%
K, u = complex_normal(2, L)  # a kernel that does not decay
right = reference.convolve.causal(u, K)
for n in (2 * L - 3, 2 * L - 2, 2 * L - 1, 2 * L):
    worst = np.abs(by_fft(u, K, n) - right)
    print(
        f"n = {n}: largest error {worst.max():.1e}, at t = {np.flatnonzero(worst > 1e-9).tolist()}"
    )
assert np.isclose(by_fft(u, K, 2 * L - 2)[0] - right[0], K[-1] * u[-1])  # the one that came round

# %% [markdown]
# ### Its adjoint is not its inverse
#
# $y = P^\dagger F^{-1} \operatorname{diag}(\hat K)\, F P\, u$ is a chain of linear maps; its
# adjoint is the chain of adjoints in reverse. A diagonal is conjugated, padding and cutting are
# adjoint to each other, and
#
# $$
# F^\dagger = n F^{-1}, \qquad (F^{-1})^\dagger = \tfrac1n F .
# $$
#
# One $F$ and one $F^{-1}$ meet and the factors $n$ cancel, [CONV-5]:
#
# $$
# \operatorname{grad}_u = P^\dagger F^{-1} \left( \overline{\hat K} \odot \hat g \right), \qquad
# \operatorname{grad}_K = P^\dagger F^{-1} \left( \overline{\hat u} \odot \hat g \right) .
# $$

# %%
n = 2 * L - 1
a, b = complex_normal(2, n)
fft, ifft = scipy.fft.fft, scipy.fft.ifft
assert np.isclose(inner(a, fft(b)), inner(n * ifft(a), b))
assert np.isclose(inner(a, ifft(b)), inner(fft(a) / n, b))

g = complex_normal(L)
K_hat, u_hat, g_hat = (fft(v, n) for v in (K, u, g))
grad_u, grad_K = ifft(K_hat.conj() * g_hat)[:L], ifft(u_hat.conj() * g_hat)[:L]
for ours, theirs in zip((grad_u, grad_K), reference.convolve.causal_vjp(u, K, g)):
    assert np.allclose(ours, theirs)

wrong = {
    "no conjugate": ifft(K_hat * g_hat)[:L],
    "undo it (divide)": ifft(g_hat / K_hat)[:L],
    "n too large": n * grad_u,
}
for name, p in wrong.items():
    error = np.linalg.norm(p - grad_u) / np.linalg.norm(grad_u)
    cosine = inner(p, grad_u) / np.linalg.norm(p) / np.linalg.norm(grad_u)
    print(f"{name:17} relative error {error:7.2f}   cosine {cosine:5.2f}")
    assert error > 0.5

# %% [markdown]
# In a spectrum, the conjugate *is* the reversal of time: without it the gradient is a convolution
# where a correlation should be, and it has nothing to do with the true one.
#
# ## Through the kernel: an iota vector
#
# The kernel of one pole is $K_t = C \bar A^{\,t} \bar B$ [KERNEL-1]. Its differential, by the
# product rule, is
#
# $$
# dK_t = \bar A^{\,t} \bar B\; dC + C \bar A^{\,t}\; d\bar B
# + t\, C \bar A^{\,t-1} \bar B\; d\bar A .
# $$
#
# Put into $\langle g, dK \rangle$, with $g$ now the cotangent of the kernel, every factor changes
# sides with a conjugate. Only two sums over time remain, the *moments*, [KERNEL-5]:
#
# $$
# m_0 = \sum_{t=0}^{L-1} g_t\, \overline{\bar A^{\,t}}, \qquad
# m_1 = \sum_{t=1}^{L-1} t\, g_t\, \overline{\bar A^{\,t-1}} .
# $$
#
# The three gradients are [KERNEL-6] and [KERNEL-7]:
#
# $$
# \operatorname{grad}_C = \overline{\bar B}\, m_0, \qquad
# \operatorname{grad}_{\bar B} = \overline{C}\, m_0, \qquad
# \operatorname{grad}_{\bar A} = \overline{C \bar B}\, m_1 .
# $$
#
# In NumPy the factor $t$ is `np.arange(L)`, an *iota* vector.


# %%
def moments_by_iota(A_bar, g):
    """[KERNEL-5] as it stands."""
    t = np.arange(g.size)
    m0 = np.sum(g * np.conj(A_bar**t))
    m1 = np.sum(t * g * np.conj(A_bar ** np.maximum(t - 1, 0)))
    return m0, m1


A_bar, B_bar, C = 0.93 * np.exp(0.8j), complex_normal(), complex_normal()
g = complex_normal(L)
m0, m1 = moments_by_iota(A_bar, g)
grads = np.conj(C * B_bar) * m1, np.conj(C) * m0, np.conj(B_bar) * m0

dA, dB, dC = complex_normal(3)
t = np.arange(L)
dK = A_bar**t * B_bar * dC + C * A_bar**t * dB
dK += t * C * A_bar ** np.maximum(t - 1, 0) * B_bar * dA
assert np.isclose(inner(g, dK), sum(inner(a, b) for a, b in zip(grads, (dA, dB, dC))))
for ours, theirs in zip(grads, reference.kernels.generate_vjp(A_bar, B_bar, C, L, g)):
    assert np.allclose(ours, theirs)

# %%
t = np.arange(160)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
for radius in (0.8, 0.9, 0.95, 0.97):
    left.plot(t, radius**t, lw=2, label=f"{radius}")
    weight = t * radius ** np.maximum(t - 1.0, 0)
    (line,) = right.plot(t, weight, lw=2)
    peak = np.argmax(weight)
    right.plot(peak, weight[peak], "o", color=line.get_color(), ms=5)
    assert abs(peak - (-1 / np.log(radius))) <= 1
left.legend(title=r"$|\bar A|$")
left.set(xlabel="lag t (samples)", ylabel="weight (no unit)", title=r"in $m_0$: $|\bar A|^t$")
right.set(
    xlabel="lag t (samples)", ylabel="weight (samples)", title=r"in $m_1$: $t\,|\bar A|^{t-1}$"
)
plt.show()

# %% [markdown]
# *How much each lag contributes. The gradients to $\bar B$ and $C$ listen to short lags most. The
# gradient to $\bar A$ listens to lags near $-1/\ln|\bar A|$ (dots), the memory of the pole, and
# it grows with the square of that memory. A pole near the circle therefore wants a smaller
# learning rate than $B$ and $C$.*
#
# ## Horner's rule makes the iota disappear
#
# With $w = \overline{\bar A}$ the first moment is a polynomial,
# $m_0 = g_0 + g_1 w + g_2 w^2 + \dots$, and the second is its derivative. Horner's rule computes
# a polynomial from the highest coefficient down, $h_t = g_t + w\, h_{t+1}$. Differentiate that
# line by $w$, and it gives the derivative too, [KERNEL-8]:
#
# $$
# h_t = g_t + \overline{\bar A}\, h_{t+1}, \qquad
# d_t = h_{t+1} + \overline{\bar A}\, d_{t+1}, \qquad h_L = d_L = 0; \qquad
# m_0 = h_0, \quad m_1 = d_0 .
# $$
#
# No power, no iota, no logarithm; and $\bar A = 0$ needs no special case.


# %%
def moments_by_horner(A_bar, g):
    """[KERNEL-8]."""
    w = np.conj(A_bar)
    h = d = 0
    for t in range(g.size - 1, -1, -1):
        d = h + w * d  # before h changes: it needs h_{t+1}
        h = g[t] + w * h
    return h, d


for pole in (A_bar, 0.5, 1.0, -1.0j, 0.0):
    assert np.allclose(moments_by_horner(pole, g), moments_by_iota(pole, g), rtol=1e-12)

report = check_vjp(ops.kernels.generate_fwd, ops.kernels.generate_vjp, (A_bar, B_bar, C, 200))
print(report)
assert report

# %% [markdown]
# Look at the first line again. $h_t = g_t + \overline{\bar A}\, h_{t+1}$ runs from the last
# sample to the first and multiplies by the conjugate pole: it is the adjoint recursion of
# back-propagation through time [SCAN-4]. That is no coincidence.
#
# ## Why it is the same gradient
#
# Both views compute the same function, and a function has only one gradient. So much is clear;
# but it is pretty to see the sums turn into each other. One pole, from rest. Back-propagation
# through time says [SCAN-5], with $e$ the cotangent of the output,
#
# $$
# \operatorname{grad}_{\bar A} = \sum_t \lambda_t\, \overline{x_{t-1}}, \qquad
# \lambda_t = \sum_{j \ge 0} \overline{\bar A}^{\,j}\, \overline C\, e_{t+j}, \qquad
# x_{t-1} = \sum_{i \ge 0} \bar A^{\,i}\, \bar B\, u_{t-1-i} .
# $$
#
# Multiplied out it is a triple sum: over the step $t$ that is varied, the $j$ steps from there on
# to an output, and the $i$ steps back to an input,
#
# $$
# \operatorname{grad}_{\bar A}
# = \sum_t \sum_{j \ge 0} \sum_{i \ge 0} \overline{\bar A}^{\,i+j}\; \overline{C \bar B}\;
# e_{t+j}\; \overline{u_{t-1-i}} .
# $$

# %%
L = 12
u, e = complex_normal(2, L)
x = np.zeros(L + 1, complex)  # x[t] is the state before step t
for t in range(L):
    x[t + 1] = A_bar * x[t] + B_bar * u[t]
lam, by_time = 0, 0
for t in range(L - 1, -1, -1):
    lam = np.conj(C) * e[t] + np.conj(A_bar) * lam
    by_time += lam * np.conj(x[t])

triple = sum(
    np.conj(A_bar ** (i + j) * C * B_bar) * e[t + j] * np.conj(u[t - 1 - i])
    for t in range(L)
    for j in range(L - t)
    for i in range(t)
)
assert np.isclose(triple, by_time, rtol=1e-12)

# %% [markdown]
# Exchange the sums. Name the time $\tau = t + j$ at which an output is heard, and the lag
# $m = i + j + 1$ between it and the input, which then was said at $\tau - m$. The term depends on
# $\tau$ and $m$ alone,
#
# $$
# \overline{\bar A}^{\,m-1}\; \overline{C \bar B}\; e_\tau\; \overline{u_{\tau - m}} .
# $$
#
# How many triples $(t, j, i)$ belong to one pair $(\tau, m)$? $j$ may be $0, 1, \dots, m - 1$,
# and then $t = \tau - j$ and $i = m - 1 - j$ follow. That is $m$ triples: one for each step that
# stands between the cause and the effect.

# %%
count = {}
for t in range(L):
    for j in range(L - t):
        for i in range(t):
            key = t + j, i + j + 1
            count[key] = count.get(key, 0) + 1
assert all(how_many == m for (tau, m), how_many in count.items())

fig, ax = plt.subplots(figsize=(8.6, 2.9))
tau, m = 8, 5
for row, j in enumerate(range(m)):
    t = tau - j
    ax.plot([tau - m, t - 1], [row] * 2, "o-", color=BLUE, lw=2, ms=4)
    ax.plot([t, tau], [row] * 2, "o-", color=VERMILION, lw=2, ms=4)
    ax.annotate("", (t, row), (t - 1, row), arrowprops={"arrowstyle": "->", "lw": 2})
    ax.text(tau + 0.25, row, f"j = {j}, i = {m - 1 - j}", va="center")
ax.plot([], [], color=BLUE, lw=2, label=r"$i$ steps in $x_{t-1}$")
ax.plot([], [], color="black", lw=2, label=r"the step $t$ that is varied")
ax.plot([], [], color=VERMILION, lw=2, label=r"$j$ steps in $\lambda_t$")
ax.set(xlim=(2.4, 9.6), ylim=(-0.6, m - 0.2), yticks=[], xlabel="time (samples)")
ax.set_xticks([tau - m, tau], [f"{tau - m}: input", f"{tau}: output"])
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
ax.spines["left"].set_visible(False)
plt.show()

# %% [markdown]
# *An input at time 3 acts on the output at time 8, lag $m = 5$. Five steps lie between them, and
# each may be the one in which $\bar A$ is varied (black arrow). Back-propagation through time
# adds the five rows one by one; the iota in the kernel's gradient counts them at once.*
#
# Every pair therefore comes $m$ times. The sum over $\tau$ is the correlation [CONV-4], and what
# is left is the kernel's gradient [KERNEL-7]. This is [CONV-7]:
#
# $$
# \operatorname{grad}_{\bar A}
# = \sum_{m \ge 1} m\, \overline{\bar A}^{\,m-1}\, \overline{C \bar B}
# \sum_{\tau \ge m} e_\tau\, \overline{u_{\tau - m}}
# = \sum_{m \ge 1} \overline{m\, C \bar A^{\,m-1} \bar B}\; \operatorname{grad}_{K_m} .
# \qquad \blacksquare
# $$

# %%
grad_K = reference.convolve.causal_vjp(u, ops.kernels.generate(A_bar, B_bar, C, L), e)[1]
by_kernel = sum(np.conj(m * C * A_bar ** (m - 1) * B_bar) * grad_K[m] for m in range(1, L))
assert np.isclose(by_kernel, by_time, rtol=1e-12)
print(f"relative difference {abs(by_kernel - by_time) / abs(by_time):.1e}")

# %% [markdown]
# Now with everything that a real model has: several poles and channels, a batch, an initial
# state, a cotangent of the last state, in complex128. The package's two views must agree in every
# gradient to $10^{-12}$,
#
# $$
# \frac{\| \operatorname{grad}^{\text{scan}} - \operatorname{grad}^{\text{convolution}} \|}
# {\| \operatorname{grad}^{\text{scan}} \|}
# \le 10^{-12} .
# $$

# %%
labels = ("A_bar", "B_bar", "C", "D", "u", "x0")
print(f"{'L':>5}" + "".join(f"{name:>10}" for name in labels))
for L in (1, 2, 17, 1047):
    H, N, batch = 2, 4, 3
    poles = rng.uniform(0.9, 1.0, (H, N)) * np.exp(1j * rng.uniform(-np.pi, np.pi, (H, N)))
    args = (poles, complex_normal(H, N), complex_normal(H, N), complex_normal(H))
    args = (*args, complex_normal(batch, H, L), complex_normal(batch, H, N))
    cotangents = complex_normal(batch, H, L), complex_normal(batch, H, N)
    grads = []
    for view in ("scan", "convolution"):
        _, residuals = ops.ssm.apply_fwd(*args, view=view, real=False)
        grads.append(ops.ssm.apply_vjp(residuals, cotangents))
    gaps = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(*grads)]
    print(f"{L:5d}" + "".join(f"{gap:10.1e}" for gap in gaps))
    assert max(gaps) <= 1e-12

# %% [markdown]
# ## What to save, and what to recompute
#
# The vjp of the convolution needs the spectra of $u$ and $K$. They could be computed again from
# $u$ and $K$, at the price of two transforms of five; they are saved, for 64 bytes a sample in
# complex128. The kernel's powers would be as large, and they are *not* saved: Horner's rule does
# without them. The backward pass of the kernel keeps only its three arguments.
#
# $$
# \text{forward: } \hat u, \hat K, F^{-1}; \qquad \text{backward: } \hat g, F^{-1}, F^{-1} .
# $$

# %%
L = 4096
u, K = complex_normal(2, L)
_, saved = ops.convolve.causal_fwd(u, K, method="fft")
spectra = saved.u_hat.nbytes + saved.K_hat.nbytes
print(f"convolution: spectra of {spectra / L:.0f} bytes a sample are saved")
assert spectra >= 2 * 16 * (2 * L - 1)

_, saved = ops.kernels.generate_fwd(A_bar, B_bar, C, L)
kept = sum(a.nbytes for a in (saved.A_bar, saved.B_bar, saved.C))
print(f"kernel: {kept} bytes are saved, where the powers would take {16 * L}")
assert saved.K_like.strides == (0,)  # a shape without memory
g = complex_normal(L)
again = [ifft(np.conj(fft(v, 2 * L)) * fft(g, 2 * L))[:L] for v in (K, u)]
_, residuals = ops.convolve.causal_fwd(u, K, method="fft")
for ours, theirs in zip(again, ops.convolve.causal_vjp(residuals, g)):
    assert np.allclose(ours, theirs)

# %% [markdown]
# ## Fast equals slow
#
# Direct sums and transforms against the double loop of the reference, over odd, even and prime
# lengths:

# %%
worst = {"direct": 0.0, "fft": 0.0}
for L in (1, 2, 3, 17, 64, 127):
    u, K, g = complex_normal(3, L)
    slow = reference.convolve.causal(u, K), *reference.convolve.causal_vjp(u, K, g)
    for method in worst:
        y, residuals = ops.convolve.causal_fwd(u, K, method=method)
        fast = y, *ops.convolve.causal_vjp(residuals, g)
        gaps = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(fast, slow)]
        worst[method] = max(worst[method], *gaps)
for method, gap in worst.items():
    print(f"{method:7} differs from the reference by at most {gap:.1e}")
    assert gap < 1e-13

# %% [markdown]
# ## Timing
#
# Two questions: from which length on are transforms worth while? And which view is faster,
# forward and backward together?


# %%
def shortest(function, repeats=5):
    """Seconds of the fastest of a few calls, after one that does not count."""
    function()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)


def convolution_and_vjp(u, K, g, method):
    _, residuals = ops.convolve.causal_fwd(u, K, method=method)
    return ops.convolve.causal_vjp(residuals, g)


def view_and_vjp(args, e, view):
    _, residuals = ops.ssm.apply_fwd(*args, view=view)
    return ops.ssm.apply_vjp(residuals, (e, None))


lengths = 2 ** np.arange(4, 13)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4))
for method, marker in (("direct", "s"), ("fft", "o")):
    cost = []
    for L in lengths:
        u, K, g = rng.standard_normal((3, L))
        cost.append(1e6 * shortest(lambda a=(u, K, g), m=method: convolution_and_vjp(*a, m)))
    left.loglog(lengths, cost, marker + "-", label=method)
left.set(xlabel="length L (samples)", ylabel="time (µs)", title="convolution: forward and vjp")
left.legend()

lengths = 2 ** np.arange(6, 17, 2)
for n_poles, style in ((1, "-"), (8, "--")):
    for view, colour, marker in (("scan", BLUE, "^"), ("convolution", VERMILION, "o")):
        cost = []
        for L in lengths:
            poles = 0.999 * np.exp(1j * rng.uniform(0, 3, (1, n_poles)))
            args = (poles, complex_normal(1, n_poles), complex_normal(1, n_poles), None)
            args = (*args, rng.standard_normal((1, 1, L)))
            e = rng.standard_normal((1, 1, L))
            cost.append(1e9 * shortest(lambda a=args, e=e, v=view: view_and_vjp(a, e, v), 3) / L)
        label = f"{view}, {n_poles} pole{'s' if n_poles > 1 else ''}"
        right.loglog(lengths, cost, marker + style, color=colour, label=label)
        print(f"{label:22} {cost[-1]:7.1f} ns per sample at L = {lengths[-1]}")
right.set(
    xlabel="length L (samples)", ylabel="time per sample (ns)", title="views: forward and vjp"
)
right.legend()
plt.show()

# %% [markdown]
# *Left: direct sums cost $L^2$ and win up to about two hundred samples; `method="auto"` changes
# over at 96. Right: both views of the whole model, gradients to all arguments included, with one
# pole (solid) and eight (dashed). Short sequences pay for the call. On one core the scan leads,
# because to form a kernel and its moments costs as many steps as the recurrence itself, and the
# transforms come on top.*
#
# What speaks for the convolution then? Its samples do not wait for each other. On a machine with
# thousands of lanes that decides; and the kernel, once made, serves a whole batch.
#
# ## Exercise 1: a double pole
#
# A spring with just enough friction not to swing has two poles in the same place, and its kernel
# is
#
# $$
# K_t = (t + 1)\, \bar A^{\,t} .
# $$
#
# Write the gradient to $\bar A$. For a first solution use the iota vector; for a second one, find
# the line that must be added to Horner's rule. `yours` has the gradient of
# a single pole, $K_t = \bar A^{\,t}$. Mend it.


# %%
def double_fwd(A_bar):
    t = np.arange(50)
    return (t + 1) * A_bar**t, A_bar


def yours(A_bar, g):
    """Wrong: the gradient of A_bar^t without the factor t + 1."""
    return (moments_by_iota(A_bar, g)[1],)


# %%
def check(vjp):
    """Whether the vjp of the double pole stands up to finite differences, at zero too."""
    for pole in (0.9 * np.exp(0.6j), -0.7j, 0.0j):
        report = check_vjp(double_fwd, vjp, (pole,))
        if not report:
            return f"not yet: at A_bar = {pole:.2f}, {report.headline}"
    return "solved: " + report.headline


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# With the iota: $dK_t = (t + 1)\, t\, \bar A^{\,t-1} d\bar A$, hence $\operatorname{grad}_{\bar
# A} = \sum_t g_t\, (t + 1)\, t\, \overline{\bar A}^{\,t-1}$.
#
# ```python
# def yours(A_bar, g):
#     t = np.arange(g.size)
#     return (np.sum(g * (t + 1) * t * np.conj(A_bar) ** np.maximum(t - 1, 0)),)
# ```
#
# With Horner: let $p(w) = \sum_t g_t w^t$. The sum is the second derivative of $w\, p(w)$, which
# is $2 p' + w\, p''$. The line $d_t = h_{t+1} + w\, d_{t+1}$ gives $p'$; differentiate it once
# more, and with $s = p''/2$ it is $s_t = d_{t+1} + w\, s_{t+1}$:
#
# ```python
# def yours(A_bar, g):
#     w = np.conj(A_bar)
#     h = d = s = 0
#     for value in g[::-1]:
#         s = d + w * s
#         d = h + w * d
#         h = value + w * h
#     return (2 * d + 2 * w * s,)
# ```
#
# </details>
#
# ## Exercise 2: an operator of your own
#
# No derivation of ours covers this one: a real model, with a second way through for the sample
# *before*, and one more real weight for each channel,
#
# $$
# y_t = 2 \operatorname{Re} \sum_n C_n x_{t,n} + D\, u_t + E\, u_{t-1} .
# $$
#
# The first sample has none before it in the array. That one, $u_{-1}$, is an argument `u_before`;
# and so that a sequence may be cut anywhere, the last sample is an output `u_last`, beside
# `x_last`.
#
# Write both functions with the five steps of notebook 3. `yours_fwd` and `yours_vjp` know nothing
# of $E$ yet: they pass everything else on to `ops.ssm.apply`. Continue so, or write the loops
# yourself. Which cotangents does each $u_t$ hear now?


# %%
def yours_fwd(A_bar, B_bar, C, D, E, u, x0, u_before):
    """(y, x_last, u_last); E is (H,), u is (batch, H, L), u_before is (batch, H)."""
    (y, x_last), saved = ops.ssm.apply_fwd(A_bar, B_bar, C, D, u, x0)
    return (y, x_last, u[..., -1].copy()), (saved, E, u_before)


def yours_vjp(residuals, grad_out):
    """One gradient for each of the eight arguments; all those that meet E are missing."""
    saved, E, u_before = residuals
    grad_y, grad_x_last, _ = grad_out
    *grads, grad_u, grad_x0 = ops.ssm.apply_vjp(saved, (grad_y, grad_x_last))
    return (*grads, np.zeros_like(E), grad_u, grad_x0, np.zeros_like(u_before))


# %%
def check(fwd, vjp):
    """Whether the output is right, a cut leaves no trace, and the vjp stands up to differences."""
    batch, H, N, L = 2, 3, 4, 9
    poles = rng.uniform(0.7, 1, (H, N)) * np.exp(1j * rng.uniform(-3, 3, (H, N)))
    weights = poles, complex_normal(H, N), complex_normal(H, N), *rng.standard_normal((2, H))
    u, u_before = rng.standard_normal((batch, H, L)), rng.standard_normal((batch, H))
    x0 = complex_normal(batch, H, N)
    y = fwd(*weights, u, x0, u_before)[0][0]
    wanted, before = ops.ssm.apply(*weights[:4], u, x0)[0], u_before
    for t in range(L):
        wanted[..., t] += weights[4] * before
        before = u[..., t]
    if not np.allclose(y, wanted):
        return f"not yet: the output is off by {np.abs(y - wanted).max():.2f}"
    (head, *passed), _ = fwd(*weights, u[..., :4], x0, u_before)
    tail = fwd(*weights, u[..., 4:], *passed)[0][0]
    if not np.allclose(np.concatenate([head, tail], axis=-1), wanted):
        return "not yet: a cut after four samples can be seen in the output"
    for cotangent in ("random", "last"):
        for samples in (L, 1):
            args = *weights, u[..., :samples], x0, u_before
            report = check_vjp(fwd, vjp, args, cotangent=cotangent)
            if not report:
                return f"not yet: L = {samples}, {report.headline}"
    return "solved: " + report.headline


print(check(yours_fwd, yours_vjp))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Forward, the input is read once more, delayed. What is new in $dy_t$ is
# $u_{t-1}\, dE + E\, du_{t-1}$, and with $e_t$ the cotangent of $y_t$ and $g$ that of `u_last`,
#
# $$
# dL = \dots + \sum_{t=0}^{L-1} e_t\, u_{t-1}\, dE + \sum_{t=0}^{L-1} e_t\, E\, du_{t-1}
# + g\, du_{L-1} .
# $$
#
# All of it is real, so no conjugate is seen. The first sum gives
# $\operatorname{grad}_E = \sum_t e_t\, u_{t-1}$, summed over the batch as well. In the second,
# $\tau = t - 1$ runs from $-1$ to $L - 2$: $u_\tau$ hears $E\, e_{\tau+1}$, a correlation again.
# The term $\tau = -1$ belongs to `u_before`, and the last sample has no such term, but $g$ instead.
# (It is [CONV-3] with the kernel $0, E, 0, 0, \dots$, and the two ends looked after.) The state is
# not touched: $\lambda_t$ and every gradient made of it are what they were.
#
# ```python
# def yours_fwd(A_bar, B_bar, C, D, E, u, x0, u_before):
#     (y, x_last), saved = ops.ssm.apply_fwd(A_bar, B_bar, C, D, u, x0)
#     delayed = np.concatenate([u_before[..., None], u[..., :-1]], axis=-1)
#     return (y + E[:, None] * delayed, x_last, u[..., -1].copy()), (saved, E, delayed)
#
#
# def yours_vjp(residuals, grad_out):
#     saved, E, delayed = residuals
#     e, grad_x_last, grad_u_last = grad_out
#     *grads, grad_u, grad_x0 = ops.ssm.apply_vjp(saved, (e, grad_x_last))
#     grad_E = np.sum(e * delayed, axis=(0, 2))
#     heard = E[:, None] * e  # by the sample before
#     grad_u[..., :-1] += heard[..., 1:]
#     grad_u[..., -1] += grad_u_last
#     return (*grads, grad_E, grad_u, grad_x0, heard[..., 0])
# ```
#
# </details>
#
# Next: [notebook 5](05_through_the_tustin_map.ipynb) goes on from $\bar A$ and $\bar B$ to what
# they were made of, $A$, $B$ and the time step.
