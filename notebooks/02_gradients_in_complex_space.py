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
# # 2. Gradients in complex space
#
# The poles of a state-space model are complex numbers, and its loss is a real one. What is a
# gradient then? And why are there so many conjugates in it?
#
# We define the gradient, derive one line from which every conjugate in this package follows, and
# prove it by finite differences. Then we do what one learns most from: we leave the conjugates
# out, watch the check fail, and find out why so many programs never noticed.
#
# Needed here: partial derivatives, complex numbers, NumPy. Of notebook 1 we use no more than that a
# pole is a complex number. Labels such as [COMPLEX-6] name equations of
# [Gradients of complex parameters](../docs/derivations/complex_gradients.md), where each step is
# written out.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_vjp, numeric_gradient

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = plots.CYCLE
GREY = plots.COLOURS["grey"]
plt.rcParams.update(plots.STYLE)

rng = np.random.default_rng(2)


def complex_normal(*shape):
    """Random complex numbers: every direction of the plane is equally likely."""
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


# %% [markdown]
# ## The equation: what a gradient is
#
# A real loss $L$ of one complex number $z = x + iy$ is a function of two real numbers, and its
# gradient has two components. We pack them into one complex number, [COMPLEX-1]:
#
# $$
# \operatorname{grad}_z = \frac{\partial L}{\partial x} + i\, \frac{\partial L}{\partial y} .
# $$
#
# As an arrow in the plane it points to where $L$ rises fastest. That is all we want of a
# gradient: `z -= rate * grad_z` goes downhill.
#
# Our first example has two places where it vanishes:
#
# $$
# L(z) = \tfrac12\, |z^2 - w|^2, \qquad w = -\tfrac12 + i .
# $$

# %%
w = -0.5 + 1j


def loss(z):
    return 0.5 * abs(z**2 - w) ** 2


def slow_gradient(z, h=1e-6):
    """[COMPLEX-1] as it stands, by two central differences."""
    by_x = (loss(z + h) - loss(z - h)) / (2 * h)
    by_y = (loss(z + 1j * h) - loss(z - 1j * h)) / (2 * h)
    return by_x + 1j * by_y


z = complex_normal()
assert loss(z - 1e-3 * slow_gradient(z)) < loss(z) < loss(z + 1e-3 * slow_gradient(z))
roots = np.sqrt(w) * np.array([1, -1])
assert np.allclose(loss(roots), 0)

# %% [markdown]
# For a small step $dz = dx + i\,dy$ the loss changes by $dL = \frac{\partial L}{\partial x} dx +
# \frac{\partial L}{\partial y} dy$. That is the ordinary scalar product of two arrows, and in
# complex numbers it is written, [COMPLEX-2],
#
# $$
# dL = \langle \operatorname{grad}_z, dz \rangle, \qquad
# \langle a, b \rangle = \operatorname{Re} \sum_k \overline{a_k}\, b_k .
# $$


# %%
def inner(a, b):
    """Re sum conj(a) b: the scalar product of arrows."""
    return np.vdot(a, b).real  # vdot conjugates its first argument


a, b = complex_normal(), complex_normal()
assert np.isclose(inner(a, b), a.real * b.real + a.imag * b.imag)

dz = 1e-6 * complex_normal()
assert np.isclose(loss(z + dz) - loss(z), inner(slow_gradient(z), dz), rtol=1e-4)

# %% [markdown]
# ## Derive: the one line behind every conjugate
#
# Take a complex factor $c$ from one side of the inner product to the other. This is [COMPLEX-3] for
# a single number:
#
# $$
# \langle g, c\, v \rangle = \operatorname{Re}(\overline g\, c\, v)
# = \operatorname{Re}(\overline{\overline c\, g}\; v) = \langle \overline c\, g, v \rangle .
# $$
#
# It changes sides with a conjugate. As arrows: to multiply by $c$ is to stretch by $|c|$ and turn
# by the angle of $c$. If $v$ is turned one way, the same scalar product comes of turning $g$ the
# *other* way.

# %%
g, c, v = complex_normal(3)
assert np.isclose(inner(g, c * v), inner(np.conj(c) * g, v))
assert not np.isclose(inner(g, c * v), inner(c * g, v))

# %% [markdown]
# Now let $w = f(z)$ be an ordinary formula in $z$: products, powers, quotients, exponentials.
# Such a function is *holomorphic*: $dw = f'(z)\, dz$ with one complex factor, the derivative from
# school. We know the gradient with respect to $w$ (the **cotangent**, $g$) and want the one with
# respect to $z$:
#
# $$
# dL = \langle g, dw \rangle = \langle g, f'(z)\, dz \rangle
# = \langle \overline{f'(z)}\, g, dz \rangle .
# $$
#
# Read off what stands beside $dz$, [COMPLEX-6]:
#
# $$
# \operatorname{grad}_z = \overline{f'(z)}\; \operatorname{grad}_w .
# $$
#
# In our example $f'(z) = 2z$, and $L = \frac12 |e|^2$ with $e = f(z) - w$ has the gradient $e$,
# because $d\,\tfrac12|e|^2 = \operatorname{Re}(\overline e\, de) = \langle e, de \rangle$.


