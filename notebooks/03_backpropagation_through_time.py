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
# # 3. Back-propagation through time, by hand
#
# A recurrence runs forwards: every state is made from the one before. Its gradient is a recurrence
# too, and runs backwards: every *adjoint* state is made from the one after. In this notebook we
# derive it, prove every gradient by finite differences, decide what to keep in memory, and then
# look closely at what happens when the backward pass is cut short.
#
# We need the recurrence of notebook 1, and three things of notebook 2: the inner product
# $\langle a, b \rangle = \operatorname{Re} \sum \overline a\, b$ with
# $dL = \langle \operatorname{grad}_z, dz \rangle$ [COMPLEX-2], the conjugate of a factor that
# changes sides, and the contract of a forward function and its vjp. Labels such as [SCAN-4] are
# those of [The scan](../docs/derivations/scan.md) and
# [Truncated directions](../docs/derivations/truncation.md), where each step is written out.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_adjoint, check_vjp, numeric_gradient
from ssm_manual.tasks import published

plt.rcParams.update(plots.STYLE)
rng = np.random.default_rng(3)


def complex_normal(*shape):
    """Complex numbers with independent normal parts."""
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


# %% [markdown]
# ## The equation
#
# One channel, $N$ poles, $L$ samples; products of vectors are elementwise. We take the complex
# output here, which is the plain case (`real=False`).
#
# $$x_t = \bar A\, x_{t-1} + \bar B\, u_t, \qquad t = 0, \dots, L - 1 \qquad\text{[SCAN-1]}$$
#
# $$y_t = \sum_n C_n x_{t,n} + D\, u_t \qquad\text{[SCAN-2]}$$
#
# The state before the first sample is the argument `x0`; on paper we call it $x_{-1}$, so that
# $x_t$ is always the state *after* sample $t$. What comes out is $y$ and the last state.
#
# ## The reference
#
# A loop. It keeps all states, in an array that begins with $x_{-1}$.


# %%
def slow_fwd(A_bar, B_bar, C, D, u, x0):
    """[SCAN-1] and [SCAN-2]; returns (y, x_last) and what the backward pass needs."""
    L, N = u.size, A_bar.size
    x = np.empty((L + 1, N), complex)  # x[t + 1] is x_t
    x[0] = x0
    y = np.empty(L, complex)
    for t in range(L):
        x[t + 1] = A_bar * x[t] + B_bar * u[t]
        y[t] = np.sum(C * x[t + 1]) + D * u[t]
    return (y, x[L].copy()), (A_bar, B_bar, C, D, u, x)


N, L = 3, 12
A_bar = np.array([0.9, 0.7, 0.99]) * np.exp(1j * np.array([0.3, -1.2, 2.0]))
B_bar, C, x0 = complex_normal(N), complex_normal(N), complex_normal(N)
D, u = complex_normal(), complex_normal(L)
args = (A_bar, B_bar, C, D, u, x0)
NAMES = ("A_bar", "B_bar", "C", "D", "u", "x0")

(y, x_last), saved = slow_fwd(*args)
rows = A_bar[None], B_bar[None], C[None], D, u[None, None], x0[None, None]  # (H, N), (batch, H, L)
y_package, x_package = reference.scan.scan(*rows, real=False)
assert np.allclose(y, y_package[0, 0], rtol=1e-14)
assert np.allclose(x_last, x_package[0, 0], rtol=1e-14)
print("our loop and ssm_manual.reference.scan agree")

# %% [markdown]
# ## Unrolling
#
# Insert the recurrence into itself. After $j$ steps, a state $x_t$ has become a part of $x_{t+j}$:
#
# $$x_{t+j} = \bar A^{\,j} x_t + \sum_{i=1}^{j} \bar A^{\,j-i}\, \bar B\, u_{t+i} .$$

# %%
t, j = 4, 6
x = saved[-1]
unrolled = A_bar**j * x[t + 1] + sum(A_bar ** (j - i) * B_bar * u[t + i] for i in range(1, j + 1))
print("largest difference:", np.abs(unrolled - x[t + j + 1]).max())
assert np.allclose(unrolled, x[t + j + 1], rtol=1e-13)

# %% [markdown]
# So an output $j$ steps later feels a push on $x_t$ through the factor $C \bar A^{\,j}$. To know
# what a state did to the loss we must ask all later outputs. There are $L(L+1)/2$ such pairs, and a
# backward recurrence will ask them all in $L$ steps.
#
# ## The adjoint state
#
# Let $e_t$ be the cotangent of $y_t$ (for `half_mse` it is the error over $n$), and $g$ the
# cotangent of the last state. Then
# $dL = \sum_t \langle e_t, dy_t \rangle + \langle g, dx_{L-1} \rangle$. Collect everything that
# meets $dx_t$ *directly*:
#
# $$s_t = \overline C\, e_t + \begin{cases} g & t = L - 1 \\ 0 & \text{otherwise}\end{cases}
# \qquad\text{[SCAN-3]}$$
#
# The states are not free, though: $dx_t$ contains $\bar A\, dx_{t-1}$. Call $\lambda_t$ the
# gradient of the loss to $x_t$ *with all later consequences*. Those are the direct one, $s_t$, and
# the one through $x_{t+1}$, which is $\lambda_{t+1}$ pulled back through the factor $\bar A$. A
# factor changes sides with a conjugate, so
#
# $$\lambda_t = s_t + \overline{\bar A}\; \lambda_{t+1}, \qquad t = L - 1, \dots, 0, \qquad
# \lambda_L = 0 . \qquad\text{[SCAN-4]}$$
#
# The boundary deserves a sentence. After the last step nothing depends on the state, hence
# $\lambda_L = 0$; a cotangent of the last state enters as part of $s_{L-1}$, not as $\lambda_L$
# (that would give it one factor $\overline{\bar A}$ too many).


