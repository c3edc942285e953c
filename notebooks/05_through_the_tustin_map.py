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
# # 5. Through the Tustin map, to A, B and dt
#
# A continuous model $\dot x = A x + B u$ is what a physicist writes down; a computer steps from
# sample to sample. Between them stands a map from $(A, B, dt)$ to $(\bar A, \bar B)$. When we train
# the continuous parameters, the gradient has to come back through that map. Published guides go
# back to $A$ and $B$ and stop. We go on to $dt$.
#
# The map is that of Tustin, or bilinear, or trapezoidal. Needed from before: why gradients carry
# conjugates (notebook 2), and the gradients to $\bar A$ and $\bar B$ (notebook 3). Labels such as
# [TUSTIN-4] are those of [Tustin's map](../docs/derivations/tustin.md), [ZOH-7] those of
# [Zero-order hold](../docs/derivations/zoh.md).

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.tasks import published

plt.rcParams.update(plots.STYLE)
rng = np.random.default_rng(5)


def complex_normal(*shape):
    """Complex numbers with independent normal parts."""
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def relative(a, b):
    """|a - b| / |b|."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


# %% [markdown]
# ## The equation
#
# Integrate $\dot x = A x + B u$ over one step of $dt$ seconds. For the integral of $A x$ take the
# mean of both ends times $dt$ (the trapezium rule), for the input its value at the end of the step:
#
# $$x_t - x_{t-1} = \frac{dt}{2} A\, (x_t + x_{t-1}) + dt\, B\, u_t .$$
#
# Solve for $x_t$, with $z = dt\, A / 2$, and read off
#
# $$\bar A = \frac{1 + z}{1 - z} \quad\text{[TUSTIN-1]}, \qquad
# \bar B = \frac{\sigma\, B}{1 - z}, \quad
# \sigma = \begin{cases} dt & \text{[TUSTIN-2]} \\ \sqrt{dt} & \text{[TUSTIN-3]} \end{cases}$$
#
# The trapezium rule gives $\sigma = dt$. The variant $\sqrt{dt}$ keeps the energy that a white
# input brings in per second the same at any sampling rate. Both are in use, under one name; at
# $dt = 0.1$ they differ by a factor of $\sqrt{10}$, so we look which one a text means.
#
# ## The reference
#
# `ssm_manual.reference.discretize.tustin` is those two lines. We check that its result solves the
# equation it came from.

# %%
A = np.array([-1 + 2j, -0.5 + 9j, -30 + 0j])  # 1/s
B = complex_normal(3)
dt = 0.1  # seconds per sample

A_bar, B_bar = reference.discretize.tustin(A, B, dt)
before, u_t = complex_normal(3), 0.7
after = A_bar * before + B_bar * u_t
left = after - before
right = dt / 2 * A * (after + before) + dt * B * u_t
print(f"both sides of the trapezium rule agree to {relative(left, right):.1e}")
assert np.allclose(left, right, rtol=1e-13)

_, B_sqrt = reference.discretize.tustin(A, B, dt, input_scale="sqrt_dt")
print("B_bar with sqrt_dt over B_bar with dt:", (B_sqrt / B_bar).real.round(3))

# %% [markdown]
# ### The map, drawn
#
# $|1 - z|^2 - |1 + z|^2 = -4 \operatorname{Re} z$: left of the imaginary axis the numerator is the
# smaller one. So stable continuous poles become stable discrete ones, whatever $dt$.

# %%
z = -np.abs(complex_normal(10_000).real) * 10 + 10j * complex_normal(10_000).real
assert np.all(np.abs((1 + z) / (1 - z)) < 1)

figure, (plane, disc) = plt.subplots(1, 2, figsize=(9.6, 4.7))
along = np.concatenate([-np.geomspace(1e-3, 400, 600)[::-1], [0], np.geomspace(1e-3, 400, 600)])
reals, imaginaries = (0, -0.25, -0.5, -1, -2), (-2, -1, -0.5, 0, 0.5, 1, 2)
clear = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
colour_re, colour_im = plots.COLOURS["blue"], plots.COLOURS["orange"]
for real in reals:
    line = real + 1j * along
    image = (1 + line) / (1 - line)
    width = 2 if real == 0 else 1
    plane.plot(line.real, line.imag, color=colour_re, linewidth=width)
    disc.plot(image.real, image.imag, color=colour_re, linewidth=width)
for imaginary in imaginaries:
    line = -np.geomspace(1e-4, 400, 600) + 1j * imaginary
    image = (1 + line) / (1 - line)
    plane.plot(line.real, line.imag, color=colour_im, linewidth=1)
    disc.plot(image.real, image.imag, color=colour_im, linewidth=1)
for ax, point, label in (
    (plane, 0, "A = 0"),
    (disc, 1, "A = 0"),
    (plane, -1, "A = -2/dt"),
    (disc, 0, "A = -2/dt"),
):
    ax.plot(point, 0, "o", color="black", markersize=5)
    ax.annotate(label, (point, 0), (6, 7), textcoords="offset points", fontsize=9, bbox=clear)
disc.plot(-1, 0, "o", color="black", markersize=5)
disc.annotate("A = ∞", (-1, 0), (-16, 8), textcoords="offset points", fontsize=9, ha="right")
plane.set(xlim=(-3.3, 0.9), ylim=(-2.2, 2.2), aspect="equal", title="continuous poles")
plane.set(xlabel="Re A · dt/2 (no unit)", ylabel="Im A · dt/2 (no unit)")
disc.set(xlim=(-1.55, 1.45), ylim=(-1.2, 1.2), aspect="equal", title="discrete poles")
disc.set(xlabel="Re A_bar (no unit)", ylabel="Im A_bar (no unit)")
plt.show()

# %% [markdown]
# *Tustin's map takes the left half plane onto the unit disc. The imaginary axis (thick blue)
# becomes the unit circle, lines of constant damping (blue) become circles that touch at $-1$, lines
# of constant frequency (orange) become arcs. Slow poles gather at $+1$; a pole much faster than the
# step ends up near $-1$, where it rings from sample to sample.*
#
# ## Derive
#
# Everything is a quotient in $z$:
#
# $$\frac{d\bar A}{dz} = \frac{2}{(1 - z)^2}, \qquad
# \frac{d}{dz} \frac{1}{1 - z} = \frac{1}{(1 - z)^2}, \qquad
# \frac{\partial z}{\partial A} = \frac{dt}{2}, \qquad
# \frac{\partial z}{\partial dt} = \frac{A}{2} .$$
#
# The map is holomorphic in $A$, so a derivative along the real axis is the derivative. A small
# helper takes it by a five-point difference.


# %%
def slope(f, at):
    """Derivative of f by five points."""
    h = 1e-3 * np.abs(at)
    return (f(at - 2 * h) - 8 * f(at - h) + 8 * f(at + h) - f(at + 2 * h)) / (12 * h)


def compare(label, formula, numeric):
    """Formula beside difference."""
    print(f"{label:22s} relative difference {relative(formula, numeric):.1e}")
    assert np.allclose(formula, numeric, rtol=1e-8)


tustin = reference.discretize.tustin
z = dt * A / 2
compare("dA_bar/dz", 2 / (1 - z) ** 2, slope(lambda z: (1 + z) / (1 - z), z))
compare("d(1/(1 - z))/dz", 1 / (1 - z) ** 2, slope(lambda z: 1 / (1 - z), z))
compare("dz/ddt", A / 2, slope(lambda d: d * A / 2, dt))

# %% [markdown]
# $$\frac{\partial \bar A}{\partial A} = \frac{dt}{(1 - z)^2} \quad\text{[TUSTIN-4]}, \qquad
# \frac{\partial \bar A}{\partial dt} = \frac{A}{(1 - z)^2} \quad\text{[TUSTIN-5]}$$

# %%
compare("dA_bar/dA [TUSTIN-4]", dt / (1 - z) ** 2, slope(lambda a: tustin(a, B, dt)[0], A))
compare("dA_bar/ddt [TUSTIN-5]", A / (1 - z) ** 2, slope(lambda d: tustin(A, B, d)[0], dt))

# %% [markdown]
# $$\frac{\partial \bar B}{\partial B} = \frac{\sigma}{1 - z} \quad\text{[TUSTIN-6]}, \qquad
# \frac{\partial \bar B}{\partial A} = \frac{\sigma\, dt\, B}{2 (1 - z)^2} \quad\text{[TUSTIN-7]}$$

# %%
for scale, sigma in (("dt", dt), ("sqrt_dt", np.sqrt(dt))):
    print(f'input_scale="{scale}"')
    numeric = slope(lambda b, scale=scale: tustin(A, b, dt, input_scale=scale)[1], B)
    compare("dB_bar/dB [TUSTIN-6]", sigma / (1 - z), numeric)
    numeric = slope(lambda a, scale=scale: tustin(a, B, dt, input_scale=scale)[1], A)
    compare("dB_bar/dA [TUSTIN-7]", sigma * dt * B / (2 * (1 - z) ** 2), numeric)

# %% [markdown]
# In $\bar B$ both factors depend on $dt$, so the product rule has two terms. They combine:
#
# $$\frac{\partial \bar B}{\partial dt} = \frac{B}{1 - z} + dt\, B\, \frac{A/2}{(1 - z)^2}
# = \frac{B (1 - z) + B z}{(1 - z)^2} = \frac{B}{(1 - z)^2} ,$$
#
# and with $\sqrt{dt}$, whose derivative is $1/(2\sqrt{dt})$, likewise:
#
# $$\frac{\partial \bar B}{\partial dt} =
# \begin{cases} \dfrac{B}{(1 - z)^2} & \text{scale } dt \\[2ex]
# \dfrac{B\, (1 + z)}{2 \sqrt{dt}\, (1 - z)^2} & \text{scale } \sqrt{dt}
# \end{cases} \qquad\text{[TUSTIN-8]}$$

# %%
formulas = {"dt": B / (1 - z) ** 2, "sqrt_dt": B * (1 + z) / (2 * np.sqrt(dt) * (1 - z) ** 2)}
for scale, formula in formulas.items():
    numeric = slope(lambda d, scale=scale: tustin(A, B, d, input_scale=scale)[1], dt)
    compare(f"dB_bar/ddt, {scale}", formula, numeric)
two_terms = B / (1 - z) + dt * B * (A / 2) / (1 - z) ** 2
assert np.allclose(two_terms, formulas["dt"], rtol=1e-13)
one_term = B / (1 - z)  # the second factor's dependence on dt forgotten
off = relative(one_term, formulas["dt"])
print(f"with the first term of the product rule alone: {off:.0%} off")
assert off > 0.1

# %% [markdown]
# Now the gradients. With the cotangents $g_A$ and $g_B$ of $\bar A$ and $\bar B$,
# $dL = \langle g_A, d\bar A \rangle + \langle g_B, d\bar B \rangle$. Each factor changes sides with
# a conjugate [COMPLEX-6]. $dt$ is one real number for all poles: sum over what it was broadcast to
# [COMPLEX-5] and take the real part [COMPLEX-4].
#
# $$\begin{aligned}
# \operatorname{grad}_A &= \overline{\frac{dt}{(1-z)^2}}\; g_A
# + \overline{\frac{\sigma\, dt\, B}{2 (1-z)^2}}\; g_B \\
# \operatorname{grad}_B &= \overline{\frac{\sigma}{1-z}}\; g_B \qquad\qquad\text{[TUSTIN-9]} \\
# \operatorname{grad}_{dt} &= \operatorname{Re} \sum \left(
# \overline{\frac{\partial \bar A}{\partial dt}}\; g_A
# + \overline{\frac{\partial \bar B}{\partial dt}}\; g_B \right)
# \end{aligned}$$


# %%
def slow_fwd(A, B, dt, *, input_scale="dt"):
    """[TUSTIN-1, 2, 3]."""
    sigma = dt if input_scale == "dt" else np.sqrt(dt)
    reciprocal = 1 / (1 - dt * A / 2)
    out = (1 + dt * A / 2) * reciprocal, sigma * B * reciprocal
    return out, (A, B, dt, reciprocal, input_scale)


def slow_vjp(residuals, grad_out, conj=np.conj):
    """[TUSTIN-9]; `conj` is there to be left out below."""
    A, B, dt, r, input_scale = residuals
    g_A, g_B = grad_out
    if input_scale == "dt":
        sigma, dB_bar_ddt = dt, B * r**2
    else:
        sigma, dB_bar_ddt = np.sqrt(dt), B * (1 + dt * A / 2) * r**2 / (2 * np.sqrt(dt))
    grad_A = conj(dt * r**2) * g_A + conj(sigma * dt * B / 2 * r**2) * g_B
    grad_B = conj(sigma * r) * g_B
    grad_dt = np.sum(conj(A * r**2) * g_A + conj(dB_bar_ddt) * g_B).real
    return grad_A, grad_B, grad_dt


# %% [markdown]
# ## The check

# %%
for scale in ("dt", "sqrt_dt"):
    report = check_vjp(slow_fwd, slow_vjp, (A, B, dt), input_scale=scale)
    assert report
    print(f'input_scale="{scale}": {report}\n')

# %% [markdown]
# ### And without the conjugates?


# %%
def without_conjugates(residuals, grad_out):
    """[TUSTIN-9] as it would be for real numbers."""
    return slow_vjp(residuals, grad_out, conj=lambda factor: factor)


for step in (1e-3, 0.1):
    found = check_vjp(slow_fwd, without_conjugates, (A, B, step))
    assert not found
    print(f"dt = {step}: {found}\n")

# %% [markdown]
# The check fails, and how badly depends on $dt$. In the gradients to $A$ and $B$ the factors are
# $1/(1 - z)$ and its square: for $dt \to 0$ they turn real, and the error hides. (In the gradient
# to $dt$ it cannot hide: $A$ itself is one of the factors.) So we measure it where it matters, in
# the gradient of a whole model's loss. We take the four poles of a published demonstration,
# $A = -\tfrac12 + i\pi\, 10^{2n/3 - 1}$, $B = 1$, $C = \tfrac14$, 500 samples of
# $\sin 2t + \sin 20t$ and the target $\sin 2t$, and vary $dt$; and once more the same poles with
# complex white noise for $B$, $C$, input and target (20 draws). The published engine leaves the
# conjugates out in just this place. Before anything is drawn we make sure that it is the model, the
# loss and the gradient of that demonstration, and that a cosine is one.

# %%
poles = -0.5 + 1j * np.pi * 10 ** (2 * np.arange(4) / 3 - 1)  # 1/s


def demonstration(step):
    """A, B, C, dt, input and target of the published demonstration, sampled every `step` s."""
    t = step * np.arange(500)
    signal, target = np.sin(2 * t) + np.sin(20 * t), np.sin(2 * t)
    return poles, np.ones(4, complex), np.full(4, 0.25 + 0j), step, signal, target


def both_gradients(A, B, C, dt, u, target):
    """The gradient to A through the map, with and without conjugates."""
    (A_bar, B_bar), of_map = slow_fwd(A, B, dt)
    (y, _), of_scan = ops.scan.scan_fwd(
        A_bar[None], B_bar[None], C[None], None, u[None, None], real=False
    )
    e = (y - target) / u.size
    grads = [grad[0] for grad in ops.scan.scan_vjp(of_scan, (e, None))[:2]]
    return slow_vjp(of_map, grads)[0], without_conjugates(of_map, grads)[0]


def cosine(a, b):
    """<a, b> / (|a| |b|)."""
    return float(np.vdot(a, b).real / (np.linalg.norm(a) * np.linalg.norm(b)))


def demonstrated_loss(A, step):
    """The loss by a plain loop."""
    _, B, C, step, signal, target = demonstration(step)
    (A_bar, B_bar), x, total = slow_fwd(A, B, step)[0], 0, 0
    for u_t, target_t in zip(signal, target):
        x = A_bar * x + B_bar * u_t
        total += abs(np.sum(C * x) - target_t) ** 2
    return total / (2 * signal.size)


for value, name in zip(demonstration(1e-3), "ABC"):
    assert np.allclose(value, published.long_model().params[name])
assert np.allclose(demonstration(1e-3)[4:], published.long_data(), atol=1e-6)
way = np.array([1, 1j, 1 - 1j, -1 + 0.5j])
for step in (1e-3, 0.1):
    true, wrong = both_gradients(*demonstration(step))
    change = slope(lambda h, step=step: demonstrated_loss(poles + (h - 1) * way, step), 1.0)
    assert np.isclose(np.vdot(true, way).real, change, rtol=1e-6)
    assert not np.isclose(np.vdot(wrong, way).real, change, rtol=1e-3)
turned = np.exp(1j * np.arange(1, 5))
assert np.isclose(cosine(turned, 3 * turned), 1)
assert np.isclose(cosine(turned, 1j * turned), 0)

# %%
sizes = np.sort(np.concatenate([np.geomspace(1e-4, 0.3, 22), np.linspace(0.097, 0.104, 8)]))
curves = {"demonstration": [], "complex noise": []}
for step in sizes:
    true, wrong = both_gradients(*demonstration(step))
    curves["demonstration"].append((relative(wrong, true), cosine(wrong, true)))
    drawn = []
    for _ in range(20):
        noise = complex_normal(4), complex_normal(4), step, complex_normal(500), complex_normal(500)
        true, wrong = both_gradients(poles, *noise)
        drawn.append((relative(wrong, true), cosine(wrong, true)))
    curves["complex noise"].append(np.mean(drawn, axis=0))

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.5))
for (name, values), style in zip(curves.items(), ("o-", "s--")):
    error, direction = np.array(values).T
    axes[0].loglog(sizes, 100 * error, style, markersize=4, label=name)
    axes[1].semilogx(sizes, direction, style, markersize=4, label=name)
axes[0].set(xlabel="dt (s)", ylabel="distance from the gradient (%)")
axes[1].set(xlabel="dt (s)", ylabel="cosine with the gradient (no unit)", ylim=(-0.6, 1.05))
axes[1].axhline(0, color="0.7", linewidth=0.8)
axes[0].legend()
plt.show()

# %% [markdown]
# *What leaving out the conjugates of Tustin's derivatives does to the gradient to $A$, as $dt$
# grows: its distance relative to the gradient's length, and its direction.*

# %%
measured = {}
for step in (1e-3, 1e-2, 0.09, 0.1, 0.11):
    true, wrong = both_gradients(*demonstration(step))
    measured[step] = error, angle = relative(wrong, true), cosine(wrong, true)
    print(f"demonstration, dt = {step:5g} s: {100 * error:6.2f} % off, cosine {angle:+.4f}")
assert abs(measured[1e-3][0] - 0.007) < 5e-4
assert 0.24 < measured[0.09][0] < measured[0.11][0] < 0.31
assert measured[0.1][0] > 1  # further off than zero would be
assert measured[0.1][1] < 0  # and uphill
pole_angle = np.angle(ops.discretize.tustin(poles[3], 1.0, 0.1)[0])
assert abs(pole_angle - 20 * 0.1) < 0.02  # radians a sample: the pole's, and that of sin 20t
t = 0.1 * np.arange(20)
short = np.array([-1 + 1.99j, -1 + 2j, -1 + 2.01j, -1 + 5j]), np.ones(4), np.full(4, 0.25 + 0j), 0.1
true, wrong = both_gradients(*short, np.sin(2 * t) + np.sin(20 * t), np.sin(2 * t))
error, angle = relative(wrong, true), cosine(wrong, true)
print(f"the run of 20 samples, dt = 0.1 s: {100 * error:6.2f} % off, cosine {angle:+.4f}")
assert abs(error - 0.44) < 0.005

# %% [markdown]
# At $dt = 10^{-3}$ the demonstration's gradient is 0.7 % off and points the right way: nobody
# notices. Around $dt = 0.1$ it is 25 to 30 % off; and at $dt = 0.1$ itself, where the map sends the
# fourth pole to an angle of 2.0 radians a sample and so into resonance with $\sin 20t$, it is
# further from the gradient than zero would be and points uphill. (The authors' shorter run of 20
# samples, which notebook 7 repeats, would be 44 % off at its start.) An error that depends on the
# sampling rate and on the data is best found by a check, with complex numbers and with $dt |A|$
# near 1.
#
# ## The whole chain
#
# The map is one link. Forwards: $(A, B, dt) \to (\bar A, \bar B) \to y \to L$. Backwards every
# link's vjp takes what the link after it hands back:
#
# $$\operatorname{grad}_y \;\xrightarrow{\;\text{scan}\;}\;
# (\operatorname{grad}_{\bar A}, \operatorname{grad}_{\bar B}, \operatorname{grad}_C, \dots)
# \;\xrightarrow{\;\text{map}\;}\;
# (\operatorname{grad}_A, \operatorname{grad}_B, \operatorname{grad}_{dt}) .$$
#
# $\operatorname{grad}_y = e / n$ [LOSS-1], the first arrow is [SCAN-3] to [SCAN-10] of notebook 3,
# the second [TUSTIN-9].
#
# Composed like this, the chain is an op itself, from parameters and input to a single number, and
# `check_vjp` checks it from end to end.


# %%
def model_fwd(A, B, C, D, dt, u, *, target, input_scale="dt"):
    """half_mse of the continuous model's real output."""
    bars, of_map = ops.discretize.tustin_fwd(A, B, dt, input_scale=input_scale)
    (y, _), of_scan = ops.scan.scan_fwd(*bars, C, D, u)
    loss, of_loss = ops.loss.half_mse_fwd(y, target)
    return loss, (of_map, of_scan, of_loss)


