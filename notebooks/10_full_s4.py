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
# # 10. The full S4 kernel
#
# Notebook 9 ended with HiPPO's matrices as *diagonal plus low rank*, $A = \Lambda - P Q^*$. Leave
# out the low rank and you have S4D. Keep it and you have S4; but then $\bar A$ is dense, and its
# $L$ powers cost $N^2 L$.
#
# S4 (Gu, Goel and Ré 2022) gets by without powers. A *resolvent* of such a matrix takes four sums.
# From resolvents at $L$ points of a circle the kernel follows by one Fourier transform. We derive
# it, and then the gradients of every parameter, which everywhere else are left to automatic
# differentiation. In the end they are one outer product and two matrix products.
#
# Needed from before: conjugates and inner products (notebook 2), the convolution and its gradient
# (notebook 4), the Tustin map (notebook 5), HiPPO's matrices (notebook 9). Labels such as
# [CAUCHY-8] are those of
# [The kernel of a diagonal plus low-rank system](../docs/derivations/cauchy.md), where all this is
# done for any rank. Here: rank one, one channel, all $N$ states written out.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import hippo, ops, plots, reference
from ssm_manual.gradcheck import check_vjp

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = plots.CYCLE
GREY = plots.COLOURS["grey"]
plt.rcParams.update(plots.STYLE)

rng = np.random.default_rng(10)


