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
# # 1. State-space models
#
# A state-space model keeps a few numbers in memory, the *state*, and lets every new sample of the
# input push them a little. Everything that the model knows of the past is in the state;
# everything that it says is read off from it.
#
# In this notebook we begin with a mass on a spring, arrive at one complex number that does the
# same work, and then apply it to signals in different *views*: as a **recurrence**, one sample
# after another; as a **convolution** with a kernel; and, between the two, in **pieces** with the
# state passed from each to the next. All of them are the same operator, and we check that to
# rounding.
#
# Needed: calculus, complex numbers and NumPy; nothing of state-space models. Labels such as
# [SCAN-1] name equations that are derived line by line in
# [the derivations](../docs/README.md#derivations). Each displayed formula is followed by a cell
# that checks it.

# %%
import time

import matplotlib.pyplot as plt
import mpmath
import numpy as np

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_vjp

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = plots.CYCLE
GREY = plots.COLOURS["grey"]
plt.rcParams.update(plots.STYLE)

# %% [markdown]
# ## The equation: a mass on a spring
#
# A mass $m$ hangs on a spring of stiffness $k$, with friction $c$, and a force $u(s)$ pushes it
# ($s$ is time in seconds). Newton's law for its position $q$ is
#
# $$
# m\, q'' = -k\, q - c\, q' + u .
# $$
#
# It is of second order. With the velocity $v = q'$ as a second unknown it becomes two equations
# of first order, and those we write with a matrix:
#
# $$
# \frac{d}{ds} \begin{pmatrix} q \\ v \end{pmatrix}
# = \underbrace{\begin{pmatrix} 0 & 1 \\ -k/m & -c/m \end{pmatrix}}_{M}
# \begin{pmatrix} q \\ v \end{pmatrix}
# + \underbrace{\begin{pmatrix} 0 \\ 1/m \end{pmatrix}}_{b} u .
# $$
#
# Position and velocity are the state. Knowing both now, we need nothing else of the past.

# %%
mass, stiffness, friction = 2.0, 80.0, 2.4  # kg, N/m, N s/m
M = np.array([[0.0, 1.0], [-stiffness / mass, -friction / mass]])
b = np.array([0.0, 1.0 / mass])

rng = np.random.default_rng(1)
q, v, force = rng.standard_normal(3)
acceleration = (-stiffness * q - friction * v + force) / mass
assert np.allclose(M @ [q, v] + b * force, [v, acceleration])

# %% [markdown]
# ### One complex number does it
#
# The two unknowns push each other around. Eigenvectors separate them: with $M V = V \Lambda$ and
# new coordinates $z = V^{-1} (q, v)$ the two equations no longer meet,
#
# $$
# z_n' = \Lambda_n z_n + (V^{-1} b)_n\, u .
# $$
#
# $M$ is real, so its eigenvalues are a conjugate pair, and so are the two coordinates. We keep
# one of them, call it the state $x$, and get the other for nothing:
#
# $$
# x' = A\, x + B\, u, \qquad q = C x + \overline{C x} = 2 \operatorname{Re}(C x) .
# $$
#
# $A = \Lambda_1$ is called a **pole**. Its real part is a decay rate and its imaginary part an
# angular frequency, both in 1/s.

# %%
eigenvalues, V = np.linalg.eig(M)
keep = np.argmax(eigenvalues.imag)  # the one above the real axis
to_state = np.linalg.inv(V)[keep]  # x = to_state @ (q, v)
A, B, C = eigenvalues[keep], to_state @ b, V[0, keep]
assert np.isclose(eigenvalues[1 - keep], np.conj(A))

x = to_state @ [q, v]
assert np.isclose(2 * (C * x).real, q)  # the position comes back
assert np.isclose(2 * (C * (A * x + B * force)).real, v)  # and its slope is the velocity
print(f"A = {A:.4f} 1/s,  C B = {C * B:.4f}")