def model_vjp(residuals, grad_loss):
    """The same links from the last to the first."""
    of_map, of_scan, of_loss = residuals
    grad_y, _ = ops.loss.half_mse_vjp(of_loss, grad_loss)
    *grad_bars, grad_C, grad_D, grad_u, _ = ops.scan.scan_vjp(of_scan, (grad_y, None))
    grad_A, grad_B, grad_dt = ops.discretize.tustin_vjp(of_map, grad_bars)
    return grad_A, grad_B, grad_C, grad_D, grad_dt, grad_u


H, N, L = 2, 4, 40
arguments = (
    -rng.uniform(0.5, 3, (H, N)) + 1j * rng.uniform(0, 12, (H, N)),  # A, 1/s
    complex_normal(H, N),  # B
    complex_normal(H, N),  # C
    rng.standard_normal(H),  # D
    np.array([[0.1], [0.05]]),  # dt, one a channel
    rng.standard_normal((3, H, L)),  # u
)
target = rng.standard_normal((3, H, L))
report = check_vjp(model_fwd, model_vjp, arguments, target=target)
assert report
assert check_vjp(model_fwd, model_vjp, arguments, target=target, input_scale="sqrt_dt")
report

# %% [markdown]
# `dt` is (2, 1) here, one for each channel, shared by its four poles: its gradient came back with
# the same shape. What does a gradient to $dt$ mean? A model's answer to a change of $dt$ is its
# answer to the same signal played faster or slower. A model with the right poles and the wrong
# clock can find the clock:

# %%
true_dt, guess = 0.05, 0.06
A_one, C_one = np.array([[-1 + 8j]]), np.array([[0.5 - 0.3j]])
signal = rng.standard_normal((1, 1, 200))
wanted, _ = ops.scan.scan(*ops.discretize.tustin(A_one, 1.0, true_dt), C_one, None, signal)
for update in range(201):
    loss, residuals = model_fwd(A_one, 1.0, C_one, None, guess, signal, target=wanted)
    if update % 40 == 0:
        print(f"update {update:3d}: dt {guess:.9f} s, loss {loss:.1e}")
    guess = guess * np.exp(-1.0 * guess * model_vjp(residuals, 1.0)[4])  # descends in log dt
assert abs(guess - true_dt) < 1e-9

# %% [markdown]
# ## Zero-order hold beside it
#
# The other common map is exact for an input that stays constant during each step:
#
# $$\bar A = e^z, \quad z = dt\, A \quad\text{[ZOH-1]}, \qquad
# \bar B = dt\, B\, \varphi_1(z), \quad \varphi_1(z) = \frac{e^z - 1}{z} \quad\text{[ZOH-2]},$$
#
# $$\varphi_1'(z) = \frac{e^z - \varphi_1(z)}{z} = \sum_{k \ge 0} \frac{(k+1)\, z^k}{(k+2)!} .
# \qquad\text{[ZOH-4]}$$
#
# We hold them against what they stand for: the map against the integral of $e^{s A} B$ over one
# step, the derivative of $\varphi_1$ against differences, and the series against it.