# %%
def adjoint(A_bar, C, e, g):
    """lambda_t of [SCAN-4], shape (L, N)."""
    L = e.size
    lam = np.zeros((L + 1, A_bar.size), complex)  # lam[L] is the boundary
    for t in range(L - 1, -1, -1):
        s = np.conj(C) * e[t]  # [SCAN-3]
        if t == L - 1:
            s = s + g
        lam[t] = s + np.conj(A_bar) * lam[t + 1]  # [SCAN-4]
    return lam[:L]


e, g = complex_normal(L), complex_normal(N)  # any cotangents
lam = adjoint(A_bar, C, e, g)

# %% [markdown]
# We check the meaning of $\lambda_t$ with our hands: push $x_t$ by a small $\delta$, let the
# recurrence run on, and see by how much $L = \langle e, y \rangle + \langle g, x_{L-1} \rangle$
# changes. It must be $\langle \lambda_t, \delta \rangle$. As $L$ is linear in the push, there is no
# step size to choose.


# %%
def inner(a, b):
    """<a, b> = Re sum conj(a) b."""
    return float(np.vdot(a, b).real)


for t in (0, 5, L - 1):
    delta = complex_normal(N)
    pushed, moved = x[t + 1] + delta, 0.0
    for s in range(t, L):
        if s > t:
            pushed = A_bar * pushed + B_bar * u[s]
        moved += inner(e[s], np.sum(C * (pushed - x[s + 1])))
    moved += inner(g, pushed - x[L])
    print(f"t = {t:2d}: change of L {moved:+.12f}, <lambda_t, delta> {inner(lam[t], delta):+.12f}")
    assert np.isclose(moved, inner(lam[t], delta), rtol=1e-12)

# %% [markdown]
# ## Every gradient
#
# What is *new* at step $t$ is $q_t = x_{t-1}\, d\bar A + u_t\, d\bar B + \bar B\, du_t$, and its
# effect on the loss is $\langle \lambda_t, q_t \rangle$. Together with what enters $y_t$ directly,
#
# $$
# \begin{aligned}
# dL = {} & \sum_t \langle \lambda_t, x_{t-1}\, d\bar A + u_t\, d\bar B + \bar B\, du_t \rangle
# + \langle \overline{\bar A} \lambda_0, dx_{-1} \rangle \\
# & + \sum_t \Big\langle e_t, \sum_n x_{t,n}\, dC_n + u_t\, dD + D\, du_t \Big\rangle .
# \end{aligned}
# $$
#
# We read off one gradient after the other; each factor that changes sides takes a conjugate. Beside
# each we put `numeric_gradient`: five-point differences, real and imaginary part by turns.


# %%
def compare(name, ours):
    """Our formula beside the differences."""
    numeric = numeric_gradient(slow_fwd, args, NAMES.index(name), (e, g))
    error = np.linalg.norm(ours - numeric) / np.linalg.norm(numeric)
    print(f"grad_{name:6s} relative difference to finite differences {error:.1e}")
    assert error < 1e-8


# %% [markdown]
# $$\operatorname{grad}_{\bar A} = \sum_t \lambda_t\, \overline{x_{t-1}} \qquad\text{[SCAN-5]}$$

# %%
compare("A_bar", np.sum(lam * np.conj(x[:-1]), axis=0))  # x[:-1] begins with x_{-1}

# %% [markdown]
# $$\operatorname{grad}_{\bar B} = \sum_t \lambda_t\, \overline{u_t} \qquad\text{[SCAN-6]}$$

# %%
compare("B_bar", np.sum(lam * np.conj(u)[:, None], axis=0))

# %% [markdown]
# $$\operatorname{grad}_C = \sum_t e_t\, \overline{x_t} \qquad\text{[SCAN-7]}$$
#
# (In a real model a 2 appears here and in $s_t$, once each; it has a section of its own below.)

# %%
compare("C", np.sum(e[:, None] * np.conj(x[1:]), axis=0))

# %% [markdown]
# $$\operatorname{grad}_D = \sum_t e_t\, \overline{u_t} \qquad\text{[SCAN-8]}$$

# %%
compare("D", np.sum(e * np.conj(u)))

# %% [markdown]
# $$\operatorname{grad}_{u_t} = \sum_n \overline{\bar B_n}\, \lambda_{t,n} + \overline D\, e_t
# \qquad\text{[SCAN-9]}$$

# %%
compare("u", np.sum(np.conj(B_bar) * lam, axis=1) + np.conj(D) * e)

# %% [markdown]
# $$\operatorname{grad}_{x_0} = \overline{\bar A}\; \lambda_0 \qquad\text{[SCAN-10]}$$

# %%
compare("x0", np.conj(A_bar) * lam[0])

# %% [markdown]
# ## The check
#
# The six formulas make one vector-Jacobian product. `check_vjp` draws its own random directions and
# random cotangents; the second call has a cotangent on the last step alone, so that every gradient
# has to travel all the way. (It keeps the last index of the last axis of every output: of $y$ the
# last sample, of `x_last` the last pole.)


# %%
def slow_vjp(residuals, grad_out):
    """[SCAN-5] to [SCAN-10]."""
    A_bar, B_bar, C, D, u, x = residuals
    e, g = grad_out
    lam = adjoint(A_bar, C, e, g)
    return (
        np.sum(lam * np.conj(x[:-1]), axis=0),
        np.sum(lam * np.conj(u)[:, None], axis=0),
        np.sum(e[:, None] * np.conj(x[1:]), axis=0),
        np.sum(e * np.conj(u)),
        np.sum(np.conj(B_bar) * lam, axis=1) + np.conj(D) * e,
        np.conj(A_bar) * lam[0],
    )


report = check_vjp(slow_fwd, slow_vjp, args)
assert report
assert check_vjp(slow_fwd, slow_vjp, args, cotangent="last")
report