def complex_normal(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def distance(a, b):
    """Largest difference over the largest value of b."""
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


# %% [markdown]
# ## The equation, and the reference
#
# $$
# \begin{gathered}
# K_l = C \bar A^{\,l} \bar B, \qquad A = \Lambda - P Q^* , \\
# \bar A = (I - \tfrac{dt}{2} A)^{-1} (I + \tfrac{dt}{2} A), \quad
# \bar B = (I - \tfrac{dt}{2} A)^{-1}\, dt\, B .
# \end{gathered}
# \qquad\text{[CAUCHY-1]}
# $$
#
# Seconds first: $\lambda = \frac{dt}{2}\Lambda$, $p = \frac{dt}{2} P$, $b = \frac{dt}{2} B$ and $a
# = \lambda - p\, Q^*$ have no unit, and $dt$ appears nowhere else, [CAUCHY-2]. HiPPO-LegS with 16
# states will be our system, with a random $C$.

# %%
N, L, dt = 16, 200, 0.02
Lambda, P, B, _ = hippo.dplr("legs", N, full=True)
P, Q, C = P[0], P[0].copy(), complex_normal(N)
parameters = Lambda, P, Q, B, C, np.array(dt)


def discretise(Lambda, P, Q, B, dt):
    a = dt / 2 * (np.diag(Lambda) - np.outer(P, Q.conj()))
    inverse = np.linalg.inv(np.eye(len(a)) - a)
    return inverse @ (np.eye(len(a)) + a), inverse @ (dt * B)


def kernel_by_powers(Lambda, P, Q, B, C, dt, length):
    A_bar, x = discretise(Lambda, P, Q, B, dt)
    K = []
    for _ in range(length):
        K.append(C @ x)
        x = A_bar @ x
    return np.array(K)


K_true = kernel_by_powers(*parameters, L)
assert (
    distance(K_true, reference.cauchy.cauchy(Lambda, P[None], Q[None], B, C, dt, L, real=False))
    < 1e-13
)
A_bar, B_bar = discretise(Lambda, P, Q, B, dt)

# %% [markdown]
# ## The generating function
#
# Make a polynomial of the kernel, $\widehat K(z) = \sum_{l<L} K_l z^l$. Its coefficients follow
# from its values at $L$ points of a circle by a Fourier transform. And its values need no powers
# but one, for the sum is a geometric series:
#
# $$
# \widehat K(z) = C\, (I - \bar A^L z^L)\, (I - \bar A z)^{-1} \bar B . \qquad\text{[CAUCHY-4]}
# $$
#
# At the points $z_q = \varrho\, e^{-2\pi i q/L}$ [CAUCHY-3] the power is $z_q^L = \varrho^L$, the
# same for all: the bracket goes into $C$ once, $\widehat C = C (I - \varrho^L \bar A^L)$. First the
# series at any point, then the kernel.

# %%
z = 0.7 - 0.4j
bracket = np.eye(N) - np.linalg.matrix_power(A_bar, L) * z**L
by_series = C @ bracket @ np.linalg.solve(np.eye(N) - A_bar * z, B_bar)
assert np.isclose(by_series, np.sum(K_true * z ** np.arange(L)), rtol=1e-12)  # [CAUCHY-4]


def nodes(length, damping):
    """z on a circle of radius damping^(1/L) [CAUCHY-3]."""
    return damping ** (1 / length) * np.exp(-2j * np.pi * np.arange(length) / length)


def from_nodes(K_hat, damping):
    """The coefficients of a polynomial from its values at the nodes [CAUCHY-3]."""
    return np.fft.ifft(K_hat) * damping ** (-np.arange(len(K_hat)) / len(K_hat))


def kernel_by_resolvents(damping):
    C_hat = C @ (np.eye(N) - damping * np.linalg.matrix_power(A_bar, L))
    K_hat = [C_hat @ np.linalg.solve(np.eye(N) - A_bar * z, B_bar) for z in nodes(L, damping)]
    return from_nodes(np.array(K_hat), damping)


for damping in (1.0, 0.5):
    error = distance(kernel_by_resolvents(damping), K_true)
    print(f"radius^L = {damping}: error {error:.1e}")
    assert error < 1e-12

# %% [markdown]
# ### What goes wrong: the bracket
#
# What if the bracket is forgotten, as in some published code? Then the tail of the kernel, all that
# comes after $L$, is folded back on its beginning [VAND-9].

# %%
short = 40
resolvents = [np.linalg.solve(np.eye(N) - A_bar * z, B_bar) for z in nodes(short, 1.0)]
forgotten = np.fft.ifft(np.array(resolvents) @ C)
folded = kernel_by_powers(*parameters, 200 * short).reshape(200, short).sum(axis=0)
assert distance(forgotten, folded) < 1e-12

fig, ax = plt.subplots(figsize=(7.6, 3.0))
ax.plot(dt * np.arange(4 * short), K_true[: 4 * short].real, color=BLUE, label="the kernel")
ax.plot(dt * np.arange(short), forgotten.real, ".-", color=VERMILION, label="no truncation")
ax.axvline(dt * short, color=GREY, lw=1)
ax.set(xlabel="time (s)", ylabel=r"Re $K$ (no unit)")
ax.legend()
plt.show()

# %% [markdown]
# *The kernel, and what 40 nodes make of it without $I - \bar A^L$: all that comes after the grey
# line is laid over the first 0.8 s. So the beginning depends on how long the sequence is.*
#
# ## Half angles
#
# Write $z = e^{-\zeta}$. Put the bilinear map into the resolvent, multiply by $I - a$:
#
# $$
# \begin{gathered}
# (I - \bar A z)^{-1} \bar B = \left( (1-z) I - (1+z) a \right)^{-1} 2 b
# = e^{\zeta/2} (S - c\, a)^{-1} b, \\
# S = \sinh \tfrac{\zeta}{2}, \quad c = \cosh \tfrac{\zeta}{2} .
# \end{gathered}
# \qquad\text{[CAUCHY-5]}
# $$
#
# The discrete $\bar A$ is gone. The usual form divides by $1 + z$ and needs an epsilon at $z = -1$.
# This one divides by nothing.

# %%
DAMPING = 0.5


def circle(length):
    half = (-np.log(DAMPING) + 2j * np.pi * np.arange(length)) / (2 * length)
    return np.sinh(half), np.cosh(half)


S, c = circle(L)
a = dt / 2 * (np.diag(Lambda) - np.outer(P, Q.conj()))
for q in (0, 17, L // 2):  # the last is the node opposite to 1
    z = nodes(L, DAMPING)[q]
    right = (S[q] + c[q]) * np.linalg.solve(S[q] * np.eye(N) - c[q] * a, dt / 2 * B)
    assert distance(right, np.linalg.solve(np.eye(N) - A_bar * z, B_bar)) < 1e-12

# %% [markdown]
# ## Cauchy sums and Woodbury
#
# $S - c\,a = (S - c\lambda) + c\, p\, Q^*$: a diagonal matrix plus one column times one row. By the
# identity of Woodbury, its inverse between any row and column takes four sums and a quotient:
#
# $$
# \widehat K = e^{\zeta/2} \left( \kappa_{00}
# - \frac{\kappa_{01}\, c\, \kappa_{10}}{1 + c\, \kappa_{11}} \right), \qquad
# \kappa_{ab} = \sum_n \frac{\ell_{a,n}\, \rho_{b,n}}{S - c \lambda_n}, \qquad
# \ell = (\widehat C,\, \overline Q), \quad \rho = (b,\, p) . \qquad\text{[CAUCHY-8]}
# $$
#
# Four sums over $N$ modes at every node. All are made of the same $N \times L$ resolvents: they are
# *one matrix product*, (4 weights) times (resolvents).
#
# This is the whole forward pass. As always each function gives what its gradient will need as a
# second value: the two numbers $\eta$ and $\xi$ of a node, and not the resolvents.


# %%
def spectrum_fwd(lam, p, Q, b, C_hat, *, length):
    """Half of [CAUCHY-8]: the values at the nodes, before they are turned."""
    S, c = circle(length)
    resolvents = 1 / (S - c * lam[:, None])
    left, right = np.stack([C_hat, Q.conj()]), np.stack([b, p])
    weights = (left[:, None] * right[None]).reshape(4, -1)
    k00, k01, k10, k11 = weights @ resolvents  # [CAUCHY-10]
    over = c / (1 + c * k11)
    eta, xi = k01 * over, k10 * over  # [CAUCHY-13]
    return k00 - eta * k10, (lam, left, right, eta, xi)


def transform(h, length):
    S, c = circle(length)
    return from_nodes((S + c) * h, DAMPING)


C_hat = C @ (np.eye(N) - DAMPING * np.linalg.matrix_power(A_bar, L))
h, kept = spectrum_fwd(dt / 2 * Lambda, dt / 2 * P, Q, dt / 2 * B, C_hat, length=L)
error = distance(transform(h, L), K_true)
print(f"by Cauchy sums: error {error:.1e}")
assert error < 1e-13

# %% [markdown]
# ## Why the circle is smaller than one
#
# LegT and FouT have $\Lambda$ on the imaginary axis. On the unit circle $S/c = i \tan$ runs along
# that axis, too. A node may fall on a $\lambda$: the four sums are infinite there, and the
# infinities cancel. (FouT even has $\lambda = 0$, which is a node for every $L$.) With $\varrho^L =
# \frac12$ the nodes bend away from the axis, and no stable system has a pole there. Better: for $Q
# = P$ the number that Woodbury divides by has $\operatorname{Re}(1 + c\,\kappa_{11}) \ge 1$,
# [CAUCHY-11].

# %%
fig, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(10.0, 3.6))
poles = hippo.dplr("fout", 16)[0] * 0.1 / 2
for damping, colour, label in ((1.0, VERMILION, "unit circle"), (0.5, BLUE, r"$\varrho^L = 1/2$")):
    half = (-np.log(damping) + 2j * np.pi * np.arange(32)) / 128
    t = np.tanh(half)
    left_ax.plot(t.real, t.imag, ".", color=colour, label=f"nodes, {label}")
    w = 1 / (
        np.tanh((-np.log(damping) + 2j * np.pi * np.linspace(0, 31, 4000)) / 128)[:, None]
        - poles[1:]
    )
    right_ax.semilogy(np.linspace(0, 31, 4000), np.abs(w).max(1), color=colour, label=label)
left_ax.plot(poles.real, poles.imag, "x", color="black", label=r"$\lambda$ of FouT")
left_ax.set(
    xlabel=r"real part of $S/c$ and $\lambda$ (no unit)",
    ylabel="imaginary part (no unit)",
    xlim=(-0.02, 0.05),
    ylim=(-0.1, 2.8),
)
left_ax.legend(loc="lower right")
right_ax.set(
    xlabel="node $q$, and between nodes", ylabel=r"largest $|1/(S/c - \lambda)|$ (no unit)"
)
right_ax.legend()
plt.show()

# %% [markdown]
# *64 samples of FouT at 0.1 s. Left: nodes on the unit circle lie on the axis of the
# $\lambda$, those of the smaller circle beside it. Right: the largest resolvent along either curve.
# What is infinite on one is at most $2 L / \ln 2$ on the other.*
#
# Both bounds, counted. And what does it cost? The last samples are multiplied by 2, and so is their
# rounding: one bit.

# %%
for measure in ("legs", "legt", "fout"):
    lam, p, _, _ = hippo.dplr(measure, 16, full=True)
    lam, row, (S, c) = dt / 2 * lam, p[0], circle(L)
    resolvents = 1 / (S - c * lam[:, None])
    largest = np.abs(c * resolvents).max()
    divisor = 1 + dt / 2 * c * (np.abs(row) ** 2 @ resolvents)  # 1 + c kappa_11
    least = divisor.real.min()
    print(f"{measure}: largest resolvent {largest:.0f}, least Re(1 + c kappa) {least:.3f}")
    dense = S[17] * np.eye(16) - c[17] * (np.diag(lam) - dt / 2 * np.outer(row, row.conj()))
    ratio = np.linalg.det(dense) / np.prod(S[17] - c[17] * lam)  # the same number, by determinants
    assert np.isclose(divisor[17], ratio, rtol=1e-10)
    assert largest <= 1.01 * 2 * L / np.log(2)
    assert least >= 1 - 1e-12  # [CAUCHY-11]

for measure in ("legs", "legt", "fout"):
    lam, p, b, _ = hippo.dplr(measure, 16)
    args = lam, p, p, b, complex_normal(8), 0.1
    found, expected = ops.cauchy.cauchy(*args, 257), reference.cauchy.cauchy(*args, 257)
    print(f"{measure}: rank {len(p)}, error {distance(found, expected):.1e}")
    assert distance(found, expected) < 1e-12

# %% [markdown]
# ## The way back
#
# ### The transform
#
# $K = \varrho^{-l}\, \text{ifft}(e^{\zeta/2} h)$ is linear; its adjoint is $\gamma =
# \overline{e^{\zeta/2}}\, \text{fft}(\varrho^{-l} g) / L$, [CAUCHY-12]. Mind the $\varrho^{-l}$:
# the adjoint of a real factor is the same factor, not its inverse.


# %%
def transform_vjp(g, length):
    S, c = circle(length)
    return (S + c).conj() * np.fft.fft(g * DAMPING ** (-np.arange(length) / length)) / length


g, v = complex_normal(L), complex_normal(L)
left, right = np.vdot(g, transform(v, L)).real, np.vdot(transform_vjp(g, L), v).real
assert np.isclose(left, right, rtol=1e-12)

# %% [markdown]
# ### What goes wrong: undone instead of transposed
#
# Somebody goes back by undoing the forward pass and writes $\varrho^{+l}$. For a Fourier transform
# alone, inverse and adjoint differ by the factor $L$ and by nothing else, which makes the error so
# natural:


# %%
def undone(g, length):
    S, c = circle(length)
    return (S + c).conj() * np.fft.fft(g * DAMPING ** (np.arange(length) / length)) / length


wrong = np.vdot(undone(g, L), v).real
print(f"<g, T v> = {left:.4f}, by the adjoint {right:.4f}, undone {wrong:.4f}")
assert abs(wrong / left - 1) > 0.1

# %% [markdown]
# ### Woodbury
#
# $h = \kappa_{00} - \kappa_{01}\, c\, \kappa_{10} / (1 + c \kappa_{11})$. With $\eta =
# \kappa_{01}\, c / (1 + c \kappa_{11})$ and $\xi = \kappa_{10}\, c / (1 + c\kappa_{11})$ the
# quotient rule reads
#
# $$
# \begin{gathered}
# dh = d\kappa_{00} - \xi\, d\kappa_{01} - \eta\, d\kappa_{10} + \eta \xi\, d\kappa_{11}
# = \sum_{ab} \hat\ell_a\, \hat\rho_b\, d\kappa_{ab}, \\
# \hat\ell = (1, -\eta), \; \hat\rho = (1, -\xi) .
# \end{gathered}
# \qquad\text{[CAUCHY-13, 14]}
# $$
#
# The cotangents of the four sums are an *outer product*. First check the differential.

# %%
k, dk, cq = complex_normal(4), complex_normal(4), complex_normal()


def woodbury(k):
    return k[0] - k[1] * cq * k[2] / (1 + cq * k[3])


step = 1e-6
numeric = (woodbury(k + step * dk) - woodbury(k - step * dk)) / (2 * step)
eta, xi = k[1] * cq / (1 + cq * k[3]), k[2] * cq / (1 + cq * k[3])
by_hand = np.outer([1, -eta], [1, -xi]).ravel() @ dk
print(f"differential by finite differences and by hand: {abs(numeric / by_hand - 1):.0e}")
assert np.isclose(numeric, by_hand, rtol=1e-8)

# %% [markdown]
# ### The sums
#
# $\kappa = W R$ with weights $W_{ab,n} = \ell_{a,n} \rho_{b,n}$ and resolvents $R = 1/(S -
# c\lambda)$. A product has two adjoints, both products: $\operatorname{grad}_W = G R^*$,
# $\operatorname{grad}_R = W^* G$, [CAUCHY-15, 16]. And $dR = R^2 c\, d\lambda$. That is all; the
# resolvents are formed anew.


# %%
def spectrum_vjp(residuals, gamma):
    lam, left, right, eta, xi = residuals
    S, c = circle(len(gamma))
    resolvents = 1 / (S - c * lam[:, None])  # cheaper to form than to keep
    weights = (left[:, None] * right[None]).reshape(4, -1)
    ones = np.ones_like(eta)
    outer = np.stack([ones, -eta])[:, None] * np.stack([ones, -xi])[None]
    G = outer.conj().reshape(4, -1) * gamma  # [CAUCHY-14]
    to_weights = (G @ resolvents.conj().T).reshape(2, 2, -1)  # [CAUCHY-15]
    to_resolvents = weights.conj().T @ G
    to_lam = np.sum((c * resolvents**2).conj() * to_resolvents, axis=1)  # [CAUCHY-16]
    to_left = np.sum(to_weights * right.conj()[None], axis=1)
    to_right = np.sum(to_weights * left.conj()[:, None], axis=0)
    return to_lam, to_right[1], to_left[1].conj(), to_right[0], to_left[0]


report = check_vjp(
    spectrum_fwd, spectrum_vjp, (dt / 2 * Lambda, dt / 2 * P, Q, dt / 2 * B, C_hat), length=L
)
print(report)
assert report

# %% [markdown]
# There is a second way to see it. The outer product turns the two sides of the sum into vectors, $x
# = (S - c a)^{-1} b$ and $y = \widehat C (S - c a)^{-1}$, and the gradients at a node are
# $\operatorname{grad}_b = \bar y \gamma$, $\operatorname{grad}_\lambda = \overline{c\, y x}\,
# \gamma$. Two dense solutions confirm that.

# %%
gamma = np.zeros(L, complex)
gamma[23] = 1.3 - 0.4j
matrix = S[23] * np.eye(N) - c[23] * a
x, y = np.linalg.solve(matrix, dt / 2 * B), np.linalg.solve(matrix.T, C_hat)
to_lam, _, _, to_b, _ = spectrum_vjp(kept, gamma)
assert distance(to_b, y.conj() * gamma[23]) < 1e-11
assert distance(to_lam, (c[23] * y * x).conj() * gamma[23]) < 1e-11

# %% [markdown]
# ### The truncation
#
# $\widehat C = C(I - \frac12 \bar A^L)$ holds $\Lambda$, $P$, $Q$ too. Published models avoid this:
# they train $\widehat C$. Then the kernel of one length is not the beginning of that of another. We
# keep $C$.
#
# The power goes by squaring, $\bar A^{2k} = \bar A^k \bar A^k$, and backwards
# $\operatorname{grad}_{\bar A^k} = (\bar A^k)^* \operatorname{grad} + \operatorname{grad}\, (\bar
# A^k)^*$: the gradient does not commute with the power, both terms are needed. We work with $F_k =
# \bar A^k - I$, for which $F_{2k} = 2 F_k + F_k^2$, [CAUCHY-6, 19]. Why, one sees when the system
# is slow:

# %%
for tiny in (1e-3, 1e-6, 1e-9, 1e-12):
    one = np.array([-0.5 + 1j])
    exact = -np.expm1(1024 * 2 * np.arctanh(tiny / 2 * one))  # 1 - A_bar^1024
    rounded = 1 - ((1 + tiny / 2 * one) / (1 - tiny / 2 * one)) ** 1024
    none = np.zeros((1, 1))
    ours = ops.truncate.truncate(one, none, none, [1.0], tiny, 1024, real=False)
    off, off_by_F = distance(rounded, exact), distance(ours, exact)
    print(f"dt {tiny:.0e}: 1 - A_bar^L is off by {off:.0e}, by powers of F {off_by_F:.0e}")
    assert distance(ours, exact) < 1e-14

# %% [markdown]
# In twenty lines, for $L$ a power of two. The step $F_1 = 2a(I-a)^{-1}$ is left dense here; the
# package uses its low rank, [CAUCHY-17, 20].


# %%
def truncate_fwd(lam, p, Q, C, *, length):
    """C - C A_bar^L / 2."""
    a = np.diag(lam) - np.outer(p, Q.conj())
    inverse = np.linalg.inv(np.eye(len(a)) - a)
    powers = [2 * a @ inverse]
    for _ in range(length.bit_length() - 1):
        powers.append(2 * powers[-1] + powers[-1] @ powers[-1])  # [CAUCHY-6]
    return C - (C + C @ powers[-1]) / 2, (p, Q, C, inverse, powers)


def truncate_vjp(residuals, g):
    p, Q, C, inverse, powers = residuals
    to_C = g / 2 - g @ powers[-1].conj().T / 2
    to_F = -np.outer(C.conj(), g) / 2
    for F in powers[-2::-1]:  # [CAUCHY-19]
        to_F = 2 * to_F + F.conj().T @ to_F + to_F @ F.conj().T
    # F_1 = 2 (I - a)^-1 - 2 I, and the inverse changes by inverse da inverse.
    to_a = 2 * inverse.conj().T @ to_F @ inverse.conj().T
    return np.diag(to_a), -to_a @ Q, -to_a.conj().T @ p, to_C


report = check_vjp(truncate_fwd, truncate_vjp, (dt / 2 * Lambda, dt / 2 * P, Q, C), length=128)
print(report)
assert report

# %% [markdown]
# ### Seconds, for nothing
#
# $\lambda$, $p$ and $b$ are $\frac{dt}{2}$ times $\Lambda$, $P$ and $B$. So scaling $dt$ is scaling
# those three, and Euler's rule for homogeneous functions gives the last gradient without a
# derivation:
#
# $$
# dt \cdot \operatorname{grad}_{dt} = \langle \Lambda, \operatorname{grad}_\Lambda \rangle
# + \langle P, \operatorname{grad}_P \rangle + \langle B, \operatorname{grad}_B \rangle .
# \qquad\text{[CAUCHY-21]}
# $$
#
# ### All of it
#
# The whole kernel with the whole gradient, by putting the pieces together.


# %%
def s4_fwd(Lambda, P, Q, B, C, dt, *, length):
    lam, p, b = dt / 2 * Lambda, dt / 2 * P, dt / 2 * B
    C_hat, truncated = truncate_fwd(lam, p, Q, C, length=length)
    h, kept = spectrum_fwd(lam, p, Q, b, C_hat, length=length)
    return transform(h, length), (truncated, kept, (Lambda, P, B, dt))


def s4_vjp(residuals, g):
    truncated, kept, (Lambda, P, B, dt) = residuals
    to_lam, to_p, to_Q, to_b, to_C_hat = spectrum_vjp(kept, transform_vjp(g, len(g)))
    more = truncate_vjp(truncated, to_C_hat)
    to_Lambda, to_P, to_B = dt / 2 * (to_lam + more[0]), dt / 2 * (to_p + more[1]), dt / 2 * to_b
    pairs = (Lambda, to_Lambda), (P, to_P), (B, to_B)
    to_dt = np.asarray(sum(np.vdot(z, grad).real for z, grad in pairs) / dt)
    return to_Lambda, to_P, to_Q + more[2], to_B, more[3], to_dt


report = check_vjp(s4_fwd, s4_vjp, parameters, length=128)
print(report)
assert report

# %% [markdown]
# The check wants no more, but we have an independent witness, too: back-propagation through the
# dense recurrence, sample by sample.

# %%
K, residuals = s4_fwd(*parameters, length=128)
g = complex_normal(128)
by_cauchy = s4_vjp(residuals, g)
P2, Q2 = P[None], Q[None]
by_recurrence = reference.cauchy.cauchy_vjp(Lambda, P2, Q2, B, C, dt, 128, g, real=False)
for name, ours, theirs in zip(["Lambda", "P", "Q", "B", "C", "dt"], by_cauchy, by_recurrence):
    theirs = theirs.reshape(ours.shape)
    print(f"{name:6s} {distance(ours, theirs):.1e}")
    assert distance(ours, theirs) < 1e-11

# %% [markdown]
# ## What to save
#
# For a channel of $N$ modes and $L$ samples: the resolvents are $N L$ complex numbers, 16 times the
# kernel for $N = 16$ and 64 times for $N = 64$. They cost one reciprocal each. So they are formed
# again. $\eta$ and $\xi$ are two numbers a node; they spare the backward pass all four sums. They
# are kept. The squares $F_{2^k}$, $N^2$ numbers each, are formed again: twelve small products.
#
# ## Fast equals slow
#
# The package does three things more. A *pair* of conjugate modes shares one denominator and has
# real weights,
#
# $$
# \frac{v}{S - c\lambda} + \frac{\bar v}{S - c\bar\lambda}
# = \frac{2 S \operatorname{Re} v - 2 c \operatorname{Re} (v \bar\lambda)}
# {(S - c\lambda)(S - c\bar\lambda)}, \qquad\text{[CAUCHY-9]}
# $$
#
# so that all sums are *real* matrix products. A real kernel needs half of the nodes. And resolvents
# come in blocks of 256 nodes that never leave the cache.

# %%
v, pole = complex_normal(), -0.3 + 1.1j
S, c = circle(7)
two_poles = v / (S - c * pole) + v.conjugate() / (S - c * pole.conjugate())
real_weights = 2 * S * v.real - 2 * c * (v * pole.conjugate()).real
one_fraction = real_weights / ((S - c * pole) * (S - c * pole.conjugate()))
assert np.allclose(two_poles, one_fraction, rtol=1e-13)  # [CAUCHY-9]

lam, p, b, _ = hippo.dplr("legs", N)  # one of each pair
c_half = complex_normal(N // 2)
fast, fast_kept = ops.cauchy.cauchy_fwd(lam, p, p, b, c_half, dt, 128)
both = (np.concatenate([z, z.conj()]) for z in (lam, p[0], p[0], b, c_half))
slow_kernel, slow_kept = s4_fwd(*both, np.array(dt), length=128)
print(f"kernel: {distance(fast, slow_kernel.real):.1e}")
assert distance(fast, slow_kernel.real) < 1e-13
g = rng.standard_normal(128)
fast_grads, slow_grads = ops.cauchy.cauchy_vjp(fast_kept, g), s4_vjp(slow_kept, g + 0j)
M = N // 2
for ours, whole in zip(fast_grads, slow_grads):
    # A stored number is felt by its conjugate too.
    expected = whole if whole.ndim == 0 else (whole[:M] + whole[M:].conj()).reshape(ours.shape)
    assert distance(ours, expected) < 1e-11

# %% [markdown]
# ## Timing
#
# Four channels of 32 pairs, 2048 samples. The same formulas in NumPy, channel by channel,
# against the package.

# %%
H, M, length = 4, 32, 2048
lam, p, b, _ = hippo.dplr("legs", 2 * M)
weights = complex_normal(H, M)
steps = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), H))
g = rng.standard_normal((H, length))