# %%
zoh_A, zoh_B = reference.discretize.zoh(A, B, dt)
s, weight = np.polynomial.legendre.leggauss(20)  # a quadrature of 20 points on [-1, 1]
integral = dt / 2 * np.exp(np.outer(A, dt / 2 * (1 + s))) @ weight
compare("A_bar [ZOH-1]", zoh_A, 1 + A * integral)  # x' = A x from x = 1
compare("B_bar [ZOH-2]", zoh_B, integral * B)

w, phi1 = dt * A, reference.discretize.phi1
closed = (np.exp(w) - phi1(w)) / w
compare("phi1' [ZOH-4]", closed, slope(phi1, w))
term, series = np.full(3, 0.5 + 0j), 0
for k in range(60):
    series = series + (k + 1) * term
    term = term * w / (k + 3)
compare("its series [ZOH-4]", series, closed)

# %% [markdown]
# Its gradients take the same three lines, and one of them comes out shorter than it looks: in
# $\operatorname{grad}_{dt}$ the derivative of $dt\,\varphi_1(dt\, A)$ is simply $e^z$ [ZOH-7].

# %%
report = check_vjp(ops.discretize.zoh_fwd, ops.discretize.zoh_vjp, (A, B, dt))
assert report
h = 1e-4
held = [step * reference.discretize.phi1(step * A) for step in (dt - h, dt + h)]
assert np.allclose((held[1] - held[0]) / (2 * h), np.exp(dt * A), rtol=1e-4)
report