# %%
def gradient(z):
    return np.conj(2 * z) * (z**2 - w)


def without_conjugate(z):
    return 2 * z * (z**2 - w)


for z in complex_normal(20):
    assert np.isclose(gradient(z), slow_gradient(z), rtol=1e-7)
    assert not np.isclose(without_conjugate(z), slow_gradient(z), rtol=1e-2)

# %%
x = np.linspace(-1.6, 1.6, 241)
plane = x + 1j * x[:, None]
coarse = np.linspace(-1.4, 1.4, 13) + 1j * np.linspace(-1.4, 1.4, 13)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.6), sharey=True)
for ax, rule, title in zip(
    axes, (gradient, without_conjugate), ("with the conjugate", "without it")
):
    ax.contour(x, x, loss(plane), levels=np.geomspace(0.02, 8, 11), cmap="cividis", linewidths=0.9)
    arrows = -rule(coarse)
    arrows = arrows / np.maximum(np.abs(arrows), 1e-9) ** 0.6  # shorten the long, keep directions
    downhill = (np.conj(gradient(coarse)) * rule(coarse)).real >= 0
    colours = np.where(downhill, BLUE, VERMILION).ravel()
    ax.quiver(coarse.real, coarse.imag, arrows.real, arrows.imag, color=colours, width=0.005)
    ax.plot(roots.real, roots.imag, "*", color="black", ms=12)
    ax.set(aspect="equal", xlabel="Re z (no unit)", title=title)
axes[0].set_ylabel("Im z (no unit)")
plt.show()
print(f"without the conjugate, {np.mean(~downhill):.0%} of these steps lead uphill")

# %% [markdown]
# *Level lines of the loss; the stars are its two minima. Arrows show the step `-grad`. Left: with
# the conjugate each arrow crosses the level lines at a right angle, downhill. Right: without it,
# blue arrows still happen to lead downhill, orange ones lead uphill. On the real axis (Im z = 0)
# both figures agree.*
#
# ### Three adjoints that always come along
#
# **A real argument.** If a real $x$ is multiplied by a complex $c$, the change is $c\,dx$ and
# $\langle g, c\,dx \rangle = \operatorname{Re}(\overline g c)\, dx$. A real argument takes the
# real part, [COMPLEX-4]:
#
# $$
# \operatorname{grad}_x = \operatorname{Re}\left( \overline c\, g \right) .
# $$
#
# **Broadcasting.** One number used in many places collects from all of them, [COMPLEX-5]:
#
# $$
# w_k = z \quad \Longrightarrow \quad \operatorname{grad}_z = \sum_k g_k .
# $$
#
# **A real output.** Models with real signals put out $w = 2 \operatorname{Re} z$. With a real
# $g$, $g\, dw = 2 g \operatorname{Re} dz = \langle 2g, dz \rangle$, [COMPLEX-7]:
#
# $$
# w = 2 \operatorname{Re} z \quad \Longrightarrow \quad \operatorname{grad}_z = 2 g .
# $$
#
# ## Check
#
# One operator with all of it: a complex gain $c$ and a real rate $r$, shared by $n$ complex
# numbers $z_k$, and a real output,
#
# $$
# y_k = 2 \operatorname{Re}\left( c\, e^{r z_k} \right) .
# $$
#
# In this package an operator comes as two functions. The forward one returns its output and what
# the backward one needs, the *residuals*; the backward one, the vector-Jacobian product or
# **vjp**, turns the cotangent into one gradient per argument:
#
# ```text
# out, residuals = op_fwd(*args, **options)
# grads          = op_vjp(residuals, grad_out)
# ```
#
# That is the whole contract; the rest are its consequences.
#
# * `out` is an array, a number, or a tuple of them. If it is a tuple, `grad_out` is a tuple too:
#   one cotangent per output, in the same order, each with the shape and the dtype of its output.
# * `residuals` may be anything. Nobody but the vjp looks into it.
# * `grads` is a tuple with one entry per argument, in the order of the arguments, also where there
#   is only one: `(grad_z,)`. Each has the shape and the dtype of its argument. So a real argument
#   has a real gradient [COMPLEX-4], and what was broadcast is summed [COMPLEX-5]. An argument that
#   cannot be varied (a length, a name) has the entry None.
# * Neither function writes into what it was given, and no output shares its memory with the
#   residuals: a caller who changes it would spoil the backward pass. Hence a `.copy()` here and
#   there.