# %% [markdown]
# A blow with a hammer, a unit of momentum at $s = 0$, starts the state at $x(0) = B$. From there
# it turns and shrinks, $x(s) = e^{A s} B$, and the mass does what physics books say:
#
# $$
# q(s) = 2 \operatorname{Re}\left(C e^{A s} B\right)
# = \frac{1}{m \omega}\, e^{-c s / 2m} \sin \omega s,
# \qquad \omega = \sqrt{k/m - (c/2m)^2} .
# $$

# %%
seconds = np.linspace(0, 5, 501)
omega = np.sqrt(stiffness / mass - (friction / (2 * mass)) ** 2)
textbook = np.exp(-friction * seconds / (2 * mass)) * np.sin(omega * seconds) / (mass * omega)
one_pole = 2 * (C * np.exp(A * seconds) * B).real
assert np.allclose(one_pole, textbook, atol=1e-14)

# %% [markdown]
# ## Discretisation, as a picture
#
# A recording has samples, `dt` seconds apart. Over one step, the trapezium rule replaces
# $\int A x\, ds$ by `dt` times the mean of $A x$ at both ends, and takes the input as constant:
#
# $$
# x_t - x_{t-1} = dt\, A\, \frac{x_t + x_{t-1}}{2} + dt\, B\, u_t .
# $$
#
# Solved for $x_t$ it is a recurrence with two new numbers. This is **Tustin's map**, [TUSTIN-1]
# and [TUSTIN-2]:
#
# $$
# x_t = \bar A\, x_{t-1} + \bar B\, u_t, \qquad
# \bar A = \frac{1 + dt\, A/2}{1 - dt\, A/2}, \qquad \bar B = \frac{dt\, B}{1 - dt\, A/2} .
# $$

# %%
dt = 0.05  # seconds per sample
A_bar, B_bar = ops.discretize.tustin(A, B, dt)
before = rng.standard_normal() + 1j * rng.standard_normal()
after = A_bar * before + B_bar * force
assert np.isclose(after - before, dt * A * (after + before) / 2 + dt * B * force)
assert np.allclose([A_bar, B_bar], reference.discretize.tustin(A, B, dt))
print(f"dt |A| = {dt * abs(A):.3f}:  A_bar = {A_bar:.4f}, modulus {abs(A_bar):.4f}")

# %% [markdown]
# What does the map do to the plane? Lines of equal decay become circles inside the unit circle;
# the imaginary axis, where nothing decays, becomes the unit circle itself.

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.5))
rates = (0, -2, -6, -15, -40, -120)
shades = plt.get_cmap("cividis")(np.linspace(0, 0.85, len(rates)))
up = np.concatenate([-np.geomspace(1e4, 1e-2, 600), np.geomspace(1e-2, 1e4, 600)])
for rate, shade in zip(rates, shades):
    image = reference.discretize.tustin(rate + 1j * up, 1.0, dt)[0]
    width = 2.5 if rate == 0 else 1.4
    left.axvline(rate, color=shade, lw=width)
    right.plot(image.real, image.imag, color=shade, lw=width, label=f"{rate}")
for frequency in (-60, -30, -15, 15, 30, 60, 0):
    across = -np.concatenate([[0.0], np.geomspace(1e-2, 1e4, 500)])
    image = reference.discretize.tustin(across + 1j * frequency, 1.0, dt)[0]
    left.plot([0, -130], [frequency] * 2, color=GREY, lw=0.7)
    right.plot(image.real, image.imag, color=GREY, lw=0.7)
for ax, pole in ((left, A), (right, A_bar)):
    ax.plot(pole.real, pole.imag, "o", color=VERMILION, ms=8, label="the spring")