# %% [markdown]
# The operator is linear in $(u, x_{-1})$ together. For linear arguments there is a sharper test,
# $\langle g, J v \rangle = \langle J^\dagger g, v \rangle$, without any step at all:

# %%
check_adjoint(slow_fwd, slow_vjp, args, ("u", "x0"))

# %% [markdown]
# Does the check notice mistakes? Two favourites: the states paired off by one, and a conjugate left
# out in the recursion.


# %%
def off_by_one(residuals, grad_out):
    """grad_A_bar with the state after the step."""
    A_bar, _, C, _, _, x = residuals
    lam = adjoint(A_bar, C, *grad_out)
    return (np.sum(lam * np.conj(x[1:]), axis=0), *slow_vjp(residuals, grad_out)[1:])


def no_conjugate(residuals, grad_out):
    """The recursion with A_bar for conj(A_bar)."""
    A_bar, _, C, _, u, x = residuals
    lam = adjoint(np.conj(A_bar), C, *grad_out)
    right = slow_vjp(residuals, grad_out)
    return (
        np.sum(lam * np.conj(x[:-1]), axis=0),
        np.sum(lam * np.conj(u)[:, None], axis=0),
        *right[2:],
    )


for wrong in (off_by_one, no_conjugate):
    found = check_vjp(slow_fwd, wrong, args)
    assert not found
    print(f"{wrong.__doc__}\n    {found.headline}")

# %% [markdown]
# ## The real model, with channels and a batch
#
# Signals are mostly real. The real model keeps one pole of each conjugate pair and reads off
# $y_t = 2 \operatorname{Re} \sum_n C_n x_{t,n} + D u_t$; `u`, `D` and `y` are real, poles and
# states are complex. Three things change, and none of them needs a new derivation.
#
# **The 2.** The cotangent $e_t$ is real, and $w = 2 \operatorname{Re} z$ hands on $2 e_t$
# [COMPLEX-7]. It does so wherever $C x_t$ is differentiated: once to $x_t$, once to $C$. These are
# [SCAN-3] and [SCAN-7]:
#
# $$
# s_t = 2\, \overline C\, e_t + \begin{cases} g & t = L - 1 \\ 0 & \text{otherwise,} \end{cases}
# \qquad \operatorname{grad}_C = 2 \sum_t e_t\, \overline{x_t} .
# $$
#
# **Real arguments** take the real part [COMPLEX-4]. Of [SCAN-9] and [SCAN-8] remain
#
# $$
# \operatorname{grad}_{u_t}
# = \operatorname{Re} \sum_n \overline{\bar B_n}\, \lambda_{t,n} + D\, e_t,
# \qquad \operatorname{grad}_D = \sum_t e_t\, u_t .
# $$
#
# **Shared arguments** collect from every place where they are used [COMPLEX-5]. A channel has its
# own parameters, all sequences of the batch share them: gradients of parameters are summed over the
# batch, those of `u` and `x0` are not.
#
# $$
# \operatorname{grad}_{\bar A_{h,n}}
# = \sum_{\text{batch}} \sum_t \lambda_{t,h,n}\, \overline{x_{t-1,h,n}} .
# $$


# %%
def real_fwd(A_bar, B_bar, C, D, u, x0):
    """u is (batch, H, L); A_bar, B_bar and C are (H, N); D is (H,); x0 is (batch, H, N)."""
    length = u.shape[-1]
    x = np.empty((length + 1, *x0.shape), complex)  # time first, x[t + 1] is x_t
    x[0] = x0
    y = np.empty(u.shape)
    for t in range(length):
        x[t + 1] = A_bar * x[t] + B_bar * u[:, :, t, None]
        y[:, :, t] = 2 * np.sum(C * x[t + 1], axis=-1).real + D * u[:, :, t]
    return (y, x[length].copy()), (A_bar, B_bar, C, D, u, x)


def real_vjp(residuals, grad_out):
    """[SCAN-3] to [SCAN-10] with the 2, the real parts and the sums."""
    A_bar, B_bar, C, D, u, x = residuals
    e, g = grad_out  # (batch, H, L), real, and (batch, H, N), complex
    length = u.shape[-1]
    grad_A_bar, grad_B_bar, grad_C = np.zeros((3, *C.shape), complex)
    grad_u = D[:, None] * e
    handed_back = g.copy()  # to x_t from what comes after sample t: at the end, from outside
    for t in range(length - 1, -1, -1):
        e_t, u_t = e[:, :, t, None], u[:, :, t, None]  # one more axis, for the poles
        lam = 2 * np.conj(C) * e_t + handed_back
        handed_back = np.conj(A_bar) * lam
        grad_A_bar += np.sum(lam * np.conj(x[t]), axis=0)  # axis 0 is the batch
        grad_B_bar += np.sum(lam * u_t, axis=0)
        grad_C += np.sum(2 * e_t * np.conj(x[t + 1]), axis=0)
        grad_u[:, :, t] += np.sum(np.conj(B_bar) * lam, axis=-1).real
    grad_D = np.sum(e * u, axis=(0, 2))
    return grad_A_bar, grad_B_bar, grad_C, grad_D, grad_u, handed_back


draw = np.random.default_rng(33)


def draw_complex(*shape):
    """Complex numbers with independent normal parts."""
    return draw.standard_normal(shape) + 1j * draw.standard_normal(shape)


batch, H, N_poles, length = 2, 3, 4, 10  # all different: a mistaken axis cannot fit by chance
real_args = (
    draw.uniform(0.7, 1, (H, N_poles)) * np.exp(1j * draw.uniform(-3, 3, (H, N_poles))),
    draw_complex(H, N_poles),
    draw_complex(H, N_poles),
    draw.standard_normal(H),
    draw.standard_normal((batch, H, length)),
    draw_complex(batch, H, N_poles),
)
assert check_vjp(real_fwd, real_vjp, real_args, cotangent="last")
report = check_vjp(real_fwd, real_vjp, real_args)
print(report)
assert report