# %%
def wave_fwd(c, r, z):
    power = np.exp(r * z)
    return 2 * (c * power).real, (c, r, z, power)


def wave_vjp(residuals, grad_y):
    c, r, z, power = residuals
    g = 2 * grad_y  # [COMPLEX-7]
    grad_c = np.sum(np.conj(power) * g)  # [COMPLEX-5]
    grad_r = np.sum(np.conj(c * z * power) * g).real  # [COMPLEX-4]
    grad_z = np.conj(c * r * power) * g  # [COMPLEX-6]
    return grad_c, grad_r, grad_z


# %% [markdown]
# How can such a pair be proved? Take any cotangent $g$ and any direction $d$ of an argument. What
# the vjp returns for $g$ must say how fast $\langle g, \text{out} \rangle$ changes when the
# argument moves along $d$, [CHECK-1]; and that can be had without any derivation, by differences
# [CHECK-2]:
#
# $$
# \langle \operatorname{grad}, d \rangle = \varphi'(0) \approx
# \frac{8\,[\varphi(h) - \varphi(-h)] - [\varphi(2h) - \varphi(-2h)]}{12\, h},
# \qquad \varphi(s) = \langle g, f(x + s\, d) \rangle .
# $$

# %%
args = complex_normal(), 0.7, complex_normal(5)  # in the order of wave_fwd's arguments
out, residuals = wave_fwd(*args)
g = rng.standard_normal(out.shape)  # the output is real, and so is its cotangent
d = complex_normal(5)  # a direction for z


def phi(s):
    return inner(g, wave_fwd(args[0], args[1], args[2] + s * d)[0])


h = 1e-3
numeric = (8 * (phi(h) - phi(-h)) - (phi(2 * h) - phi(-2 * h))) / (12 * h)
analytic = inner(wave_vjp(residuals, g)[2], d)
print(f"numeric {numeric:.12f}, analytic {analytic:.12f}")
assert np.isclose(numeric, analytic, rtol=1e-9)

# %% [markdown]
# `check_vjp(op_fwd, op_vjp, args)` does this for every argument, with several random cotangents and
# directions, and chooses the step itself. `args` is a tuple of float64 or complex128 values, also
# where there is only one: `(z,)`. Options of the operator follow as keywords. What comes back is
# true if every argument passes; printed, it is a table with the worst direction of each, where
# `error` is the relative difference of `numeric` and `analytic` and may be at most $10^{-7}$
# [CHECK-6]. Where the output does not depend on an argument, its gradient is zeros of its shape,
# exactly; anything else is wrong. `headline` is the first line.

# %%
report = check_vjp(wave_fwd, wave_vjp, args)
print(report)
assert report


# %% [markdown]
# The same without conjugates fails in two of three arguments:


# %%
def wave_vjp_wrong(residuals, grad_y):
    c, r, z, power = residuals
    g = 2 * grad_y
    return np.sum(power * g), np.sum(c * z * power * g).real, c * r * power * g


report = check_vjp(wave_fwd, wave_vjp_wrong, args)
print(report)
assert [row.argument for row in report.failures] == ["c", "z"]

# %% [markdown]
# But look at the row of `r`. It *passes*. The argument is real and so is the cotangent, and
# $\operatorname{Re}(\overline a\, g) = \operatorname{Re}(a\, g)$ whenever $g$ is real. Hold on to
# that: it is the first of three hiding places.
#
# Not only the derivation can be wrong, but the bookkeeping too. We break the contract in six ways,
# each of them easy to slip into, and read what the check says.


# %%
def broken(change):
    """wave_vjp with something done to its gradients."""
    return lambda residuals, grad_y: change(*wave_vjp(residuals, grad_y))


def doubles_in_place(residuals, grad_y):
    """The factor 2 of [COMPLEX-7], written into the caller's array."""
    grad_y *= 2
    return wave_vjp(residuals, grad_y / 2)


slips = {
    "no real part for the real r": broken(lambda c, r, z: (c, r + 0.5j, z)),
    "no sum for the shared c": broken(lambda c, r, z: (c * np.ones(5), r, z)),
    "one gradient left out": broken(lambda c, r, z: (c, z)),
    "two gradients exchanged": broken(lambda c, r, z: (r, c.real, z)),
    "an array, no tuple": broken(lambda c, r, z: z),
    "the cotangent changed": doubles_in_place,
}
for slip, vjp in slips.items():
    report = check_vjp(wave_fwd, vjp, args)
    print(f"{slip}\n    {report.headline}")
    assert not report