left.set(xlim=(-130, 12), ylim=(-75, 75), xlabel="Re A (1/s)", ylabel="Im A (1/s)")
left.set_title("continuous: stable on the left")
left.legend(loc="lower left", facecolor="white", framealpha=1, frameon=True)
right.set(aspect="equal", xlabel=r"Re $\bar A$ (no unit)", ylabel=r"Im $\bar A$ (no unit)")
right.set_title("discrete: stable inside the circle")
right.legend(title="Re A (1/s)", loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# *Tustin's map at dt = 0.05 s. Left: vertical lines of equal decay rate and grey lines of equal
# frequency in the plane of $A$. Right: their images in the plane of $\bar A$. The left half plane
# fills the unit disc, whatever `dt` is; the spring's pole sits close to the circle, because it
# decays slowly.*
#
# The picture in a formula: $|1 - z|^2 - |1 + z|^2 = -4 \operatorname{Re} z$ with $z = dt\,A/2$,
# hence
#
# $$
# |\bar A| < 1 \iff \operatorname{Re} A < 0 .
# $$

# %%
random_poles = 100 * (rng.standard_normal(10_000) + 1j * rng.standard_normal(10_000))
images = ops.discretize.tustin(random_poles, 1.0, dt)[0]
assert np.array_equal(np.abs(images) < 1, random_poles.real < 0)

# %% [markdown]
# The true solution over one step is $e^{dt\,A}$. Tustin's map agrees with it up to the square of
# `dt`, so that halving the step divides the error of a step by eight:
#
# $$
# \bar A = e^{dt\,A} + \tfrac{1}{12} (dt\,A)^3 + \dots
# $$

# %%
for step in (0.05, 0.025, 0.0125):
    error = ops.discretize.tustin(A, B, step)[0] - np.exp(step * A)
    print(f"dt {step:6.4f} s   error of a step {abs(error):.2e}")
assert np.isclose(error / ((step * A) ** 3 / 12), 1, atol=0.1)

# %% [markdown]
# (`ops.discretize.zoh` is the map with $e^{dt\,A}$ itself, exact for an input that stays constant
# over a sample.)
#
# ## One pole's impulse response
#
# We put a single 1 into the recurrence, and zeros after it. Then $x_0 = \bar B$,
# $x_1 = \bar A \bar B$, $x_2 = \bar A^2 \bar B$: each step multiplies by $\bar A$, which is a
# turn and a shrink. What is read off is the **kernel** [KERNEL-1], here with the other half of
# the conjugate pair added:
#
# $$
# K_t = 2 \operatorname{Re}\left( C\, \bar A^{\,t}\, \bar B \right) .
# $$
#
# In a program, arrays have axes for batch, channels ($H$) and poles ($N$): `u` is
# `(batch, H, L)`, and `A_bar`, `B_bar`, `C` are `(H, N)`. We have one of each.

# %%
L = 100
weights = tuple(np.array([[w]]) for w in (A_bar, B_bar, C))  # each (H, N) = (1, 1)
impulse = np.zeros((1, 1, L))
impulse[..., 0] = 1

y, x_last = ops.ssm.apply(*weights, None, impulse, view="scan")
K = 2 * ops.kernels.generate(A_bar, B_bar, C, L).real
assert np.allclose(y[0, 0], K, rtol=1e-13, atol=1e-15)
assert np.allclose(K, 2 * (C * A_bar ** np.arange(L) * B_bar).real)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.7), width_ratios=(1, 1.7))
states = A_bar ** np.arange(L)
angle = np.linspace(0, 2 * np.pi, 200)
left.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1)
left.plot(states.real, states.imag, ".-", lw=0.7, ms=5)
left.plot(1, 0, "o", color=VERMILION, ms=7)
left.text(1.08, -0.05, "t = 0", color=VERMILION)
left.set(xlim=(-1.1, 1.55))
left.set(aspect="equal", title="turn and shrink")
left.set(xlabel=r"Re $\bar A^t$ (no unit)", ylabel=r"Im $\bar A^t$ (no unit)")
right.plot(seconds, 1000 * one_pole * dt, color=GREY, lw=2.5, label="the spring, times dt")
right.plot(dt * np.arange(L), 1000 * K, ".", color=BLUE, ms=6, label=r"kernel $K_t$")
right.axhline(0, color="black", lw=0.6)
right.set(xlabel="time (s)", ylabel="position (mm per N)", title="what we read off")
right.legend()
plt.show()

