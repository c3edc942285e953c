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
# # 9. HiPPO and the diagonal initialisations
#
# A state of sixteen numbers cannot hold a thousand samples. It can hold the best description of
# them in sixteen numbers, and it can keep that description up to date without looking back. The
# matrices that do so are where S4 and its relatives begin training. We derive them, watch them
# remember, bring them to a diagonal, and see what happens where published programs have them
# slightly wrong.
#
# Needed from before: what a state-space model is and its kernel (notebook 1), and how `dt` takes
# $A$ and $B$ to a recurrence (notebook 5). There are no gradients here: all of this happens once,
# before training begins. Labels such as [HIPPO-3] are those of
# [HiPPO](../docs/derivations/hippo.md).

# %%
import itertools
import time

import matplotlib.pyplot as plt
import numpy as np
from numpy.polynomial import legendre
from scipy import linalg

from ssm_manual import hippo, ops, plots

plt.rcParams.update(plots.STYLE)
rng = np.random.default_rng(9)


def relative(a, b):
    """Largest difference over the largest value of b."""
    return np.max(np.abs(np.subtract(a, b))) / np.max(np.abs(b))


# %% [markdown]
# ## LegS: coefficients of all the past
#
# ### The equation
#
# *Age* is how long ago something was, as a fraction of what is remembered: 0 is now, 1 the
# beginning. In the orthonormal Legendre polynomials of age, $p_n(a) = \sqrt{2n+1}\, P_n(1 - 2a)$
# [HIPPO-1], the past has the coefficients
#
# $$c_n(t) = \int_0^1 u(t - a\,t)\; p_n(a)\, da . \qquad\text{[HIPPO-2]}$$
#
# ### The reference
#
# The definition, integrated numerically from the whole past, again for every $t$.


# %%
def signal(t):
    """Something smooth; t in seconds."""
    return np.sin(3 * t) + 0.5 * np.cos(7 * t + 1)


nodes, weights = legendre.leggauss(60)
age, weight = (nodes + 1) / 2, weights / 2


def slow_coefficients(t, N):
    """c(t) by quadrature [HIPPO-2]."""
    return hippo.basis("legs", N, age) @ (weight * signal(t - age * t))


gram = hippo.basis("legs", 8, age) * weight @ hippo.basis("legs", 8, age).T
assert np.allclose(gram, np.eye(8), atol=1e-13)  # [HIPPO-1]
print(slow_coefficients(2.0, 4))

# %% [markdown]
# ### The derivation
#
# Substitute $s = t x$, differentiate, integrate by parts: the boundary term brings in $u(t)$, and
# $(z+1) P_n' = n P_n + \sum_{k<n} (2k+1) P_k$ expresses what is left by the coefficients
# themselves:
#
# $$\dot c = \frac1t\,(A c + B u), \qquad B_n = \sqrt{2n+1}, \qquad
# A_{nk} = -\begin{cases}\sqrt{(2n+1)(2k+1)} & n > k\\ n+1 & n = k\\ 0 & n < k\end{cases}
# \qquad\text{[HIPPO-3]}$$
#
# First the identity, then the equation against a finite difference of the reference.

# %%
z = np.linspace(-1, 1, 9)
for n in range(8):
    P_n = legendre.Legendre.basis(n)
    right = n * P_n(z) + sum((2 * k + 1) * legendre.Legendre.basis(k)(z) for k in range(n))
    assert np.allclose((z + 1) * P_n.deriv()(z), right)

N, t, h = 8, 1.7, 1e-4
A, B = hippo.legs(N)
numeric = (slow_coefficients(t + h, N) - slow_coefficients(t - h, N)) / (2 * h)
by_hand = (A @ slow_coefficients(t, N) + B * signal(t)) / t
print(f"derivative of c by finite differences and by [HIPPO-3]: {relative(numeric, by_hand):.1e}")
assert relative(numeric, by_hand) < 1e-7

# %% [markdown]
# No term was dropped. LegS is exact for every $N$: what it forgets, the basis cannot say.
#
# ### The recurrence
#
# The past is no longer needed. Two ways to step from sample to sample: the trapezium rule on
# [HIPPO-3], and exactly, for an input that stays constant during a sample, by re-expanding the
# history on a longer interval [HIPPO-4].