# %% [markdown]
# What is delicate is the arithmetic. Training usually begins with $dt \approx 10^{-3}$, so $z$ is
# close to 0, where $e^z$ is close to 1 and both closed forms subtract nearly equal numbers. In
# complex64:

# %%
sizes = np.geomspace(1e-5, 4, 120)
angles = np.exp(1j * np.linspace(0.5 * np.pi, 1.5 * np.pi, 41))[:, None]
exact_z = (sizes * angles).astype(np.complex64)
wide = exact_z.astype(complex)
series, term = np.zeros_like(wide), np.ones_like(wide) / 2
for k in range(60):
    series += (k + 1) * term
    term *= wide / (k + 3)

one = np.complex64(1)
e_z = np.exp(exact_z)
phi = (e_z - one) / exact_z
forms = {
    "(e^z (z - 1) + 1) / z²": (e_z * (exact_z - one) + one) / exact_z**2,
    "(e^z - φ₁) / z": (e_z - phi) / exact_z,
    "the package": None,
}
step = np.float32(1)  # dt 1, B 1: the cotangent of B_bar alone brings out conj(phi1')
_, residuals = ops.discretize.zoh_fwd(exact_z, np.complex64(1), step)
grads = ops.discretize.zoh_vjp(residuals, (np.zeros_like(exact_z), np.ones_like(exact_z)))
forms["the package"] = grads[0].conj()