# %% [markdown]
# ## Make them wrong, and watch
#
# The three gradients below are derived in notebooks 3 to 5. We need not understand them yet; only
# the places where a `conj` stands matter here.
#
# Three operators at the heart of a state-space model, each with its derivation elsewhere:
# Tustin's map [TUSTIN-9], the kernel [KERNEL-6, 7] and the scan [SCAN-4 to 7]. We write each vjp
# with the conjugation as an argument, so that the right rule and the rule "for real numbers"
# differ in nothing else.
#
# $$
# \bar A = \frac{1 + dt\,A/2}{1 - dt\,A/2}, \qquad
# K_t = C \bar A^{\,t} \bar B, \qquad
# \lambda_t = \overline C e_t + \overline{\bar A}\, \lambda_{t+1} .
# $$


# %%
def no_conj(z):
    """What the rule for real numbers does."""
    return z


def match(grad, x):
    """The real part for a real argument [COMPLEX-4]."""
    return grad if np.iscomplexobj(x) else np.real(grad)


def tustin_fwd(A, B, dt):
    d = 1 / (1 - dt * A / 2)
    return ((1 + dt * A / 2) * d, dt * B * d), (A, B, dt, d)


def tustin_vjp(residuals, grad_out, conj=np.conj):
    A, B, dt, d = residuals
    grad_A_bar, grad_B_bar = grad_out
    grad_A = conj(dt * d**2) * grad_A_bar + conj(dt**2 * B / 2 * d**2) * grad_B_bar
    grad_B = conj(dt * d) * grad_B_bar
    grad_dt = np.sum(conj(A * d**2) * grad_A_bar + conj(B * d**2) * grad_B_bar)
    return match(grad_A, A), match(grad_B, B), match(grad_dt, dt)


# %%
def kernel_fwd(A_bar, B_bar, C):
    t = np.arange(20)
    return C[:, None] * A_bar[:, None] ** t * B_bar[:, None], (A_bar, B_bar, C, t)


def kernel_vjp(residuals, grad_K, conj=np.conj):
    A_bar, B_bar, C, t = residuals
    power = A_bar[:, None] ** t
    slope = t * A_bar[:, None] ** np.maximum(t - 1, 0)
    m0 = np.sum(grad_K * conj(power), axis=1)
    m1 = np.sum(grad_K * conj(slope), axis=1)
    grads = conj(C * B_bar) * m1, conj(C) * m0, conj(B_bar) * m0
    return tuple(match(grad, x) for grad, x in zip(grads, residuals))


# %%
def scan_fwd(A_bar, B_bar, C, u):
    x = np.zeros((u.size + 1, A_bar.size), np.result_type(A_bar, B_bar, u))
    for t in range(u.size):
        x[t + 1] = A_bar * x[t] + B_bar * u[t]
    return x[1:] @ C, (A_bar, B_bar, C, u, x)


def scan_vjp(residuals, e, conj=np.conj):
    A_bar, B_bar, C, u, x = residuals
    lam = 0
    grads = [np.zeros(a.shape, complex) for a in (A_bar, B_bar, C, u)]
    for t in range(u.size - 1, -1, -1):
        lam = conj(C) * e[t] + conj(A_bar) * lam  # [SCAN-4]
        grads[0] += lam * conj(x[t])
        grads[1] += lam * conj(u[t])
        grads[2] += e[t] * conj(x[t + 1])
        grads[3][t] = np.sum(conj(B_bar) * lam)
    return tuple(match(grad, x) for grad, x in zip(grads, residuals))


# %% [markdown]
# First the right rules, with complex parameters, complex data and dt |A| near 1:

# %%
RULES = {
    "Tustin": (tustin_fwd, tustin_vjp),
    "kernel": (kernel_fwd, kernel_vjp),
    "scan": (scan_fwd, scan_vjp),
}


def arguments(dt=0.1, real=False, customary=False):
    """One set of arguments for each operator, four poles, twenty samples."""
    A = -rng.uniform(0.2, 1, 4) * 5 + 10j * rng.uniform(-1, 1, 4)
    B, C, u = complex_normal(4), complex_normal(4), complex_normal(20)
    if customary:  # how such models are often started
        B, C, u = np.ones(4), np.full(4, 0.25), u.real
    if real:
        A, B, C, u = A.real, B.real, C.real, u.real
    A_bar, B_bar = tustin_fwd(A, B, dt)[0]
    return {"Tustin": (A, B, dt), "kernel": (A_bar, B_bar, C), "scan": (A_bar, B_bar, C, u)}


def leave_out(vjp):
    """The same vjp without conjugates."""
    return lambda residuals, grad_out: vjp(residuals, grad_out, conj=no_conj)