# %%
def trapezium(steps, N, begin=1.0, end=2.0):
    """c(end) from c(begin), second order in the step."""
    A, B = hippo.legs(N)
    c, t = slow_coefficients(begin, N), np.linspace(begin, end, steps + 1)
    h = (end - begin) / steps
    for now, after in itertools.pairwise(t):
        right = c + h / 2 * ((A @ c + B * signal(now)) / now + B * signal(after) / after)
        c = linalg.solve_triangular(np.eye(N) - h / 2 / after * A, right, lower=True)
    return c


for steps in (50, 100, 200, 400):
    error = relative(trapezium(steps, N), slow_coefficients(2.0, N))
    print(f"trapezium rule, {steps:4d} steps: error {error:.1e}")
assert error < 1e-4

held = rng.standard_normal(60)  # constant during each sample
edges = 2 * np.arange(61) / 60 - 1
integrals = [np.diff(legendre.legval(edges, legendre.legint(np.eye(N)[n]))) for n in range(N)]
exact = np.sqrt(2 * np.arange(N) + 1) / 2 * (np.array(integrals) @ held)
error = relative(hippo.project("legs", held, N)[-1], exact)
print(f"hippo.project, 60 samples of noise: error {error:.1e}")
assert error < 1e-12

# %% [markdown]
# ### It remembers
#
# 2000 samples go by. Then we read the past out of the last state, $\sum_n c_n p_n(a)$, and nothing
# else.

# %%
ticks = np.arange(2000) / 2000 * 6
u = signal(ticks) + 0.7 * np.sin(11 * ticks + 2)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
plots.hippo_memory(u, 16, ax=left)
plots.hippo_memory(u, 32, ax=right)
left.set_title("16 states", loc="left")
right.set_title("32 states", loc="left")
plt.show()

# %% [markdown]
# *The signal (grey) and its past as the last state has it. LegS has all of it; LegT and FouT, which
# come next, have the last half.*
#
# ## LegT: a window, and a delay
#
# ### The equation
#
# Keep the last $\theta$ seconds, all alike. The same steps now bring in what leaves the window,
# $u(t - \theta)$. It is not known any more, so the state's own account of it takes its place:
#
# $$A_{nk} = -\frac{\sqrt{(2n+1)(2k+1)}}{\theta}\begin{cases}1 & n \ge k\\ (-1)^{n-k} & n < k
# \end{cases}, \qquad B_n = \frac{\sqrt{2n+1}}{\theta} . \qquad\text{[HIPPO-5]}$$
#
# ### The check
#
# First that the library's matrix is the displayed one. Then what it is for: the state's account of
# the far end, $\sum_n c_n p_n(1)$, should be the input $\theta$ seconds ago.
# Its transfer function is the Padé approximant $[N-1/N]$ of $e^{-s\theta}$ [HIPPO-6]. For $N = 2$
# that is $(1 - z/3)/(1 + 2z/3 + z^2/6)$, $z = s\theta$:

# %%
n, k = np.ogrid[:9, :9]
A, B = hippo.legt(9, theta=0.7)
signs = np.where(n >= k, 1, (-1.0) ** (n - k))
assert relative(A, -np.sqrt((2 * n + 1) * (2 * k + 1)) / 0.7 * signs) < 1e-14  # [HIPPO-5]
assert relative(B, np.sqrt(2 * n[:, 0] + 1) / 0.7) < 1e-14

theta, s = 1.3, 0.4 + 2j
A, B = hippo.legt(2, theta=theta)
far = hippo.basis("legt", 2, 1.0)
found = far @ np.linalg.solve(s * np.eye(2) - A, B)
z = s * theta
assert abs(found - (1 - z / 3) / (1 + 2 * z / 3 + z**2 / 6)) < 1e-14
print(f"LegT with two states {found:.4f}, the delay itself {np.exp(-z):.4f}")

# %% [markdown]
# ### What goes wrong: a sign
#
# The same system is also written for $x_n = (-1)^n \sqrt{2n+1}\, c_n$, so that the delayed input is
# the plain sum of the states [HIPPO-7]. Then $B_n = (2n+1)(-1)^n/\theta$. A widely used library has
# the matrix of this form and a $B$ without the sign.


# %%
def run(A, B, u):
    """States of x' = A x + B u for an input constant during each sample (A, B per sample)."""
    N = B.size
    step = linalg.expm(np.block([[A, B[:, None]], [np.zeros((1, N + 1))]]))
    x, states = np.zeros(N), []
    for u_t in u:
        x = step[:N, :N] @ x + step[:N, N] * u_t
        states.append(x)
    return np.array(states)