figure, ax = plt.subplots(figsize=(7, 3.8))
for (name, values), style in zip(forms.items(), ("-", "--", "-")):
    errors = np.abs(values - series) / np.abs(series)
    ax.loglog(sizes, np.maximum(errors.max(axis=0), 1e-9), style, label=name)
    near, far = errors[:, sizes < 1e-3].max(), errors[:, sizes > 1].max()
    assert far < 1e-5, name  # all are the same formula
    assert (near < 1e-6) == (name == "the package")
ax.axhline(2.0**-24, color="0.6", linewidth=0.8)
ax.annotate(
    "rounding of complex64", (1.1e-5, 2.0**-24), (0, 4), textcoords="offset points", fontsize=8
)
ax.axvline(5e-4, color="0.6", linewidth=0.8, linestyle=":")
ax.annotate("dt 1e-3, A -1/2", (5e-4, 3e4), (4, 0), textcoords="offset points", fontsize=8)
ax.set(xlabel="|z| (no unit)", ylabel="relative error of φ₁′ (no unit)", ylim=(5e-9, 1e6))
ax.legend(title="complex64")
plt.show()

# %% [markdown]
# *Largest relative error of $\varphi_1'$ over the left half circle of radius $|z|$, in complex64.
# The closed forms lose their digits towards zero; the package uses the series for $|z| < 1$.*
#
# One point of it, the dotted line: $dt = 10^{-3}$ and a pole at $-\tfrac12$.