# %% [markdown]
# *Left: the powers of $\bar A$ spiral from 1 towards 0 inside the unit circle, one dot a sample.
# Right: the kernel (dots) beside the spring's motion after a blow of 1 N for one sample (grey).
# They agree but for a slowly growing lag: the square of `dt` in the frequency.*
#
# ## View one: the recurrence
#
# With any input, [SCAN-1] and [SCAN-2] are the model as it is defined:
#
# $$
# x_t = \bar A\, x_{t-1} + \bar B\, u_t, \qquad y_t = 2 \operatorname{Re}(C x_t) + D\, u_t .
# $$
#
# $D$ lets the input through directly; a spring has none of it. Here is the whole model as a loop,
# and the same from the package: `ssm_manual.reference` holds such loops for every operator, and
# `ops.ssm.apply` is the fast one.


# %%
def recurrence(A_bar, B_bar, C, u, x=0.0):
    """Positions and the last state, one sample after another."""
    y = np.empty(u.size)
    for t in range(u.size):
        x = A_bar * x + B_bar * u[t]  # [SCAN-1]
        y[t] = 2 * (C * x).real  # [SCAN-2]
    return y, x


L = 240
u = np.zeros((1, 1, L))
u[0, 0, [10, 60, 75]] = 20.0, -12.0, 16.0  # three pushes, in N

by_hand, x_by_hand = recurrence(A_bar, B_bar, C, u[0, 0])
by_scan, x_last = ops.ssm.apply(*weights, None, u, view="scan")
by_reference, _ = reference.ssm.apply(*weights, None, u)
assert np.allclose(by_scan[0, 0], by_hand, rtol=1e-13, atol=1e-15)
assert np.allclose(by_scan, by_reference, rtol=1e-13, atol=1e-15)
assert np.allclose(x_last, x_by_hand, rtol=1e-13)

# %% [markdown]
# ## View two: the convolution
#
# Unroll the recurrence from rest. The state is a sum over all former inputs, each turned and
# shrunk by as many steps as it is old:
#
# $$
# x_t = \sum_{j=0}^{t} \bar A^{\,j}\, \bar B\, u_{t-j} .
# $$
#
# (Induction: it is true at $t = 0$, and $\bar A x_{t-1} + \bar B u_t$ raises every power by one
# and adds the term $j = 0$.) Multiply by $C$, and the kernel appears, [CONV-1] and [CONV-6]:
#
# $$
# y_t = \sum_{j=0}^{t} K_j\, u_{t-j} .
# $$
#
# No state is left in it. Every output is computed by itself, so that a fast Fourier transform may
# compute them all at once.

# %%
by_convolution, x_convolved = ops.ssm.apply(*weights, None, u, view="convolution")
K = 2 * ops.kernels.generate(A_bar, B_bar, C, L).real
assert np.allclose(by_convolution, by_scan, rtol=1e-12, atol=1e-12)
assert np.allclose(reference.convolve.causal(u, K), by_scan, rtol=1e-12, atol=1e-12)
assert np.allclose(x_convolved, x_last, rtol=1e-12, atol=1e-12)
print(f"largest difference of the two views: {np.abs(by_convolution - by_scan).max():.1e} m")

# %%
fig, (top, bottom) = plt.subplots(2, 1, figsize=(9, 4.4), sharex=True, height_ratios=(1, 2.4))
clock = dt * np.arange(L)
for when, colour in zip(np.flatnonzero(u[0, 0]), (ORANGE, SKY, GREEN)):
    push = u[0, 0, when]
    top.vlines(clock[when], 0, push, color=colour, lw=4)
    alone = np.zeros(L)
    alone[when:] = push * K[: L - when]
    bottom.plot(clock, 1000 * alone, color=colour, lw=1.6, label=f"answer to {push:+.0f} N")
bottom.plot(clock, 1000 * by_scan[0, 0], color="black", lw=1.6, label="their sum, y")
top.axhline(0, color="black", lw=0.6)
top.set(ylabel="force u (N)", ylim=(-25, 25))
bottom.set(xlabel="time (s)", ylabel="position (mm)")
bottom.legend(ncols=2, loc="upper right")
plt.show()