# Complex everything, a small dt, and real parameters.
for args in (arguments(), arguments(dt=1e-3, customary=True), arguments(real=True)):
    for name, (fwd, vjp) in RULES.items():
        assert check_vjp(fwd, vjp, args[name]), name

# %% [markdown]
# And now the wrong ones:

# %%
args = arguments()
for name, (fwd, vjp) in RULES.items():
    report = check_vjp(fwd, leave_out(vjp), args[name])
    print(f"{name} without conjugates: {report.headline}")
    assert not report
    assert all(row.error > 1e-3 for row in report.failures)

print("\nthe scan, argument by argument:")
print(report)

# %% [markdown]
# (The derivative of the kernel by $C$ has no $C$ in it, but it has $\bar A^t \bar B$. There is no
# argument whose gradient is safe when everything is complex.)
#
# ### Three hiding places
#
# How wrong is wrong? Two numbers say it: the relative error, and the cosine of the angle between
# the wrong direction $p$ and the gradient $g$; below zero, the step leads uphill.
#
# $$
# \text{error} = \frac{\|p - g\|}{\|g\|}, \qquad
# \cos = \frac{\langle p, g \rangle}{\|p\|\, \|g\|} .
# $$
#
# We compute them for the gradient to the poles in four situations:
#
# 1. everything complex, dt = 0.1 s, random complex cotangents;
# 2. **real parameters** and real data;
# 3. **tiny dt** (0.1 ms) from a customary start, $B = 1$, $C = 1/4$ and a real input;
# 4. **cotangents of ones**, where only the real parts of the arguments are moved, as a quick test
#    often does.


# %%
def compare(name, args, cotangent):
    """Relative error and cosine of the gradient to the poles without conjugates."""
    fwd, vjp = RULES[name]
    out, residuals = fwd(*args)
    if isinstance(out, tuple):
        grad_out = tuple(cotangent(o) for o in out)
    else:
        grad_out = cotangent(out)
    right, wrong = vjp(residuals, grad_out)[0], leave_out(vjp)(residuals, grad_out)[0]
    if cotangent is ones:
        right, wrong = right.real, wrong.real  # all that real moves can see
    error = np.linalg.norm(wrong - right) / np.linalg.norm(right)
    cosine = inner(wrong, right) / np.linalg.norm(wrong) / np.linalg.norm(right)
    return error, cosine


def random(out):
    g = complex_normal(*np.shape(out))
    return g if np.iscomplexobj(out) else g.real


def ones(out):
    return np.ones(np.shape(out))


situations = {
    "1 complex, dt 0.1, random": (arguments(), random),
    "2 real parameters": (arguments(real=True), random),
    "3 tiny dt": (arguments(dt=1e-4, customary=True), random),
    "4 cotangents of ones": (arguments(), ones),
}
print(f"{'error / cosine':28}" + "".join(f"{name:>20}" for name in RULES))
table = {}
for situation, (args, cotangent) in situations.items():
    table[situation] = [compare(name, args[name], cotangent) for name in RULES]
    cells = "".join(f"{error:13.1e} /{cosine:5.2f}" for error, cosine in table[situation])
    print(f"{situation:28}{cells}")

errors = np.array([[error for error, _ in row] for row in table.values()])
assert np.all(errors[0] > 0.3)
assert np.all(errors[1] < 1e-14)
assert np.all(errors[2] < 0.05)
assert np.all(errors[3] < 1e-14)

# %% [markdown]
# In the first line the directions are far off. In the others the very same programs look right,
# to rounding or to a per cent. Why?
#
# * **Real parameters**: a conjugate does nothing to a real number.
# * **Tiny dt**: $\bar A$ goes to 1 and $\bar B$ to the real number `dt B`. All factors turn real,
#   and their angles are of the order $dt\,|A|$ a step.
# * **Ones**: leaving out *all* conjugates of an operator $J$ gives
#   $p = \overline{J^\dagger\, \overline g}$. For a real cotangent, ones or not, that is the
#   conjugate of the true gradient: its real part is right, and who moves only real parts looks at
#   nothing else.
#
# $$
# p(g) = \overline{ \operatorname{grad}(\overline g) } .
# $$

# %%
for name, (fwd, vjp) in RULES.items():
    out, residuals = fwd(*arguments()[name])
    g = tuple(random(o) for o in out) if isinstance(out, tuple) else random(out)
    conj_g = tuple(o.conj() for o in g) if isinstance(out, tuple) else g.conj()
    wrong = leave_out(vjp)(residuals, g)
    for p, q in zip(wrong, vjp(residuals, conj_g)):
        assert np.allclose(p, np.conj(q), rtol=1e-12)