window = 500
ticks = np.arange(4 * window) / window
u = np.sin(2 * np.pi * 0.7 * ticks) + 0.5 * np.cos(2 * np.pi * 1.9 * ticks + 1)
wanted = (u[window:-window] + u[window + 1 : 1 - window]) / 2  # at the end of a sample
A, B = hippo.legt(16, theta=window, scaling="legendre")
delayed = {"B as derived": run(A, B, u).sum(axis=1), "without the sign": None}
delayed["without the sign"] = run(A, np.abs(B), u).sum(axis=1)

figure, ax = plt.subplots(figsize=(9, 3))
ax.plot(ticks, u, color=plots.COLOURS["sky"], linewidth=4, alpha=0.5, label="u")
for (name, y), style in zip(delayed.items(), ("-", "--")):
    ax.plot(ticks, y, style, linewidth=1.2, label=name)
ax.plot(ticks[2 * window :], wanted, "k", linewidth=3, alpha=0.25, label="u, one window later")
ax.set(xlabel="time (windows)", ylabel="signal (no unit)", ylim=(-3, 3))
ax.legend(ncols=4, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
plt.show()
errors = {
    name: np.linalg.norm(y[2 * window :] - wanted) / np.linalg.norm(wanted)
    for name, y in delayed.items()
}
for name, error in errors.items():
    print(f"{name:18s} relative error of the delay {error:.5f}")
assert errors["B as derived"] < 1e-4
assert errors["without the sign"] > 0.7

# %% [markdown]
# *The delay read out of 16 states. Without the sign in $B$ the sum of the states is the input as it
# is now, and no delay at all.*
#
# A layer may train its way out of this, since $C$ is free, but the memory that the matrix was
# chosen for is not there.
#
# ## FouT: a window in cosines and sines
#
# $$\dot c = \tfrac2\theta\,(\pi k J - b\,b^T)\, c + \tfrac2\theta\, b\, u \qquad\text{[HIPPO-9]}$$
#
# Frequency by frequency a rotation $J$ of a cosine and a sine, all coupled by $b\,b^T$. The far end
# is read as $2\,b^T c - u$, which passes every frequency with magnitude exactly 1 [HIPPO-10]; only
# the delay is approximate. It is the less precise of the two windows, as a Fourier series jumps
# where the window's ends meet:

# %%
A, B = hippo.fout(16)  # theta = 2, so that b = B
turn = np.kron(np.diag(np.pi * np.arange(8)), [[0, -1], [1, 0]])  # pi k J
assert relative(A, turn - np.outer(B, B)) < 1e-14  # [HIPPO-9]
for omega in (0.3, 3.0, 300.0):
    passed = 2 * B @ np.linalg.solve(1j * omega * np.eye(16) - A, B) - 1
    assert abs(abs(passed) - 1) < 1e-12

sizes = [4, 8, 12, 16, 24, 32, 48, 64]
errors = {"LegT": [], "FouT": []}
for N in sizes:
    y = hippo.project("legt", u, N, window=window) @ hippo.basis("legt", N, 1.0)
    errors["LegT"].append(np.linalg.norm(y[2 * window :] - wanted) / np.linalg.norm(wanted))
    y = 2 * hippo.project("fout", u, N, window=window) @ hippo.basis("fout", N, 0.0) - u
    errors["FouT"].append(np.linalg.norm(y[2 * window :] - wanted) / np.linalg.norm(wanted))
figure, ax = plt.subplots(figsize=(6, 3.2))
for (name, values), marker in zip(errors.items(), "os"):
    ax.loglog(sizes, values, marker + "-", markersize=4, label=name)
ax.set(xlabel="states N", ylabel="relative error of the delay (no unit)")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend()
plt.show()
assert errors["LegT"][-1] < 1e-4 < errors["FouT"][-1] < 0.1

# %% [markdown]
# *Error of the delay. FouT's falls like $1/N$, LegT's at once as soon as the polynomials can follow
# the signal; its floor is that of the staircase input.*
#
# ## Normal plus low rank
#
# ### Why not diagonalise
#
# A diagonal recurrence costs $N$ products a sample, a full one $N^2$. LegS is triangular, so its
# eigenvalues are $-1, \dots, -N$, and nothing seems easier than to diagonalise it. But the
# eigenvectors are all but parallel:

# %%
for N in (4, 8, 12, 16, 20, 24):
    _, vectors = np.linalg.eig(hippo.legs(N)[0])
    print(f"N {N:3d}: condition number of the eigenvectors {np.linalg.cond(vectors):.0e}")

# %% [markdown]
# ### What does work
#
# The symmetric part has rank 1 but for a multiple of 1: $A + A^T = -B B^T - 1$. Hence with
# $P_n = \sqrt{n + \frac12}$
#
# $$A + P^T P = -\tfrac12 + S, \quad S \text{ skew}, \qquad\text{[HIPPO-11]} \qquad
# A = V\left(\Lambda - \widetilde P^T \overline{\widetilde P}\right) V^* .
# \qquad\text{[HIPPO-12]}$$
#
# $-iS$ is Hermitian, so a Hermitian solver gives orthonormal $V$ and real frequencies.
# $\operatorname{Re} \Lambda = -\frac12$ is written down, not computed. LegT and FouT have similar
# forms, of rank 2 and 1, with $\operatorname{Re} \Lambda = 0$.

# %%
A, B = hippo.legs(64)
assert relative(A + A.T, -np.outer(B, B) - np.eye(64)) < 1e-14
for measure in hippo.MEASURES:
    A, B, P = hippo.nplr(measure, 64)
    Lambda, P_eig, B_eig, V = hippo.dplr(measure, 64, full=True)
    rebuilt = V @ (np.diag(Lambda) - P_eig.T @ P_eig.conj()) @ V.conj().T
    skew = A + P.T @ P + (0.5 if measure == "legs" else 0.0) * np.eye(64)
    assert np.max(np.abs(skew + skew.T)) < 1e-13 * np.max(np.abs(A))  # [HIPPO-11]
    straight = np.max(np.abs(V.conj().T @ V - np.eye(64)))
    print(
        f"{measure}: rank {len(P)}, V* V - 1 {straight:.0e}, rebuilt {relative(rebuilt, A):.0e},"
        f" Re Lambda {Lambda.real.min():.1f} to {Lambda.real.max():.1f}"
    )
    assert max(straight, relative(rebuilt, A)) < 1e-13


# %% [markdown]
# ### What goes wrong: $n + \frac32$, and the general solver
#
# One library takes $P_n^2 = n + \frac32$. Then $A + P^T P$ is not normal. Its eigenvectors, taken
# for orthonormal, do not rebuild $A$, and some of its poles lie in the right half plane:


# %%
def rebuilt_from(A, P, adjoint=True):
    """V (Lambda - P P^*) V^* by the general solver, V^* taken for the inverse of V, or not."""
    Lambda, V = np.linalg.eig(A + np.outer(P, P))
    inverse = V.conj().T if adjoint else np.linalg.inv(V)
    return V @ np.diag(Lambda) @ inverse - np.outer(P, P), Lambda


sizes = [2, 4, 8, 16, 24, 32, 48, 64]
curves = {name: [] for name in ("A itself, general", "P² = n + 3/2", "P² = n + 1/2, Hermitian")}
for N in sizes:
    A, _, P = hippo.nplr("legs", N)
    naive, _ = rebuilt_from(A, np.zeros(N), adjoint=False)
    wrong, poles = rebuilt_from(A, np.sqrt(P[0] ** 2 + 1))
    Lambda, P_eig, _, V = hippo.dplr("legs", N, full=True)
    right = V @ (np.diag(Lambda) - P_eig.T @ P_eig.conj()) @ V.conj().T
    for name, again in zip(curves, (naive, wrong, right)):
        curves[name].append(np.linalg.norm(again - A) / np.linalg.norm(A))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
for (name, values), marker in zip(curves.items(), "s^o"):
    left.semilogy(sizes, np.maximum(values, 1e-17), marker + "-", markersize=4, label=name)
left.set(xlabel="states N", ylabel="error of A rebuilt (no unit)", ylim=(1e-17, 1e4))
left.legend(fontsize=8)
ours = hippo.dplr("legs", 64, full=True)[0]
right.plot(ours.real, ours.imag, "o", markersize=3, color=plots.CYCLE[2], label="P² = n + 1/2")
right.plot(poles.real, poles.imag, "^", markersize=3, color=plots.CYCLE[1], label="P² = n + 3/2")
right.axvline(0, color=plots.COLOURS["grey"], linewidth=0.7)
right.set(xlabel="Re Λ (1/s)", ylabel="Im Λ (1/s)")
right.legend(fontsize=8)
plt.show()
off = dict(zip(sizes, curves["P² = n + 3/2"]))
print(
    f"P² = n + 3/2: A rebuilt is off by {100 * off[8]:.0f} % at N 8, {100 * off[64]:.0f} % at N 64"
)
print(f"and Re Lambda reaches {poles.real.max():+.1f} per second at N 64")
assert 19 < poles.real.max() < 21
assert curves["P² = n + 1/2, Hermitian"][-1] < 1e-13

# %% [markdown]
# *Left: how far $V(\dots)V^*$ is from $A$; the general solver on $A$ leaves the frame. Right: the
# poles at N = 64. Those to the right of the line grow instead of fading.*
#
# ### What goes wrong: clipping in an arbitrary phase
#
# An eigenvector may be turned by any phase, and every linear-algebra library chooses its own. How
# much of $V^* B$ is real and how much imaginary is then arbitrary, and a reference implementation
# clips the imaginary part to $[-2, 2]$, whatever it came out as. With the phases of the library on
# this machine, and with three others:

# %%
_, _, B_eig, V = hippo.dplr("legs", 64)
A, B, P = hippo.nplr("legs", 64)
_, vectors = np.linalg.eigh(-1j * (A + P.T @ P + np.eye(64) / 2))
phases = {"this library's": vectors[:, 32:].conj().T @ B}
for trial in "abc":
    phases[f"random, {trial}"] = B_eig * np.exp(2j * np.pi * rng.random(B_eig.size))

figure, ax = plt.subplots(figsize=(7, 3.2))
ax.semilogy(np.abs(B_eig), "k", linewidth=1, label="|V* B|")
changes = []
for (name, turned), marker in zip(phases.items(), "ov^s"):
    assert relative(np.abs(turned), np.abs(B_eig)) < 1e-12
    clipped = turned.real + 1j * np.clip(turned.imag, -2, 2)
    ax.semilogy(np.abs(clipped), marker, markersize=3, label=f"clipped, phases {name}")
    assert np.abs(clipped.imag).max() == 2
    changes.append(np.linalg.norm(clipped - turned) / np.linalg.norm(turned))
    print(f"phases {name:14s}: clipping changes B by {100 * changes[-1]:.0f} %")
ax.set(xlabel="mode, by frequency", ylabel="|B| (no unit)")
ax.legend(fontsize=8)
plt.show()
assert max(changes) > 0.4

# %% [markdown]
# *$|V^* B|$ of LegS at N = 64, and what clipping leaves of it.* The large values belong to the
# fastest modes, and what becomes of them is a matter of the phase. We do not clip, and
# we choose the phase: each eigenvector is turned so that $B$ is real and positive [HIPPO-13].

# %%
assert np.all(B_eig.imag == 0)
assert np.all(B_eig.real > 0)
print("B of the four slowest modes:", B_eig[:4].real.round(4))

# %% [markdown]
# ## Diagonal starts
#
# S4D keeps $\Lambda$ and drops the low rank, or takes poles from a formula [HIPPO-14]:
#
# $$\Lambda_n = -\tfrac12 + i\,\omega_n\ \text{(LegS)}, \quad -\tfrac12 + i\,\pi n\ \text{(Lin)},
# \quad -\tfrac12 + \tfrac{iN}{\pi}\left(\tfrac{N}{2n+1} - 1\right)\ \text{(Inv)}, \quad
# -(n+1)\ \text{(Real)} .$$

# %%
n, N = np.arange(32), 64  # one pole of each pair is stored
A, _, P = hippo.nplr("legs", N)
formulas = {
    "legs": -0.5 + 1j * np.sort(np.linalg.eigvals(A + P.T @ P).imag)[N // 2 :],
    "lin": -0.5 + 1j * np.pi * n,
    "inv": -0.5 + 1j * N / np.pi * (N / (2 * n + 1) - 1),
    "real": -(n + 1.0),
}
for name, poles in formulas.items():  # [HIPPO-14]
    assert relative(np.sort_complex(hippo.diagonal(name, 32)[0]), np.sort_complex(poles)) < 1e-12

figure = plots.initialisations(32)
figure.dpi = 80
figure

# %% [markdown]
# *Above: kernels of the four slowest modes, in phase (full) and a quarter of a turn late (dashed).
# Below: what a random $C$ passes on average. Lin ends at $31\pi$; LegS and Inv reach beyond
# 1000, ever more sparsely.*
#
# ### What the dropped rank costs
#
# Driven by $B/2$, the diagonal part of LegS answers like LegS itself times $1/(1+q)$, with
# $|q| = \omega/\sqrt{\omega^2 + N^2}$ [HIPPO-15]. Little is lost at frequencies well below $N$.

# %%
figure, ax = plt.subplots(figsize=(7, 3.2))
omega = np.geomspace(0.05, 3000, 200)
for N in (16, 64, 256):
    A, B = hippo.legs(N)
    Lambda, _, B_eig, V = hippo.dplr("legs", N, full=True)
    distance = []
    for w in omega:
        exact = linalg.solve_triangular(1j * w * np.eye(N) - A, B, lower=True)
        diagonal = V @ (B_eig / 2 / (1j * w - Lambda))
        q = 1 - B @ exact
        assert abs(abs(q) - w / np.hypot(w, N)) < 1e-11
        assert relative(diagonal, exact / (1 + q)) < 1e-10
        distance.append(np.linalg.norm(diagonal - exact) / np.linalg.norm(exact))
    ax.loglog(omega, distance, label=f"N = {N}")
ax.set(xlabel="angular frequency (1/s)", ylabel="relative difference (no unit)")
ax.legend()
plt.show()

# %% [markdown]
# *Response of the diagonal part, driven by B/2, against that of LegS.*
#
# ### What goes wrong: the wrong poles under the right name
#
# Two libraries call $-1, \dots, -N$ LegS: the eigenvalues of the triangular matrix, without its
# eigenvectors. One calls $-\frac12 + i \pi n$ S4D-Inv. Neither is useless as a start; both are
# another one than the name says. What can a layer do with each? We ask for a delay of one second,
# a little blurred, and fit it with $C$ alone: least squares with a small penalty on $|C|^2$, since
# training will not find an enormous $C$ either.

# %%
step = 0.01
lags = step * np.arange(400)
target = np.exp(-0.5 * ((lags - 1) / 0.08) ** 2) / (0.08 * np.sqrt(2 * np.pi))
starts = {
    "LegS": hippo.diagonal("legs", 32),
    "Inv": hippo.diagonal("inv", 32),
    "Lin, named Inv elsewhere": hippo.diagonal("lin", 32),
    "-1 ... -32, named LegS": hippo.diagonal("real", 32),
}
figure, ax = plt.subplots(figsize=(9, 3.2))
ax.plot(lags, target, "k", linewidth=3, alpha=0.3, label="wanted")
misfit = {}
for (name, (poles, B)), style in zip(starts.items(), ("-", "-", "-", "--")):
    A_bar, B_bar = ops.discretize.zoh(poles, B, step)
    B_bar = B_bar / step  # a kernel per second
    modes = B_bar[:, None] * A_bar[:, None] ** np.arange(lags.size)
    columns = np.concatenate([modes.real, -modes.imag])  # 2 Re(C z) = (2 Re C) Re z - ...
    normal = step * columns @ columns.T + 0.01 * np.eye(64)
    found = np.linalg.solve(normal, step * columns @ target)
    C = (found[:32] + 1j * found[32:]) / 2
    K = ops.vandermonde.kernel(A_bar, B_bar, C, lags.size)
    misfit[name] = np.linalg.norm(K - target) / np.linalg.norm(target)
    ax.plot(lags, K, style, linewidth=1.2, label=name)
    print(f"{name:24s} misfit {misfit[name]:.3f}, largest |C| {np.abs(C).max():.1f}")
ax.set(xlabel="lag (s)", ylabel="kernel (1/s)")
ax.legend(fontsize=8)
plt.show()
assert misfit["Inv"] < misfit["LegS"] < 0.1 < misfit["Lin, named Inv elsewhere"]
assert misfit["-1 ... -32, named LegS"] > 0.8

# %% [markdown]
# *The best kernels with a small C. Lin has a period of two seconds: whatever it does at lag 1 comes
# again at lag 3. Decays without oscillation cannot make a peak at all.*
#
# ## What to save
#
# All of this is made once, before training. From then on $\Lambda$, $B$ and $C$ are parameters, and
# a layer needs neither $A$ nor $V$. What remains of HiPPO in a diagonal layer is its start, and the
# range of `dt`, which sets how long a second is:

# %%
log_dt = hippo.log_dt(5, rng=rng)
Lambda, B = hippo.diagonal("legs", 32, channels=5, dtype="float32")
print("dt", np.exp(log_dt).round(4), "s per sample")
print("memory", np.round(2 / np.exp(log_dt)), "samples; poles", Lambda.shape, Lambda.dtype)
assert np.all((log_dt >= np.log(1e-3)) & (log_dt <= np.log(1e-1)))

# %% [markdown]
# ## Fast equals slow, and the timing
#
# The normal part as a full matrix, one product with $N^2$ numbers a sample, against the kernel of
# its diagonal form.

# %%
N, L, dt = 64, 2000, 0.005
A, B, P = hippo.nplr("legs", N)
C = rng.standard_normal(N)
border = np.block([[A + P.T @ P, B[:, None]], [np.zeros((1, N + 1))]])
dense = linalg.expm(dt * border)
Lambda, _, B_eig, V = hippo.dplr("legs", N)
A_bar, B_bar = ops.discretize.zoh(Lambda, B_eig, dt)


def slow_kernel():
    """C A_bar^t B_bar by the full matrix."""
    x, K = dense[:N, N], np.empty(L)
    for t in range(L):
        K[t] = C @ x
        x = dense[:N, :N] @ x
    return K


def fast_kernel():
    """2 Re of the stored half."""
    return ops.vandermonde.kernel(A_bar, B_bar, C @ V, L)


def best_of(function, repeats=5):
    """Shortest time in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


assert relative(fast_kernel(), slow_kernel()) < 1e-11
slow_time, fast_time = best_of(slow_kernel), best_of(fast_kernel)
print(f"largest relative difference {relative(fast_kernel(), slow_kernel()):.0e}")
print(f"full matrix {1e3 * slow_time:6.2f} ms, diagonal {1e3 * fast_time:6.2f} ms")
made_once = best_of(lambda: hippo.dplr("legs", 256), 3)
print(f"diagonalising N = 256, once and for all: {1e3 * made_once:.0f} ms")

# %% [markdown]
# ## Exercise: the low rank of LegT
#
# Find $P$ for which $A + P^T P$ is skew. Below, `yours` returns one row,
# $P_n = \sqrt{(2n+1)/\theta}$, as if LegT were like LegS. Write down $A + A^T$ from [HIPPO-5], see
# what it is where $n - k$ is odd, and mend `yours` until the cell after it says *solved*.


# %%
def yours(N, theta):
    """P, (rank, N), such that A + P^T P is skew."""
    return np.sqrt((2 * np.arange(N) + 1) / theta)[None]


# %%
def check(program):
    """Whether A + P^T P is skew for LegT, and P no larger than it must be."""
    for N, theta in ((9, 0.7), (16, 2.0), (1, 1.0)):
        A, _ = hippo.legt(N, theta=theta)
        P = np.asarray(program(N, theta))
        M = A + P.T @ P
        rest = np.abs(M + M.T).max() / np.abs(A).max()
        if rest > 1e-12:
            return f"not yet: the symmetric part is {rest:.2f} of the largest entry of A, N = {N}"
        if len(P) > 2:
            return f"not yet: {len(P)} rows, and two suffice"
    return "solved"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# For $n > k$, $A_{nk} + A_{kn} = -\frac{R_n R_k}{\theta}\,(1 + (-1)^{n-k})$: twice the entry where
# $n - k$ is even, and zero where it is odd. So odd states are coupled to odd ones and even ones to
# even ones, each by a matrix of rank 1: two rows, with the other parity's entries zero.
#
# ```python
# def yours(N, theta):
#     n = np.arange(N)
#     root = np.sqrt((2 * n + 1) / theta)
#     return np.stack([root * (n % 2 == 1), root * (n % 2 == 0)])
# ```
#
# </details>

# %% [markdown]
# ## Next
#
# [Notebook 10](10_full_s4.ipynb) keeps the low rank that was dropped here: the full S4 kernel, and
# the gradient of everything in it.