# %% [markdown]
# *Above: three pushes. Below: each push alone would make the mass swing by its own delayed and
# scaled copy of the kernel (coloured); the black line, which the recurrence computed, is their
# sum.*
#
# ## What comes between: pieces, with states passed on
#
# The recurrence needs one state and works sample by sample; the convolution needs no state and
# works on everything at once. Between them lies a third, *chunked* view: cut the sequence, treat
# each piece as we like, and hand the last state of a piece to the next one as its `x0`. With an
# initial state $x_{-1}$ the output gains what that state alone would do, [CONV-6]:
#
# $$
# y_t = \sum_{j=0}^{t} K_j\, u_{t-j} + 2 \operatorname{Re}\left( C\, \bar A^{\,t+1} x_{-1} \right) .
# $$
#
# The state is all that a piece needs of the past, so the cuts leave no trace. (Mind the power. The
# state comes from the step *before* the piece, so that its first sample is one step away from it;
# with $t$ for $t + 1$ the piece is off by far more than rounding.) We try one cut, then random
# ones, empty pieces included, and let the views take turns.

# %%
u = np.cumsum(rng.standard_normal((1, 1, L)), axis=-1)  # a force that wanders
whole, x_whole = ops.ssm.apply(*weights, None, u)

head, x_cut = ops.ssm.apply(*weights, None, u[..., :90], view="scan")
tail = reference.convolve.causal(u[..., 90:], K[: L - 90])
late = tail + 2 * (C * A_bar ** np.arange(L - 90) * x_cut[0, 0]).real
tail = tail + 2 * (C * A_bar ** np.arange(1, L - 90 + 1) * x_cut[0, 0]).real
assert np.allclose(np.concatenate([head, tail], axis=-1), whole, rtol=1e-12, atol=1e-12)

size = np.abs(whole[..., 90:]).max()
for power, piece in (("t + 1", tail), ("t", late)):
    print(f"power {power:5}: off by {np.abs(piece - whole[..., 90:]).max() / size:.1e}")
assert np.abs(late - whole[..., 90:]).max() > 0.1 * size


# %%
def in_pieces(cuts, u, pass_state=True):
    """Apply the operator to each piece; the views alternate."""
    out, state = [], None
    for i, piece in enumerate(np.split(u, cuts, axis=-1)):
        view = "convolution" if i % 2 and piece.size > 0 else "scan"
        y, last = ops.ssm.apply(*weights, None, piece, state, view=view)
        out.append(y)
        state = last if pass_state else None
    return np.concatenate(out, axis=-1), last


worst = 0.0
for _ in range(200):
    cuts = np.sort(rng.integers(0, L + 1, rng.integers(1, 9)))  # equal ones make empty pieces
    y, x_last = in_pieces(cuts, u)
    worst = max(worst, np.abs(y - whole).max() / np.abs(whole).max())
    worst = max(worst, np.abs(x_last - x_whole).max() / np.abs(x_whole).max())
assert worst < 1e-12
print(f"200 sets of random cuts: largest relative difference {worst:.1e}")

# %%
cuts = np.array([50, 110, 180])
fig, ax = plt.subplots(figsize=(9, 3.5))
passed, _ = in_pieces(cuts, u)
dropped, _ = in_pieces(cuts, u, pass_state=False)
ax.plot(clock, 1000 * dropped[0, 0], "--", color=GREY, lw=1.6, label="states dropped at the cuts")
edges = [0, *cuts, L]
for start, end, colour in zip(edges, edges[1:], (BLUE, VERMILION, GREEN, PURPLE)):
    piece = slice(max(start - 1, 0), end)  # with the sample before, so that the line goes on
    ax.plot(clock[piece], 1000 * passed[0, 0, piece], color=colour, lw=2)
for cut in cuts:
    ax.axvline(clock[cut], color="black", lw=0.6, ls=":")
ax.set(xlabel="time (s)", ylabel="position (mm)")
ax.legend()
plt.show()