# %% [markdown]
# Cotangents of ones have a second blind spot. The gradient to the input of a convolution reads
# the cotangent backwards in time, $\sum_j \overline{K_j}\, g_{t+j}$ [CONV-3]. Suppose someone
# runs it the wrong way round, as a causal convolution, and turns the result over at the end.
# Ones, turned over, are ones:

# %%
K, u = ops.kernels.generate(0.9 * np.exp(0.4j), 1.0, 1.0, 40), complex_normal(40)
_, residuals = ops.convolve.causal_fwd(u, K)
for label, g in (("random", complex_normal(40)), ("ones", np.ones(40, complex))):
    right = ops.convolve.causal_vjp(residuals, g)[0]
    turned = ops.convolve.causal(g, K.conj())[::-1]  # g itself should have been turned over first
    error = np.linalg.norm(turned - right) / np.linalg.norm(right)
    print(f"time reversed, cotangent {label:7} relative error {error:.1e}")
assert error < 1e-14

# %% [markdown]
# The second hiding place deserves a picture, because training usually begins there: how fast does
# the error grow with `dt`?

# %%
steps = np.geomspace(1e-5, 0.2, 40)
start = arguments(customary=True)["Tustin"]
u = rng.standard_normal(20)
found = {name: [] for name in RULES}
for step in steps:
    state = rng.bit_generator.state  # the same cotangents for every step
    A_bar, B_bar = tustin_fwd(*start[:2], step)[0]
    quarter = np.full(4, 0.25)
    for name, args in (
        ("Tustin", (*start[:2], step)),
        ("kernel", (A_bar, B_bar, quarter)),
        ("scan", (A_bar, B_bar, quarter, u)),
    ):
        found[name].append(compare(name, args, random))
    rng.bit_generator.state = state

turn = steps * np.abs(start[0]).max()
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), sharex=True)
for (name, values), style in zip(found.items(), ("-", "--", "-.")):
    error, cosine = np.array(values).T
    left.loglog(turn, error, style, lw=2, label=name)
    right.semilogx(turn, cosine, style, lw=2, label=name)
    slope = np.polyfit(np.log(turn[:15]), np.log(error[:15]), 1)[0]
    assert abs(slope - 1) < 0.1, name  # proportional to dt
left.axhline(1, color=GREY, lw=1, ls=":")
right.axhline(0, color=GREY, lw=1, ls=":")
left.set(xlabel="dt |A| (no unit)", ylabel="relative error (no unit)", title="how far off")
right.set(xlabel="dt |A| (no unit)", ylabel="cosine with the gradient (no unit)", title="which way")
left.legend()
plt.show()

# %% [markdown]
# *Gradients to the poles without conjugates, from the customary start, over the angle that the
# fastest pole turns in a step. Left: the relative error is proportional to `dt` and reaches 100 %
# before the pole turns by one radian. Right: the cosine stays near one for a long time and then
# collapses. A program that was tried at small `dt` only has been tried in the flat part.*
#
# ## Descent with right and wrong gradients
#
# What does a wrong gradient do to training? We look for the pole $\bar A$ of a kernel whose
# samples we know:
#
# $$
# L(\bar A) = \tfrac12 \sum_{t=0}^{L-1} \left| \bar A^{\,t} - \bar A_*^{\,t} \right|^2,
# \qquad
# \operatorname{grad}_{\bar A} = \sum_t \overline{t\, \bar A^{\,t-1}}\;
# \left( \bar A^{\,t} - \bar A_*^{\,t} \right) .
# $$

# %%
goal, samples, rate = 0.8 * np.exp(0.9j), 12, 0.05
t = np.arange(samples)


def fit_fwd(pole):
    e = pole**t - goal**t
    return 0.5 * np.sum(np.abs(e) ** 2), (pole, e)


def fit_vjp(residuals, grad_loss, conj=np.conj):
    pole, e = residuals
    return (grad_loss * np.sum(conj(t * pole ** np.maximum(t - 1, 0)) * e),)


assert check_vjp(fit_fwd, fit_vjp, (0.6 + 0.3j,))
assert not check_vjp(fit_fwd, leave_out(fit_vjp), (0.6 + 0.3j,))


def descend(pole, vjp, epochs=150):
    path, losses = [], []
    for _ in range(epochs):
        value, residuals = fit_fwd(pole)
        path.append(pole)
        losses.append(value)
        pole = pole - rate * vjp(residuals, 1.0)[0]
        if abs(pole) > 1.1:
            break
    return np.array(path), np.array(losses)