# %%
point = np.complex64(-0.0005)
exact = 0.5 + complex(point) / 3 + complex(point) ** 2 / 8
e_z = np.exp(point)
closed = (e_z * (point - one) + one) / point**2
_, residuals = ops.discretize.zoh_fwd(point, one, step)
ours = ops.discretize.zoh_vjp(residuals, (np.complex64(0), one))[0].conj()
print(
    f"at z = -5e-4: closed form {100 * abs(closed - exact) / abs(exact):.0f} % off,"
    f" the package {abs(ours - exact) / abs(exact):.1e}"
)
assert np.isclose(exact, reference.discretize.phi1_slope(complex(point)), rtol=1e-9)
assert 0.3 < abs(closed - exact) / abs(exact) < 1
assert abs(ours - exact) < 2 * 2.0**-24 * abs(exact)

# %% [markdown]
# Tustin's map has no such difficulty: $1 - z$ and $1 + z$ are exact to a rounding wherever training
# begins.
#
# ## What to save and what to recompute
#
# Every derivative in [TUSTIN-9] contains $1/(1 - z)$. A division costs more than a product, so
# `tustin_fwd` saves that one number a pole, 16 bytes, beside references to the arguments, which
# cost nothing. $z$, the square and the scale are recomputed. For ZOH two numbers are saved, $e^z$
# and $\varphi_1$, because they contain transcendental functions, and the series of $\varphi_1'$ is
# recomputed.

# %%
_, residuals = ops.discretize.tustin_fwd(arguments[0], arguments[1], arguments[4])
assert np.array_equal(residuals.reciprocal, 1 / (1 - arguments[4] * arguments[0] / 2))
assert residuals.A is arguments[0]  # a reference, not a copy
for name, value in residuals._asdict().items():
    print(f"{name:12s}", value.shape if isinstance(value, np.ndarray) else value)

# %% [markdown]
# One thing must *not* be left to the map. A slow pole sits at
# $1 - |\bar A| \approx -dt \operatorname{Re} A$ from the unit circle, a small difference held in a
# number near 1. In single precision that difference may be rounded away:

# %%
frequencies = np.linspace(0, 400, 81)
slow = (-1e-4 + 1j * frequencies).astype(np.complex64)
rounded, _ = ops.discretize.tustin(slow, np.complex64(1), np.float32(1e-3))
moduli = np.abs(rounded.astype(complex))  # in double: a float32 modulus would be rounded itself
print(f"Re A = -1e-4, dt = 1e-3, float32: {np.sum(moduli >= 1)} of 81 poles have |A_bar| >= 1")
assert np.any(moduli >= 1)
assert np.all(np.abs(ops.discretize.tustin(slow.astype(complex), 1.0, 1e-3)[0]) < 1)

# %% [markdown]
# Keeping $\operatorname{Re} A$ below a margin is therefore not enough; training in this package
# also keeps $|\bar A|$ below 1 *after* rounding [DESCENT-5].
#
# ## Fast equals slow
#
# The op in the package is written in NumPy as well. It adds validation, broadcasting and single
# precision, and must agree with ours to rounding.