# %% [markdown]
# *A wandering force, in four pieces (colours; dotted lines are the cuts). With the states passed
# on, the pieces join to the curve of the whole sequence. With the states dropped (dashed), each
# piece begins at rest, and the mass jumps back to zero at every cut.*
#
# The chunked view chooses short pieces: inside a piece the convolution is a small matrix product,
# between pieces one state per pole is passed. It keeps the best of both.
#
# ## Derive: states go forward, gradients come back
#
# (On a first reading, skip this section: notebooks 2 and 3 bring what it takes for granted.)
#
# Suppose a loss depends on every output. How do its gradients pass a cut? The second piece
# returns, beside the gradients of its parameters, the gradient $g$ with respect to its `x0`. But
# its `x0` *is* the first piece's $x_{\text{last}}$. So $g$ is exactly what the first piece takes
# as the cotangent of its last state, where it enters as part of the source $s_{L-1}$ of the
# adjoint recursion [SCAN-3, 4]:
#
# $$
# \lambda_t = s_t + \overline{\bar A}\, \lambda_{t+1}, \qquad
# s_t = 2\, \overline{C}\, e_t + \begin{cases} g & t = L - 1, \\ 0 & \text{otherwise.} \end{cases}
# $$
#
# ($e_t$ is the gradient with respect to $y_t$; notebook 3 derives the recursion, notebook 2 the
# conjugates in it.) What comes out at the front is $\overline{\bar A} \lambda_0$ [SCAN-10], the
# gradient to *this* piece's `x0`, and so on to the beginning. The parameters serve every piece,
# so their gradients add [COMPLEX-5]:
#
# $$
# \operatorname{grad}_{\bar A}
# = \sum_{\text{pieces}} \operatorname{grad}_{\bar A}^{(\text{piece})} .
# $$


# %%
def forward_pieces(cuts, u):
    """Outputs, and the residuals of every piece."""
    out, residuals, state = [], [], np.zeros((1, 1, 1), complex)
    for piece in np.split(u, cuts, axis=-1):
        (y, state), saved = ops.ssm.apply_fwd(*weights, None, piece, state)
        out.append(y)
        residuals.append(saved)
    return np.concatenate(out, axis=-1), residuals


def backward_pieces(cuts, residuals, grad_y):
    """Gradients to A_bar, B_bar, C and x0: the pieces from last to first."""
    grad_state, total = None, np.zeros((3, 1, 1), complex)  # None: nothing comes from the end
    for saved, e in zip(residuals[::-1], np.split(grad_y, cuts, axis=-1)[::-1]):
        *grads, _, _, grad_state = ops.ssm.apply_vjp(saved, (e, grad_state))  # not those of D and u
        total += grads
    return [*total, grad_state]


grad_y = rng.standard_normal(u.shape)
_, residuals = ops.ssm.apply_fwd(*weights, None, u, np.zeros((1, 1, 1), complex))
*of_whole, _, _, grad_x0 = ops.ssm.apply_vjp(residuals, (grad_y, None))
for _ in range(50):
    cuts = np.sort(rng.integers(0, L + 1, 5))
    y, residuals = forward_pieces(cuts, u)
    of_pieces = backward_pieces(cuts, residuals, grad_y)
    for ours, theirs in zip(of_pieces, [*of_whole, grad_x0]):
        assert abs(ours - theirs).max() <= 1e-12 * abs(theirs).max()
print("gradients of the pieces add up to that of the whole, to 1e-12")

# %% [markdown]
# ## Check
#
# `check_vjp` compares every gradient with finite differences of the forward operator, along
# random directions and for random cotangents of both outputs, $y$ and $x_{\text{last}}$. It takes
# the forward function, its vjp and a tuple of their arguments; options go after them. It is the
# judge of every derivation in these notebooks, and notebook 2 tells what it asks of an operator and
# how to read its table. Both views stand before it.

# %%
x0 = rng.standard_normal((1, 1, 1)) + 1j * rng.standard_normal((1, 1, 1))
for view in ("scan", "convolution"):
    args = (*weights, np.array([0.3]), u[..., :60], x0)
    report = check_vjp(ops.ssm.apply_fwd, ops.ssm.apply_vjp, args, view=view)
    print(view, report, sep=": ", end="\n\n")
    assert report