# %%
starts = (0.6 + 0.02j, 0.5 + 0.2j, -0.2 + 0.6j)
x, y = np.linspace(-0.45, 1.0, 200), np.linspace(-0.1, 1.0, 160)
levels = np.geomspace(0.02, 12, 12)
surface = [[fit_fwd(p)[0] for p in row] for row in x + 1j * y[:, None]]
fig, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.4), width_ratios=(1.25, 1))
left.contour(x, y, surface, levels=levels, cmap="cividis", linewidths=0.7, alpha=0.7)
for rule, colour, label in (
    (fit_vjp, BLUE, "with conj"),
    (leave_out(fit_vjp), VERMILION, "without"),
):
    for i, begin in enumerate(starts):
        path, losses = descend(begin, rule)
        style = {"color": colour, "lw": 1.6, "label": label if i == 0 else None}
        left.plot(path.real, path.imag, ".-", ms=4, **style)
        right.semilogy(np.maximum(losses, 1e-6), **style)
        if rule is fit_vjp:
            assert losses[-1] < 1e-6
        else:
            assert losses.min() > 0.1
            assert losses[-1] > losses.min()  # it climbs in the end
left.plot([s.real for s in starts], [s.imag for s in starts], "ko", ms=5)
left.plot(goal.real, goal.imag, "*", color="black", ms=14)
left.set(
    aspect="equal", xlabel=r"Re $\bar A$", ylabel=r"Im $\bar A$", xlim=(-0.45, 1), ylim=(-0.1, 1)
)
right.set(xlabel="epoch", ylabel="loss (squared units)")
left.legend(loc="lower left", facecolor="white", framealpha=1, frameon=True)
plt.show()

# %% [markdown]
# *Three descents (dots: start, star: goal) on the level lines of the loss. With the conjugate
# (blue) all arrive. Without it (orange) they gather at a point that is no minimum: the loss falls
# at first and then rises again. Right: the same as loss curves; blue curves below 1e-6 are drawn
# there.*
#
# Mind the first orange epochs. The loss *falls*: a loss that decreases proves nothing about a
# gradient. Where other parameters have right gradients, they may even repair some of the damage,
# and training "works". Only a check against differences tells, with complex parameters, complex
# data, dt |A| near 1 and random cotangents.
#
# ## What to save, and what to recompute
#
# A conjugate is a change of sign: it costs nothing and nothing need be saved for it. What the
# backward pass needs is $f'(z)$, and often the forward pass has already computed most of it. The
# exponential is its own derivative, so that `wave_fwd` saved `power` instead of calling `exp`
# again. In Tustin's map every derivative contains the same reciprocal, [TUSTIN-4, 5, 6]:
#
# $$
# \frac{\partial \bar A}{\partial A} = \frac{dt}{(1-z)^2}, \quad
# \frac{\partial \bar A}{\partial dt} = \frac{A}{(1-z)^2}, \quad
# \frac{\partial \bar B}{\partial B} = \frac{dt}{1-z}, \qquad z = \frac{dt\, A}{2} .
# $$

# %%
A, B, dt = arguments()["Tustin"]
_, saved = ops.discretize.tustin_fwd(A, B, dt)
print("saved by tustin:", ", ".join(saved._fields))
assert np.allclose(saved.reciprocal, 1 / (1 - dt * A / 2))

h = 1e-6
A_bar = {step: ops.discretize.tustin(A, B, dt + step)[0] for step in (h, -h)}
assert np.allclose((A_bar[h] - A_bar[-h]) / (2 * h), A * saved.reciprocal**2)
A_bar = {step: ops.discretize.tustin(A + step, B, dt)[0] for step in (h, -h)}
assert np.allclose((A_bar[h] - A_bar[-h]) / (2 * h), dt * saved.reciprocal**2)
B_bar = {step: ops.discretize.tustin(A, B + step, dt)[1] for step in (h, -h)}
assert np.allclose((B_bar[h] - B_bar[-h]) / (2 * h), dt * saved.reciprocal)

# %% [markdown]
# ## Fast equals slow
#
# The vjps of the package, the plain ones of `ssm_manual.reference`, and the three that we wrote
# here are one and the same.

# %%
args = arguments()
g = complex_normal(4), complex_normal(4)
_, residuals = ops.discretize.tustin_fwd(*args["Tustin"])
fast = ops.discretize.tustin_vjp(residuals, g)
slow = reference.discretize.tustin_vjp(*args["Tustin"], *g)
ours = tustin_vjp(tustin_fwd(*args["Tustin"])[1], g)
for a, b, c in zip(fast, slow, ours):
    assert np.allclose(a, np.sum(b) if np.ndim(a) == 0 else b, rtol=1e-13)
    assert np.allclose(a, c, rtol=1e-13)