def in_numpy():
    for h in range(H):
        both = (np.concatenate([z, z.conj()]) for z in (lam, p[0], p[0], b, weights[h]))
        _, kept = s4_fwd(*both, steps[h], length=length)
        s4_vjp(kept, g[h] + 0j)


def in_package():
    _, kept = ops.cauchy.cauchy_fwd(lam, p, p, b, weights, steps, length)
    ops.cauchy.cauchy_vjp(kept, g)


times = {}
for name, call in (("NumPy", in_numpy), ("package", in_package)):
    call()
    runs = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        runs.append(time.perf_counter() - start)
    times[name] = min(runs)
    print(f"{name:8s} {1e3 * times[name]:8.1f} ms")
print(f"{times['NumPy'] / times['package']:.0f} times")

# %% [markdown]
# `benchmarks/cauchy.py` measures a whole layer, 128 channels and up to 16384 samples.
#
# ## Exercise 1: the last node
#
# For even $L$ one node is $z = -\varrho$. On the unit circle it is $z = -1$, where $c = 0$. What is
# $\widehat K(-1)$ then, in terms of $\widehat C$ and $B$ alone? Where did $A$ go? `yours`
# at present returns zero.


# %%
def yours(C_hat, B, dt):
    """K_hat(-1) on the unit circle."""
    return 0.0