# %% [markdown]
# ## What to save, and what to recompute
#
# The backward pass of the recurrence needs every state $x_t$. Keeping them all costs 16 bytes a
# pole and sample. But a state in hand, we can run its piece again: the cuts of the last section
# help a second time. The scan keeps one state in 64 and recomputes a block of them when the
# backward pass arrives there [SCAN-12].

# %%
long = rng.standard_normal((1, 1, 6400))
(_, _), residuals = ops.scan.scan_fwd(*weights, None, long)
kept = residuals.checkpoints.nbytes
print(f"all states: {16 * long.size} bytes; kept: {kept} bytes, one state in {ops.scan.BLOCK}")
assert kept * ops.scan.BLOCK == 16 * long.size

# %% [markdown]
# The kernel is not kept at all: notebook 4 shows that its gradient needs neither $K$ nor any
# power of $\bar A$.
#
# ## Fast equals slow: a ladder of kernels
#
# Three ways to the same kernel, [KERNEL-2], [KERNEL-3] and [KERNEL-4]:
#
# $$
# \begin{aligned}
# \text{naive:} \quad & P_t = P_{t-1} \bar A, & K_t &= C\, P_t\, \bar B, \\
# \text{recursive:} \quad & & K_t &= K_{t-1}\, \bar A, \\
# \text{log:} \quad & & K_t &= \exp\!\big(\log(C \bar B) + t \log \bar A\big) .
# \end{aligned}
# $$
#
# Each rung must give what the slow loop of the reference gives.

# %%
slow = reference.kernels.generate(A_bar, B_bar, C, 1047)
for method in ("naive", "recursive", "log"):
    fast = ops.kernels.generate(A_bar, B_bar, C, 1047, method=method)
    error = np.linalg.norm(fast - slow) / np.linalg.norm(slow)
    print(f"{method:10} differs from the reference by {error:.1e}")
    assert error < 1e-12

# %% [markdown]
# They are equal to rounding, but the rounding differs. Log-space computes every sample by itself,
# so that no error is passed on; it is therefore often said to be free of drift. It is not. A
# computer's $\log \bar A$ is off by about $\varepsilon = 2^{-53}$ relative to its size, and that
# is multiplied by $t$ before the exponential sees it:
#
# $$
# \frac{\Delta K_t}{K_t} \approx t \cdot \varepsilon\, |\log \bar A| .
# $$
#
# This is an order of magnitude and no bound: how far the logarithm of one pole is off is a matter
# of luck, and the product $t \log \bar A$ and the sum round as well. We take a pole that hardly
# decays and compare with 60 digits.

# %%
slow_decay, weight = 0.9999995 * np.exp(2.3j), 0.6 - 0.7j
at = np.unique(np.geomspace(1, 1e6, 60).astype(int))
with mpmath.workdps(60):
    pole, first = mpmath.mpc(slow_decay), mpmath.mpc(weight) ** 2
    exact = [first * pole ** int(t) for t in at]

errors = {}
for method in ("naive", "recursive", "log"):
    K = ops.kernels.generate(slow_decay, weight, weight, at[-1] + 1, method=method)[at]
    with mpmath.workdps(60):
        errors[method] = [float(abs(mpmath.mpc(k) - e) / abs(e)) * 2**53 for k, e in zip(K, exact)]

estimate = at * abs(np.log(slow_decay))
assert np.all(errors["log"] <= 4 + 2 * estimate)  # the formula, with room for a second rounding
assert errors["log"][-1] > 100 * errors["recursive"][-1]
assert estimate[-1] / 10 < errors["log"][-1]

# %%
fig, ax = plt.subplots(figsize=(8, 4))
ax.loglog(at, estimate, color=GREY, lw=1.2, ls="--", label=r"estimate $t\,|\log \bar A|$")
ax.loglog(at, np.sqrt(at), color=GREY, lw=1.2, ls=":", label=r"$\sqrt{t}$")
for (method, error), marker in zip(errors.items(), "s^o"):
    ax.loglog(at, np.maximum(error, 0.1), marker, ms=5, mfc="none", label=method)