g = complex_normal(4, 20)
_, residuals = ops.kernels.generate_fwd(*args["kernel"], 20)
*fast, _ = ops.kernels.generate_vjp(residuals, g)
slow = reference.kernels.generate_vjp(*args["kernel"], 20, g)
ours = kernel_vjp(kernel_fwd(*args["kernel"])[1], g)
for a, b, c in zip(fast, slow, ours):
    assert np.allclose(a, b, rtol=1e-12)
    assert np.allclose(a, c, rtol=1e-12)

*poles, u = args["scan"]
e = complex_normal(20)
operands = *(a[None] for a in poles), None, u[None, None]  # axes for batch and channel
_, residuals = ops.scan.scan_fwd(*operands, real=False)
grads = ops.scan.scan_vjp(residuals, (e[None, None], None))
fast = *grads[:3], grads[4]
x0, grad_x_last = np.zeros((1, 1, 4), complex), np.zeros((1, 1, 4), complex)
grads = reference.scan.scan_vjp(*operands, x0, e[None, None], grad_x_last, real=False)
slow = *grads[:3], grads[4]
ours = scan_vjp(scan_fwd(*poles, u)[1], e)
for a, b, c in zip(fast, slow, ours):
    assert np.allclose(a, b, rtol=1e-12)
    assert np.allclose(np.ravel(a), c, rtol=1e-12)
print("Tustin, kernel and scan: fast, reference and ours agree")

# %% [markdown]
# ## Timing
#
# Why derive gradients by hand if differences give them as well? Because a difference answers one
# question at a time: it needs several runs of the forward operator for each real number among the
# arguments, while a vjp returns all of them for about the price of one more run.


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


print(f"{'poles':>6} {'forward':>10} {'vjp':>10} {'differences':>12}   ratio to the vjp")
for n in (2, 8, 32):
    poles = 0.95 * np.exp(1j * rng.uniform(0, 3, n))
    args = (poles, complex_normal(n), complex_normal(n), 256)
    g = complex_normal(n, 256)
    _, residuals = ops.kernels.generate_fwd(*args)
    forward = shortest(lambda args=args: ops.kernels.generate_fwd(*args))
    backward = shortest(lambda r=residuals, g=g: ops.kernels.generate_vjp(r, g))
    start = time.perf_counter()
    numeric = numeric_gradient(ops.kernels.generate_fwd, args, 0, g)
    differences = time.perf_counter() - start
    assert np.allclose(numeric, ops.kernels.generate_vjp(residuals, g)[0], rtol=1e-6)
    print(
        f"{n:6d} {1e3 * forward:7.2f} ms {1e3 * backward:7.2f} ms {1e3 * differences:9.1f} ms"
        f"   {differences / backward:6.0f}"
    )

# %% [markdown]
# (The differences are for the poles alone; the vjp returns all three gradients.)
#
# ## Exercise: a function that is not holomorphic
#
# An amplifier that bends with the strength of its input,
#
# $$
# w = z\, |z|^2 = z^2\, \overline z ,
# $$
#
# has no complex derivative, because $\overline z$ is in it. The way through [COMPLEX-2] still
# works: write $dw$ in terms of $dz$ and $d\overline z$, put it into $\langle g, dw \rangle$, and
# use $\operatorname{Re}(a\, \overline{dz}) = \operatorname{Re}(\overline a\, dz)$. `yours` has the
# rule that would hold if $|z|^2$ were a constant. Mend it.


# %%
def bend_fwd(z):
    return z * np.abs(z) ** 2, z


def yours(z, grad_w):
    """Wrong: |z|^2 depends on z."""
    grad_z = np.abs(z) ** 2 * grad_w
    return (grad_z,)


# %%
def check(vjp):
    """Whether the vjp of z |z|^2 stands up to finite differences."""
    report = check_vjp(bend_fwd, vjp, (complex_normal(6),))
    return f"{'solved' if report else 'not yet'}: {report.headline}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# By the product rule $dw = 2 |z|^2\, dz + z^2\, \overline{dz}$. Then
#
# $$
# dL = \operatorname{Re}\left( \overline g\, 2|z|^2\, dz \right)
# + \operatorname{Re}\left( \overline g\, z^2\, \overline{dz} \right)
# = \langle 2 |z|^2 g, dz \rangle + \operatorname{Re}\left( g\, \overline{z}^2\, dz \right),
# $$
#
# and $\operatorname{Re}(g\, \overline z^2 dz) = \langle \overline{g}\, z^2, dz \rangle$:
#
# ```python
# def yours(z, grad_w):
#     grad_z = 2 * np.abs(z) ** 2 * grad_w + z**2 * np.conj(grad_w)
#     return (grad_z,)
# ```
#
# The second term has the conjugate on the *cotangent*: that is what $\overline z$ does.
#
# </details>
#
# Next: [notebook 3](03_backpropagation_through_time.ipynb) takes the gradient of a whole recurrence
# with nothing but this line and these checks.