# %%
def check(program):
    """Whether the value at the last node is that of the kernel's polynomial."""
    C_hat = C @ (np.eye(N) - np.linalg.matrix_power(A_bar, L))
    exact = np.sum(K_true * (-1.0) ** np.arange(L))
    found = program(C_hat, B, dt)
    if abs(found / exact - 1) < 1e-10:
        return "solved"
    return f"not yet: {found:.6f} is not {exact:.6f}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# $\zeta = i\pi$: $S = i$, $c = 0$, $e^{\zeta/2} = i$. Then $\widehat K = e^{\zeta/2}\, \widehat C b
# / S = \widehat C\, b$.
#
# ```python
# def yours(C_hat, B, dt):
#     return C_hat @ B * dt / 2
# ```
#
# At the highest frequency the bilinear map looks at the continuous system at infinite frequency,
# where only $C B$ is left; $A$ is in $\widehat C$.
#
# </details>

# %% [markdown]
# ## Exercise 2: a planted bug
#
# Somebody finds that powers of one matrix commute, and saves a product in the backward pass of the
# squarings. With our $P$ and $Q$ the gradient check sees it. For which would it not? Think of what
# has to commute with what, and let `yours` return them.


# %%
def commuting_vjp(residuals, g):
    p, Q, C, inverse, powers = residuals
    to_C = g / 2 - g @ powers[-1].conj().T / 2
    to_F = -np.outer(C.conj(), g) / 2
    for F in powers[-2::-1]:
        to_F = 2 * to_F + 2 * F.conj().T @ to_F
    to_a = 2 * inverse.conj().T @ to_F @ inverse.conj().T
    return np.diag(to_a), -to_a @ Q, -to_a.conj().T @ p, to_C


def yours(P, Q):
    """A low rank with which the check does not see the bug."""
    return P, Q


# %%
def check(program):
    """Whether the bug passes the gradient check with the low rank that is returned."""
    P_new, Q_new = program(P, Q)
    args = dt / 2 * Lambda, dt / 2 * P_new, Q_new, C
    assert check_vjp(truncate_fwd, truncate_vjp, args, length=8)  # the true gradient always passes
    report = check_vjp(truncate_fwd, commuting_vjp, args, length=8)
    return "solved: the bug passes" if report else f"not yet: it is seen, {report.headline}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# The powers commute with each other, but the gradient is an outer product to begin with, and
# commutes with nothing. Only for $P = Q = 0$ does the bug pass: the powers are diagonal, the
# diagonal of the gradient is all that counts, and on the diagonal $F^* G$ and $G F^*$ are equal. A
# check on a diagonal example would not have seen it.
#
# ```python
# def yours(P, Q):
#     return 0 * P, 0 * Q
# ```
#
# </details>

# %% [markdown]
# ## Next
#
# All $L$ samples of the kernel came at once here, and the convolution needs three Fourier
# transforms more. [Notebook 11](11_the_chunked_engine.ipynb) cuts time into chunks instead, and
# turns a state-space model into small matrix products.