(y, x_last), ours = real_fwd(*real_args)
(y_fast, x_fast), fast = ops.scan.scan_fwd(*real_args)
cotangents = draw.standard_normal(y.shape), draw_complex(*x_last.shape)
pairs = zip(
    (y, x_last, *real_vjp(ours, cotangents)),
    (y_fast, x_fast, *ops.scan.scan_vjp(fast, cotangents)),
)
worst = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)
print(f"largest relative difference to ops.scan: {worst:.1e}")
assert worst < 1e-13

# %% [markdown]
# Each of the three is easily forgotten, and each is found:


# %%
def forget(position, spoil):
    """real_vjp with one gradient spoilt."""

    def vjp(residuals, grad_out):
        grads = list(real_vjp(residuals, grad_out))
        grads[position] = spoil(grads[position], residuals, grad_out)
        return tuple(grads)

    return vjp


def complex_u(grad_u, residuals, grad_out):
    """The imaginary part is left in."""
    return grad_u + 0.1j


def unsummed_D(grad_D, residuals, grad_out):
    """Summed over time, not over the batch."""
    return np.sum(grad_out[0] * residuals[4], axis=-1)


def half_C(grad_C, residuals, grad_out):
    """The 2 is left out."""
    return grad_C / 2


for position, spoil in ((4, complex_u), (3, unsummed_D), (2, half_C)):
    found = check_vjp(real_fwd, forget(position, spoil), real_args)
    print(f"{spoil.__doc__}\n    {found.headline}")
    assert not found

# %% [markdown]
# ### Any other operator, in five steps
#
# What we did can be done with any operator:
#
# 1. **Forward**, as a loop. What goes on beyond the end (here the last state) is an output, and
#    what comes from before the beginning (`x0`) is an argument; then a sequence may be cut
#    anywhere. (What is fixed at zero instead is a constant and has no differential: the term of
#    the first index is left out, and a cut can be seen.)
# 2. **Differentiate** each line: everything on its right-hand side may change, one term for each.
#    In a product each factor changes in turn while the others stand still,
#    $d(r_t u_t) = u_t\, dr_t + r_t\, du_t$, so the way back needs the values of both. What occurs
#    in several lines collects from all of them.
# 3. **Insert** into $dL = \sum \langle \text{cotangent}, d\,\text{output} \rangle$, with one
#    cotangent for every output. Where a line feeds a later one, an adjoint such as $\lambda_t$
#    collects what comes back from there. The same holds within a step: give every quantity that is
#    formed on the way (a filtered input, a sum before it is multiplied) a name and a cotangent of
#    its own. For $y_t = r_t u_t$, all real, $r_t$ has $e_t u_t$, and this stands wherever $e_t$
#    stood before.
# 4. **Read off.** Move every factor to the other side, with its conjugate. Rename the index until
#    $du_t$, $dC$, ... stand alone: what an output reads at $t - 1$ hears its cotangent at $t + 1$.
#    Look at the first and the last index by themselves. Sum where a number is shared; take the real
#    part where it is real.
# 5. **Check**, with everything random, and complex where it may be, poles of modulus 0.7 to 1,
#    every axis of another size and longer than 1; then once more with `cotangent="last"`. Repeat
#    both with a single sample, where the first and the last index meet; but never with that alone,
#    for there nothing reads the sample before.
#
# The exercises of this notebook and the next ask for it.

# %% [markdown]
# ## What to save and what to recompute
#
# [SCAN-5] and [SCAN-7] need every state: $16 N L$ bytes a channel and sequence in double precision.
# With 64 poles and 16384 samples that is 16.8 MB, and a layer has many channels and sequences.
#
# It is tempting to run the recurrence backwards instead, $x_{t-1} = (x_t - \bar B u_t)/\bar A$, and
# to save nothing. On paper it is exact. In numbers each step divides the rounding error by
# $|\bar A| < 1$:

# %%
steps = 1000
figure, ax = plt.subplots(figsize=(6.8, 3.6))
drive = rng.standard_normal(steps)
for radius in (0.5, 0.9, 0.99):
    pole = radius * np.exp(0.7j)
    states = np.zeros(steps + 1, complex)
    for t in range(steps):
        states[t + 1] = pole * states[t] + drive[t]
    back, errors = states[-1], []
    for t in range(steps - 1, -1, -1):
        back = (back - drive[t]) / pole
        errors.append(abs(back - states[t]) / np.abs(states).max())
        if errors[-1] > 1e12:
            break
    ax.semilogy(np.arange(1, len(errors) + 1), errors, label=f"|A_bar| = {radius}")
    predicted = 2.0**-53 * radius ** -np.arange(1.0, len(errors) + 1)
    if radius < 0.99:  # where the prediction has risen far above the rounding of each step
        last = np.array(errors[-20:]) / predicted[-20:]
        assert np.all((last > 0.02) & (last < 50))
    label = "predicted" if radius == 0.99 else None
    ax.semilogy(np.arange(1, len(errors) + 1), predicted, "--", color="0.5", lw=0.9, label=label)
    print(f"|A_bar| = {radius}: the error reaches 1 after", end=" ")
    print(
        next((i + 1 for i, error in enumerate(errors) if error > 1), f"more than {steps}"), "steps"
    )
ax.axhline(1, color="0.8", linewidth=0.8)
ax.set(xlabel="steps back (samples)", ylabel="error / largest state (no unit)", ylim=(1e-17, 1e12))
ax.legend()
plt.show()