# %%
for scale in ("dt", "sqrt_dt"):
    out, kept = ops.discretize.tustin_fwd(A, B, dt, input_scale=scale)
    ours, ours_kept = slow_fwd(A, B, dt, input_scale=scale)
    g = complex_normal(3), complex_normal(3)
    pairs = [*zip(out, ours), *zip(ops.discretize.tustin_vjp(kept, g), slow_vjp(ours_kept, g))]
    worst = max(relative(a, b) for a, b in pairs)
    print(f"{scale:8s} largest relative difference {worst:.1e}")
    assert worst < 1e-13
    g32 = [a.astype(np.complex64) for a in g]
    out32, kept32 = ops.discretize.tustin_fwd(
        A.astype(np.complex64), B.astype(np.complex64), np.float32(dt), input_scale=scale
    )
    grads32 = ops.discretize.tustin_vjp(kept32, g32)
    assert [str(a.dtype) for a in (*out32, *grads32)] == ["complex64"] * 4 + ["float32"]
    assert max(relative(a, b) for a, b in zip((*out32, *grads32), (b for _, b in pairs))) < 1e-5

# %% [markdown]
# ## Timing
#
# The map works on one number a pole, the scan on one a pole *and sample*. So the map may stay in
# NumPy.


# %%
def best_of(function, repeats=30):
    """Shortest time in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


H, N, L = 16, 32, 2048
A_many = -rng.uniform(0.5, 3, (H, N)) + 1j * rng.uniform(0, 12, (H, N))
B_many, C_many, u_many = complex_normal(H, N), complex_normal(H, N), rng.standard_normal((4, H, L))
bars, of_map = ops.discretize.tustin_fwd(A_many, B_many, 0.01)
(y, _), of_scan = ops.scan.scan_fwd(*bars, C_many, None, u_many)
grad_bars = ops.scan.scan_vjp(of_scan, (y, None))[:2]


def through_map():
    """Forward and backward through the map."""
    ops.discretize.tustin_vjp(ops.discretize.tustin_fwd(A_many, B_many, 0.01)[1], grad_bars)


def through_scan():
    """Forward and backward through the scan."""
    ops.scan.scan_vjp(ops.scan.scan_fwd(*bars, C_many, None, u_many)[1], (y, None))


map_time, scan_time = best_of(through_map), best_of(through_scan, 3)
print(f"batch 4, {H} channels, {N} poles, {L} samples")
print(f"map  {1e3 * map_time:8.3f} ms")
share = map_time / (map_time + scan_time)
print(f"scan {1e3 * scan_time:8.3f} ms: the map is {100 * share:.2f} % of the whole")

# %% [markdown]
# ## Exercise: the logarithm of dt
#
# $dt$ must stay positive, and its useful values span decades, so models store `log_dt`. Derive
# $\operatorname{grad}_{\log dt}$ from $\operatorname{grad}_{dt}$, and complete `yours`, which at
# present returns the gradient to $dt$ as if it were that to $\log dt$, until the cell after it says
# *solved*.


# %%
def log_fwd(A, B, C, D, log_dt, u, *, target):
    """The model with log_dt as its parameter."""
    dt = np.exp(log_dt)
    loss, residuals = model_fwd(A, B, C, D, dt, u, target=target)
    return loss, (residuals, dt)


def yours(residuals, grad_loss):
    """Mend grad_log_dt; dt is residuals[1]."""
    *grads, grad_dt, grad_u = model_vjp(residuals[0], grad_loss)
    grad_log_dt = grad_dt
    return (*grads, grad_log_dt, grad_u)


# %%
def check(vjp):
    """Whether the chain with log_dt stands up to finite differences from end to end."""
    with_log = (*arguments[:4], np.log(arguments[4]), arguments[5])
    report = check_vjp(log_fwd, vjp, with_log, target=target)
    return f"solved: {report.headline}" if report else f"not yet: {report.headline}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# With $dt = e^\ell$, $d(dt) = e^\ell\, d\ell = dt\, d\ell$. So
# $dL = \operatorname{grad}_{dt} \cdot d(dt) = dt \cdot \operatorname{grad}_{dt} \cdot d\ell$, and
# $\operatorname{grad}_{\log dt} = dt \cdot \operatorname{grad}_{dt}$. No conjugate: both are real.
#
# ```python
# def yours(residuals, grad_loss):
#     *grads, grad_dt, grad_u = model_vjp(residuals[0], grad_loss)
#     grad_log_dt = residuals[1] * grad_dt
#     return (*grads, grad_log_dt, grad_u)
# ```
#
# </details>

# %% [markdown]
# *Next:* [6. Kernels at the limit](06_kernels_at_the_limit.ipynb). Once $\bar A$ and $\bar B$ are
# there, how fast and how exactly can $C \bar A^{\,t} \bar B$ be computed?