ax.set(xlabel="t (samples)", ylabel=r"relative error (units of $2^{-53}$)")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# *Rounding errors of three kernels in double precision, against 60 digits (points below 0.1 are
# drawn at 0.1). The chains of products, naive and recursive, grow like $\sqrt t$, because their
# errors have mixed signs. Log-space grows like $t$ and has lost more than six of sixteen digits
# after a million samples.*
#
# ## Timing
#
# The first call of each method compiles and does not count. We time on one core.


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


lengths = 2 ** np.arange(6, 19, 2)
fig, ax = plt.subplots(figsize=(8, 3.8))
ways = {
    method: lambda L, method=method: ops.kernels.generate(slow_decay, 1.0, 1.0, L, method=method)
    for method in ("naive", "recursive", "log")
}
for (name, way), marker in zip(ways.items(), "s^o"):
    cost = [1e9 * shortest(lambda L=L, way=way: way(int(L))) / L for L in lengths]
    ax.loglog(lengths, cost, marker + "-", label=name)
    print(f"{name:10} {cost[-1]:6.1f} ns per sample at L = {lengths[-1]}")
slow = shortest(lambda: reference.kernels.generate(slow_decay, 1.0, 1.0, 4096), 2) / 4096
ax.axhline(1e9 * slow, color="black", lw=1, ls=":", label="reference (a Python loop)")
print(f"{'reference':10} {1e9 * slow:6.1f} ns per sample")
ax.set(xlabel="kernel length L (samples)", ylabel="time per sample (ns)")
ax.legend()
plt.show()

# %% [markdown]
# *Time per sample of one kernel. Short kernels pay for the call. Long ones show the method: a
# complex product a step for the recursion, an exponential, a sine and a cosine for log-space. The
# more precise method is also the faster one.*
#
# ## Exercise: let go
#
# Pull the mass to $q = 0.1$ m, hold it still, and let go: no force, only an initial state. Find
# the complex `x0` that stands for "0.1 m, at rest". `yours` returns the position as if it were the
# state. Mend it; the cell after it tells whether the mass then moves as it should, which is
#
# $$
# q(s) = 0.1\, e^{-a s} \left( \cos \omega s + \frac{a}{\omega} \sin \omega s \right),
# \qquad a = \frac{c}{2m} .
# $$


# %%
def yours(position, velocity):
    """Wrong: the state of the mass at this position and velocity."""
    return complex(position)


# %%
def check(state_of):
    """Whether the free motion from that state is that of a mass let go at 0.1 m."""
    exact = tuple(np.array([[w]]) for w in (*ops.discretize.zoh(A, B, dt), C))
    state = np.full((1, 1, 1), state_of(0.1, 0.0), complex)
    y, _ = ops.ssm.apply(*exact, None, np.zeros((1, 1, 100)), state)
    s = dt * np.arange(1, 101)  # y_0 is one step after x0
    a = friction / (2 * mass)
    wanted = 0.1 * np.exp(-a * s) * (np.cos(omega * s) + a / omega * np.sin(omega * s))
    error = np.abs(y[0, 0] - wanted).max()
    return f"solved: {error:.1e} m off" if error < 1e-12 else f"not yet: {error:.3f} m off"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# The state is the row of $V^{-1}$ that we kept, applied to position and velocity; at rest the
# velocity is 0:
#
# ```python
# def yours(position, velocity):
#     return to_state @ [position, velocity]
# ```
#
# Test it: $2 \operatorname{Re}(C x_0) = 0.1$ is the position, and
# $2 \operatorname{Re}(C A x_0) = 0$ the velocity. That the check uses `zoh` and not `tustin` has
# a reason: without an input, $e^{dt\,A}$ is exact.
#
# </details>
#
# Next: [notebook 2](02_gradients_in_complex_space.ipynb) asks what a gradient is where parameters
# are complex.