# %% [markdown]
# *Running the recurrence backwards. Error of the recovered state relative to the largest one, and
# (dashed) the prediction $2^{-53} |\bar A|^{-k}$. A pole at 0.9 has lost every digit within a few
# hundred steps.*
#
# So we keep one state in every $Q = 64$ and recompute the others *forwards*, which is stable and
# gives the same bits again:
#
# $$
# \begin{gathered}
# \text{save } x_{jQ-1}; \\
# \text{per block, last one first: recompute by [SCAN-1], then run [SCAN-4] over it.}
# \end{gathered}
# \qquad\text{[SCAN-12]}
# $$
#
# The price is one forward recurrence more, about a third of the backward pass; the memory is 1/64.


# %%
def checkpointed_vjp(residuals, grad_out, Q=64):
    """grad_A_bar, grad_B_bar and grad_C from one saved state in Q, for x0 = 0 and g = 0."""
    A_bar, B_bar, C, u, checkpoints = residuals
    e = grad_out
    lam = np.zeros(A_bar.size, complex)
    grads = np.zeros((3, A_bar.size), complex)
    for block in range(len(checkpoints) - 1, -1, -1):
        first, last = block * Q, min((block + 1) * Q, u.size)
        states = [checkpoints[block]]
        for t in range(first, last):
            states.append(A_bar * states[-1] + B_bar * u[t])
        for t in range(last - 1, first - 1, -1):
            lam = np.conj(C) * e[t] + np.conj(A_bar) * lam
            grads[0] += lam * np.conj(states[t - first])
            grads[1] += lam * np.conj(u[t])
            grads[2] += e[t] * np.conj(states[t - first + 1])
    return grads


L_long = 1047
u_long, e_long = complex_normal(L_long), complex_normal(L_long)
_, kept = slow_fwd(A_bar, B_bar, C, 0j, u_long, np.zeros(N))
all_states = kept[-1]
checkpoints = all_states[:-1:64].copy()  # the state before each block
ours = checkpointed_vjp((A_bar, B_bar, C, u_long, checkpoints), e_long)
whole = slow_vjp(kept, (e_long, np.zeros(N)))[:3]
for name, a, b in zip(NAMES, ours, whole):
    print(f"grad_{name:6s} relative difference {np.linalg.norm(a - b) / np.linalg.norm(b):.1e}")
    assert np.allclose(a, b, rtol=1e-12)
print(f"states kept: {checkpoints.nbytes} bytes instead of {all_states.nbytes}")

# %% [markdown]
# ## Fast equals slow
#
# `ssm_manual.ops.scan` is this, compiled, with axes for batch and channels. It must agree with our
# loops to rounding, at every length.


# %%
def on_package(A_bar, B_bar, C, D, u, x0, e, g, **options):
    """The package's outputs and gradients for one channel of one sequence."""
    rows = A_bar[None], B_bar[None], C[None], D, u[None, None], x0[None, None]
    (y, x), residuals = ops.scan.scan_fwd(*rows, real=False, **options)
    grads = ops.scan.scan_vjp(residuals, (e[None, None], g[None, None]))
    return y[0, 0], x[0, 0], [np.squeeze(grad) for grad in grads]


for length in (1, 2, 3, 17, 64, 65, 1047):
    v, cotangent = complex_normal(length), complex_normal(length)
    (y, x_last), kept = slow_fwd(A_bar, B_bar, C, D, v, x0)
    slow = (y, x_last, *slow_vjp(kept, (cotangent, g)))
    y, x_last, grads = on_package(A_bar, B_bar, C, D, v, x0, cotangent, g)
    worst = max(
        np.linalg.norm(a - np.squeeze(b)) / np.linalg.norm(b)
        for a, b in zip((y, x_last, *grads), slow)
    )
    print(f"L = {length:4d}: largest relative difference {worst:.1e}")
    assert worst < 1e-12

# %% [markdown]
# A sequence may be cut anywhere. Forwards, the state is handed on as the next piece's `x0`;
# backwards, $\operatorname{grad}_{x_0}$ is handed back as the cotangent of the piece before's last
# state. With both, the cut cannot be seen:


# %%
def in_pieces(A_bar, B_bar, C, D, u, x0, e, g, width, hand_back):
    """Parameter gradients over windows of `width` samples, with or without handing grad_x0 back."""
    pieces, state = [], x0
    for start in range(0, u.size, width):
        rows = A_bar[None], B_bar[None], C[None], D, u[None, None, start : start + width]
        (_, last), residuals = ops.scan.scan_fwd(*rows, state[None, None], real=False)
        state = last[0, 0]
        pieces.append((residuals, e[None, None, start : start + width]))
    total, grad_state = 0, g[None, None]
    for residuals, cotangent in reversed(pieces):
        *grads, grad_x0 = ops.scan.scan_vjp(residuals, (cotangent, grad_state))
        total = total + np.stack([grad[0] for grad in grads[:3]])
        grad_state = grad_x0 if hand_back else np.zeros_like(grad_x0)
    return total


exact = np.stack(on_package(A_bar, B_bar, C, D, u_long, x0, e_long, g)[2][:3])
joined = in_pieces(A_bar, B_bar, C, D, u_long, x0, e_long, g, 100, hand_back=True)
print("relative difference:", np.linalg.norm(joined - exact) / np.linalg.norm(exact))
assert np.allclose(joined, exact, rtol=1e-12)

# %% [markdown]
# ## Timing
#
# Forward and backward, eight poles, one sequence of 4096 samples.


# %%
def best_of(function, repeats):
    """Shortest time in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


many = 0.95 * np.exp(1j * np.linspace(0.1, 3, 8))
weights = many, complex_normal(8), complex_normal(8), D
v, cotangent, start, end = (
    complex_normal(4096),
    complex_normal(4096),
    complex_normal(8),
    complex_normal(8),
)


def slow_pass():
    """Our loops."""
    slow_vjp(slow_fwd(*weights, v, start)[1], (cotangent, end))


def fast_pass():
    """The package."""
    on_package(*weights, v, start, cotangent, end)


fast_pass()  # compiles, or loads what was compiled before
slow_time, fast_time = best_of(slow_pass, 3), best_of(fast_pass, 20)
print(f"NumPy loop {1e3 * slow_time:7.2f} ms")
print(f"package    {1e3 * fast_time:7.2f} ms, {slow_time / fast_time:.0f} times faster")

# %% [markdown]
# ## Cutting it short
#
# $\lambda_t = \sum_j \overline{\bar A}^{\,j} s_{t+j}$ listens to all later outputs. Two ways to
# listen to fewer:
#
# * a **horizon** $k$: the present output and the next $k - 1$,
#
# $$\lambda_t = \sum_{j=0}^{k-1} \overline{\bar A}^{\,j}\, s_{t+j} ; \qquad\text{[TRUNC-1]}$$
#
# * a **window** $w$: cut the sequence, hand the state on, but do not hand
#   $\operatorname{grad}_{x_0}$ back,
#
# $$\lambda_t = s_t + \overline{\bar A} \lambda_{t+1}, \quad \text{with } \lambda_{t+1} := 0
# \text{ where } (t + 1) \bmod w = 0 . \qquad\text{[TRUNC-3]}$$
#
# The second is what most texts mean by *truncated* back-propagation through time. With $k = 1$ or
# $w = 1$ both become $\lambda_t = s_t$, the one-step direction [TRUNC-4].

# %%
size, cut = 24, 6
now, later = np.meshgrid(np.arange(size), np.arange(size))
weight = np.where(later >= now, 0.93 ** np.abs(later - now), np.nan)
kept_pairs = {
    "full": weight,
    f"horizon {cut}": np.where(later - now < cut, weight, np.nan),
    f"window {cut}": np.where(later // cut == now // cut, weight, np.nan),
    "one step": np.where(later == now, weight, np.nan),
}
figure, axes = plt.subplots(1, 4, figsize=(10.5, 2.9), sharey=True)
for ax, (title, image) in zip(axes, kept_pairs.items()):
    shown = ax.imshow(image, vmin=0, vmax=1, cmap="cividis", origin="upper")
    ax.set(title=title, xlabel="state t (sample)")
axes[0].set_ylabel("output s (sample)")
figure.colorbar(shown, ax=axes, label="|A_bar|^(s - t) (no unit)", shrink=0.85)
plt.show()

# %% [markdown]
# *Who tells whom. Each coloured square is an output $s$ whose cotangent reaches the adjoint state
# $t$, with the weight $|\bar A|^{s-t}$ (here $|\bar A| = 0.93$). A horizon keeps a band; windows
# keep blocks, in which the last states hear one output alone.*
#
# Written as it stands, [TRUNC-1] costs $k$ products a step. Compare the sums of $\lambda_t$ and
# $\lambda_{t+1}$, and one product is enough, whatever $k$:
#
# $$\lambda_t = s_t + \overline{\bar A}\, \lambda_{t+1} - \overline{\bar A}^{\,k} s_{t+k}
# \qquad\text{[TRUNC-2]}$$


# %%
def with_horizon(A_bar, C, e, k):
    """[TRUNC-1] as it is written, for g = 0."""
    L = e.size
    source = np.conj(C) * e[:, None]
    return np.array(
        [sum(np.conj(A_bar) ** j * source[t + j] for j in range(min(k, L - t))) for t in range(L)]
    )


zero = np.zeros(N, complex)
for k in (1, 4, 11, 40, 200):
    v, cotangent = u_long[:100], e_long[:100]
    lam = with_horizon(A_bar, C, cotangent, k)
    sliding = np.zeros((101, N), complex)
    for t in range(99, -1, -1):
        sliding[t] = np.conj(C) * cotangent[t] + np.conj(A_bar) * sliding[t + 1]
        if t + k < 100:
            sliding[t] -= np.conj(A_bar) ** k * np.conj(C) * cotangent[t + k]  # [TRUNC-2]
    assert np.allclose(sliding[:100], lam, rtol=1e-10, atol=1e-12)
    grads = on_package(A_bar, B_bar, C, D, v, zero, cotangent, zero, horizon=k)[2]
    assert np.allclose(grads[1], np.sum(lam * np.conj(v)[:, None], axis=0), rtol=1e-10)
print("the sum, the sliding form and ops.scan(horizon=k) agree")

windowed = in_pieces(A_bar, B_bar, C, D, u_long, x0, e_long, g, 1, hand_back=False)
one_step = on_package(A_bar, B_bar, C, D, u_long, x0, e_long, g, horizon=1)[2][:3]
# a window drops grad_x0 at its edge, and so does a horizon of one step
assert np.allclose(windowed, np.stack(one_step), rtol=1e-11)
print("window 1 equals horizon 1 [TRUNC-4]")

# %% [markdown]
# ### A truncated direction is the gradient of nothing
#
# It is not the gradient of a *simpler* loss either. If a field of directions is the gradient of any
# function, its matrix of derivatives is symmetric (that matrix holds the function's second
# derivatives). We take the smallest case, two samples and real numbers, and differentiate the
# direction itself.


# %%
def direction(p, horizon):
    """The direction to (A_bar, B_bar, C) for half the sum of squared errors, two real samples."""
    v, goal = np.array([0.9, -0.4]), np.array([0.2, 0.1])
    A, B, W = (np.array([[value]]) for value in p)
    (out, _), residuals = ops.scan.scan_fwd(
        A, B, W, None, v[None, None], real=False, horizon=horizon
    )
    error = out.real - goal
    grads = ops.scan.scan_vjp(residuals, (error.astype(out.dtype), None))[:3]
    return np.array([grad.real.item() for grad in grads])


point, h = np.array([0.7, 0.5, 1.3]), 1e-4
for horizon, name in ((None, "full"), (1, "one step")):
    J = np.stack(
        [
            (direction(point + h * unit, horizon) - direction(point - h * unit, horizon)) / (2 * h)
            for unit in np.eye(3)
        ],
        axis=1,
    )
    print(f"{name}: derivatives of the direction\n{J.round(4)}")
    print(f"largest asymmetry {np.abs(J - J.T).max():.1e}\n")
    assert (np.abs(J - J.T).max() < 1e-7) == (name == "full")

# %% [markdown]
# The full gradient's matrix is symmetric; the one-step direction's is not. No function has it as
# its gradient, so no finite difference can check it, and no argument about descending a loss
# applies to it. We can only measure how far it points from the gradient.
#
# ### The angle
#
# One pole, complex white noise as input and as cotangent, 500 samples. We take the cosine between
# truncated direction and gradient, and its mean over 200 draws (put in as channels, so one call
# does them all).


# %%
def cosine(a, b):
    """Cosine of the angle in the plane: one number per row of single complex values."""
    return (np.conj(a) * b).real / (np.abs(a) * np.abs(b))


draws, length = 200, 500
radii = 1 - np.geomspace(0.5, 0.005, 13)
horizons = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
noise, errors = complex_normal(1, draws, length), complex_normal(1, draws, length)
turn = np.exp(0.5j)
means = np.empty((2, horizons.size, radii.size))
for column, radius in enumerate(radii):
    pole, one = np.full((draws, 1), radius * turn), np.ones((draws, 1), complex)
    _, residuals = ops.scan.scan_fwd(pole, one, one, None, noise, real=False)
    true = ops.scan.scan_vjp(residuals, (errors, None))[:2]
    for row, k in enumerate(horizons):
        cut_short = ops.scan.scan_vjp(residuals._replace(horizon=int(k)), (errors, None))[:2]
        means[:, row, column] = [cosine(a, b).mean() for a, b in zip(cut_short, true)]

memory = 1 / (1 - radii)
on_line = np.array(
    [[np.interp(m, horizons, column) for m, column in zip(memory, image.T)] for image in means]
)
assert np.all((on_line > 0.8) & (on_line < 0.97))  # along the dashed line
assert means[1, 0, -1] < 0.25  # one step, the slowest pole, B_bar
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for ax, image, name in zip(axes, means, ("A_bar", "B_bar")):
    shown = ax.pcolormesh(
        memory, horizons, image, vmin=0, vmax=1, cmap="cividis", shading="nearest"
    )
    styles = {"levels": [0.5, 0.9], "linestyles": [":", "-"], "colors": "black"}
    ax.contour(memory, horizons, image, linewidths=1.2, **styles)
    for style, level in ((":", 0.5), ("-", 0.9)):
        ax.plot([], [], style, color="black", linewidth=1.2, label=f"cosine {level}")
    ax.plot(memory, memory, "--", color=plots.COLOURS["vermilion"], label="horizon = memory")
    ax.set(xscale="log", yscale="log", title=f"direction to {name}", ylim=(0.75, 340))
    ax.set(xlabel="memory of the pole, 1 / (1 - |A_bar|) (samples)")
    ax.set_xticks([2, 5, 10, 20, 50, 100, 200], ["2", "5", "10", "20", "50", "100", "200"])
    ax.set_yticks(horizons, [str(k) for k in horizons])
    ax.minorticks_off()
axes[0].set_ylabel("horizon (samples)")
axes[0].legend(loc="upper left", facecolor="white", frameon=True, framealpha=0.9, fontsize=9)
figure.colorbar(shown, ax=axes, label="mean cosine with the gradient (no unit)")
plt.show()

# %%
for radius in (0.5, 0.9, 0.99):
    column = np.argmin(np.abs(radii - radius))
    print(f"|A_bar| = {radii[column]:.3f}, A_bar and B_bar:", end=" ")
    print(
        ", ".join(
            f"k {k}: {means[0, r, column]:.2f} {means[1, r, column]:.2f}"
            for r, k in enumerate(horizons)
            if k in (1, 4, 16, 64)
        )
    )
short = horizons[:, None] < memory / 3
long = horizons[:, None] > 3 * memory
print(
    f"horizon below a third of the memory: mean cosine {means[0][short].mean():.2f} (A_bar),",
    end=" ",
)
print(f"{means[1][short].mean():.2f} (B_bar)")
print(
    f"horizon above three times it:        mean cosine {means[0][long].mean():.2f} (A_bar),",
    end=" ",
)
print(f"{means[1][long].mean():.2f} (B_bar)")
assert means[:, long].min() > 0.98
assert means[:, short].mean() < 0.6

# %% [markdown]
# *Mean cosine between the truncated direction and the gradient, for white noise. Along the dashed
# line the horizon equals the pole's memory $1/(1 - |\bar A|)$; the cosine there is about 0.9.*
#
# The rule to take away: the horizon has to cover a few of the pole's own memory lengths. With white
# noise a one-step direction for a slow pole is nearly perpendicular to the gradient in $\bar B$.
#
# ### Along a published training run
#
# The published engine trains four poles on twenty samples with the one-step direction, and calls it
# truncated back-propagation through time (notebook 7 repeats the run). Here we go along that run
# and ask, every 1000 epochs, how the direction it took lay to the gradient at that place.

# %%
run = published.run_published()
v, goal = (a.astype(t) for a, t in zip(published.published_data(), (float, complex)))


def compare_at(params, horizon):
    """For each of A_bar, B_bar, C: cosine with the gradient, and rate <gradient, direction>."""
    weights = [params[name].astype(complex)[None] for name in "ABC"]
    (out, _), residuals = ops.scan.scan_fwd(*weights, None, v[None, None], real=False)
    error = (out - goal) / v.size
    true = ops.scan.scan_vjp(residuals, (error, None))[:3]
    cut = ops.scan.scan_vjp(residuals._replace(horizon=horizon), (error, None))[:3]
    cosines = [inner(a, b) / np.sqrt(inner(a, a) * inner(b, b)) for a, b in zip(cut, true)]
    rates = published.PUBLISHED_RATES.values()
    return cosines, [rate * inner(b, a) for rate, a, b in zip(rates, cut, true)]


epochs = np.array(list(run.params_log))
found = {k: np.array([compare_at(p, k) for p in run.params_log.values()]) for k in (1, 4)}
along = {k: values[:, 0] for k, values in found.items()}

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.3), sharey=True)
for ax, (k, values) in zip(axes, along.items()):
    for name, series, marker in zip(("A_bar", "B_bar", "C"), values.T, "os^"):
        ax.plot(epochs, series, marker=marker, markersize=4, label=name)
    ax.axhline(0, color="0.7", linewidth=0.8)
    ax.set(title=f"horizon {k} of {v.size}", xlabel="epoch", ylim=(-1.08, 1.08))
axes[0].set_ylabel("cosine with the gradient (no unit)")
axes[0].legend(loc="lower center", bbox_to_anchor=(0.55, 0.22))
plt.show()
for name, series in zip(("A_bar", "B_bar", "C"), along[1].T):
    print(f"{name:5s} cosine:   " + " ".join(f"{value:+.2f}" for value in series))
share = found[1][:, 1] / found[1][:, 1].sum(axis=1, keepdims=True)
for name, series in zip(("A_bar", "B_bar", "C"), share.T):
    print(f"{name:5s} share:    " + " ".join(f"{value:+.2f}" for value in series))
assert np.allclose(along[1][:, 2], 1)  # the direction to C is exact
assert np.all(along[1][1:, 1] < 0)  # that to B_bar points away
undone = -share[2, 1] / (share[2, 0] + share[2, 2])  # at epoch 2000
assert 0.85 < undone < 0.95
print("sum |e|^2:      " + " ".join(f"{loss:.3f}" for loss in run.losses[epochs]))

# %% [markdown]
# *Cosine with the gradient along the published run, left for its own one-step direction, right for
# a horizon of four samples at the same places. Four of twenty samples do not cure the direction to
# $\bar B$.*
#
# The direction to $C$ is exact: $\operatorname{grad}_C$ does not contain $\lambda$. The direction
# to $\bar B$ points *away* from the gradient at every epoch from 1000 on. The loss falls all the
# same. To first order an update lowers it by
# $\sum \text{rate} \cdot \langle \operatorname{grad}, \text{direction} \rangle$, and the lines
# called *share* say how much of that each parameter contributes: $C$, with a learning rate of 0.5
# beside 0.01 and 0.05, does most of the work, and the steps in $\bar B$ undo a large part of it,
# nine tenths at epoch 2000. A falling loss is no evidence for a gradient. We compare with the true
# one, from the same start with the same rates:

# %%
full = published.run_published(mode="bptt")
print(f"epoch 9000: one step {run.losses[9000]:.3f}, full BPTT {full.losses[9000]:.3f}")
assert full.losses[9000] < run.losses[9000]

# %% [markdown]
# ## Exercise: read before the input acts
#
# Some texts read the state *before* the input has acted: $y_t = C x_{t-1} + D u_t$, so that a model
# without $D$ is strictly causal. The forward pass below does that. Which of [SCAN-3], [SCAN-5],
# [SCAN-7] change, and what becomes of the boundary? Correct `yours`, which still has the rules from
# above, until the cell after it says *solved*.


# %%
def before_fwd(A_bar, B_bar, C, D, u, x0):
    """y_t = C x_{t-1} + D u_t."""
    (_, x_last), residuals = slow_fwd(A_bar, B_bar, C, D, u, x0)
    x = residuals[-1]
    return (x[:-1] @ C + D * u, x_last), residuals


def yours(residuals, grad_out):
    """Rules for y_t = C x_t + D u_t: wrong here. Mend them."""
    A_bar, B_bar, C, D, u, x = residuals
    e, g = grad_out
    lam = adjoint(A_bar, C, e, g)
    return (
        np.sum(lam * np.conj(x[:-1]), axis=0),
        np.sum(lam * np.conj(u)[:, None], axis=0),
        np.sum(e[:, None] * np.conj(x[1:]), axis=0),
        np.sum(e * np.conj(u)),
        np.sum(np.conj(B_bar) * lam, axis=1) + np.conj(D) * e,
        np.conj(A_bar) * lam[0],
    )


# %%
def check(vjp):
    """Whether the vjp of y_t = C x_{t-1} + D u_t stands up to finite differences."""
    for cotangent in ("random", "last"):
        report = check_vjp(before_fwd, vjp, args, cotangent=cotangent)
        if not report:
            return f"not yet: {report.headline}"
    return f"solved: {report.headline}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# The output $y_{t+1}$ now reads $x_t$, so the source is $s_t = \overline C\, e_{t+1}$ for
# $t < L - 1$, and $s_{L-1} = g$: no output reads the last state. The first output reads $x_{-1}$
# directly, so $\operatorname{grad}_{x_0}$ gains $\overline C e_0$. $\operatorname{grad}_C$ pairs
# $e_t$ with $x_{t-1}$. The recursion itself and the other gradients stay.
#
# ```python
# def yours(residuals, grad_out):
#     A_bar, B_bar, C, D, u, x = residuals
#     e, g = grad_out
#     later = np.append(e[1:], 0)
#     lam = adjoint(A_bar, C, later, g)
#     return (
#         np.sum(lam * np.conj(x[:-1]), axis=0),
#         np.sum(lam * np.conj(u)[:, None], axis=0),
#         np.sum(e[:, None] * np.conj(x[:-1]), axis=0),
#         np.sum(e * np.conj(u)),
#         np.sum(np.conj(B_bar) * lam, axis=1) + np.conj(D) * e,
#         np.conj(A_bar) * lam[0] + np.conj(C) * e[0],
#     )
# ```
#
# </details>
#
# Next: [notebook 4](04_convolution_and_its_gradient.ipynb) takes the same gradient on a path
# without states.
