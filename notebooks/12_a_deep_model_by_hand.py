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
# # 12. A deep model by hand
#
# A linear state-space model cannot multiply two of its inputs. A deep one can: between two
# state-space layers stands a map of the features, with a bend in it. This page goes through one
# such block forward and backward, by the slow reference ops, until every gradient equals that of
# `layers.S4DBlock`. Then come the questions that depth brings: what the residual is for, what must
# be kept for the backward pass, and how to see what a trained model does inside.
#
# Needed from before: the convolution and its adjoint (notebook 4), the way back from discrete to
# continuous parameters (notebook 5; here by zero-order hold), where the poles begin (notebook 9).
# Labels such as [S4D-3] are those of [the derivations](../docs/README.md#derivations); the block is
# that of Gu, Gupta, Goel and Ré (2022), *On the parameterization and initialization of diagonal
# state space models*, section 5.

# %%
import copy
import time
import tracemalloc
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import plots
from ssm_manual.gradcheck import check_vjp
from ssm_manual.layers import S4DBlock
from ssm_manual.models import SequenceModel, look_inside
from ssm_manual.reference import causal, discretize, gelu, glu, layer_norm, linear, vandermonde
from ssm_manual.training import AdamW, Batches, Trainer, warmup_cosine

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = plots.CYCLE
GREY = plots.COLOURS["grey"]
plt.rcParams.update(plots.STYLE)

rng = np.random.default_rng(12)


def distance(a, b):
    """|a - b| / |b|."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# %% [markdown]
# ## The equation
#
# A signal $u$ has $H$ features at every time. The block is a row of six maps and a way around them:
#
# $$
# n = \operatorname{norm}(u), \quad s = \operatorname{SSM}(n), \quad a = \operatorname{GELU}(s),
# \quad z = W a + \beta, \quad v = z^{(1)}\, \sigma(z^{(2)}), \quad y = u + v .
# $$
#
# These are [NORM-1], [S4D-4], [ACT-2], [LINEAR-1] and [ACT-12], and around them the residual.
# The norm, GELU, the dense map $W$ ($2H \times H$) and the gate work at each time by itself. Only
# the SSM sees other times, and it alone keeps the features apart: $H$ kernels side by side.
# $z^{(1)}$ and $z^{(2)}$ are the two halves of $z$.
#
# The SSM is trained by its continuous parameters [S4D-1], so that no step can leave the stable
# models. It is discretised by zero-order hold [ZOH-1], and its kernel [VAND-1] is convolved with
# the signal [CONV-1]:
#
# $$
# A = -e^{\alpha} + i \omega, \quad dt = e^{\delta}, \quad
# \bar B = \frac{e^{dt A} - 1}{A} B, \quad
# K_j = 2 \operatorname{Re} \sum_n C_n \bar B_n e^{j\, dt A_n}, \quad
# s_t = D n_t + \sum_{j \le t} K_j\, n_{t-j} .
# $$
#
# $\alpha$, $\omega$ and $\delta$ are `log_A_real`, `A_imag` and `log_dt`.
#
# The block that we want to equal, and its parameters:

# %%
batch, H, N, L = 2, 3, 2, 20
block = S4DBlock(H, N, dropout=0.0, dtype="float64", rng=rng)
u = rng.standard_normal((batch, H, L))
for name, p in block.params.items():
    p += 0.1 * rng.standard_normal(p.shape)  # else scale is 1 and shift 0, and errors hide
    print(f"{name:15} {p.shape!s:8} {p.dtype}")

# %% [markdown]
# ## The reference, forward
#
# The SSM first. It is three maps in a row, and its second value is what they were given.


# %%
def ssm_fwd(n, log_dt, log_A_real, A_imag, C, D, B):
    A, dt = -np.exp(log_A_real) + 1j * A_imag, np.exp(log_dt)[:, None]
    _, B_bar = discretize.zoh(A, B, dt)
    K = vandermonde.kernel_from_exponent(dt * A, B_bar, C, n.shape[-1])
    s = D[:, None] * n + causal.causal(n, K)
    return s, (n, A, dt, B, B_bar, C, D, K)


def block_fwd(u, log_dt, log_A_real, A_imag, C, D, scale, shift, W, bias, *, B):
    n = layer_norm.layer_norm(u, scale, shift, axis=-2)
    s, inner = ssm_fwd(n, log_dt, log_A_real, A_imag, C, D, B)
    a = gelu.gelu(s)
    z = linear.linear(a, W, bias, axis=-2)
    y = u + glu.glu(z, axis=-2)
    return y, (u, scale, shift, inner, s, a, W, bias, z)


NAMES = ("ssm.log_dt", "ssm.log_A_real", "ssm.A_imag", "ssm.C", "ssm.D")
NAMES += ("norm.scale", "norm.shift", "mixer.weight", "mixer.bias")
args = [block.params[name] for name in NAMES]
B = block.ssm.B

y, saved = block_fwd(u, *args, B=B)
y_fast, _, cache = block.forward(u)
print(f"forward: {distance(y_fast, y):.1e} apart")
assert distance(y_fast, y) < 1e-12

# %% [markdown]
# ## The derivation: the same row from its end
#
# Write the row as $y = u + f(u)$ with $f = f_6 \circ \dots \circ f_1$. A small change of $u$ gives
# $dy = du + J_6 \cdots J_1\, du$, and so
#
# $$
# \operatorname{grad}_u = \operatorname{grad}_y + J_1^* \cdots J_6^*\, \operatorname{grad}_y .
# $$
#
# The order is reversed, each map has its own adjoint, and *the residual adds what went around*.
# Each adjoint needs the input of its own map and nothing else:
#
# | map | its adjoint applied to $g$ |
# |---|---|
# | GLU [ACT-13] | $\left(\sigma(z^{(2)})\, g,\; z^{(1)} \sigma'(z^{(2)})\, g\right)$ |
# | dense [LINEAR-2, 3, 4] | $W^\top g$; to $W$: $\sum g a^\top$; to $\beta$: $\sum g$ |
# | GELU [ACT-6] | $\left(\Phi(s) + s\, \varphi(s)\right) g$ |
# | convolution [CONV-3, 4] | correlations of $g$ with $K$ and with $n$ |
# | norm [NORM-5] | $r\, (h - \operatorname{mean} h - \hat n\, \operatorname{mean} h \hat n)$ |
#
# In the last row $h = \text{scale} \cdot g$; $\hat n = r\, (u - \operatorname{mean} u)$ is the
# signal before scale and shift, $r$ one over the root of its variance. The means are over the
# features.
#
# In the SSM the gradient to $K$ goes on to the exponents $dt A$ and to $\bar B$, both of which
# depend on $A$ and $dt$. Two paths meet, and their gradients add. Last comes the chain rule of
# the exponentials [S4D-3]: since $\operatorname{Re} A = -e^{\alpha}$ is its own slope,
#
# $$
# \operatorname{grad}_\alpha = \operatorname{Re} A \cdot \operatorname{Re} \operatorname{grad}_A,
# \qquad \operatorname{grad}_\omega = \operatorname{Im} \operatorname{grad}_A, \qquad
# \operatorname{grad}_\delta = dt \cdot \operatorname{grad}_{dt} .
# $$


# %%
def ssm_vjp(saved, g):
    n, A, dt, B, B_bar, C, D, K = saved
    to_n, to_K = (np.real(a) for a in causal.causal_vjp(n, K, g))
    to_n += D[:, None] * g
    to_K = to_K.sum(axis=0)  # all sequences have the same kernel
    to_exponent, to_B_bar, to_C = vandermonde.kernel_from_exponent_vjp(
        dt * A, B_bar, C, K.shape[-1], to_K
    )
    to_A, _, to_dt = discretize.zoh_vjp(A, B, dt, 0, to_B_bar)  # by way of B_bar
    to_A = to_A + dt * to_exponent  # and by way of the exponent
    to_dt = to_dt + (np.conj(A) * to_exponent).real
    to_log_dt = dt[:, 0] * to_dt.sum(axis=1)
    return to_n, to_log_dt, A.real * to_A.real, to_A.imag, to_C, np.sum(n * g, axis=(0, 2))


def block_vjp(saved, g):
    u, scale, shift, inner, s, a, W, bias, z = saved
    (to_z,) = glu.glu_vjp(z, g, axis=-2)
    to_a, to_W, to_bias = linear.linear_vjp(a, W, bias, to_z, axis=-2)
    (to_s,) = gelu.gelu_vjp(s, to_a)
    to_n, *to_ssm = ssm_vjp(inner, to_s)
    to_u, to_scale, to_shift = layer_norm.layer_norm_vjp(u, scale, shift, to_n, axis=-2)
    return g + to_u, *to_ssm, to_scale, to_shift, to_W, to_bias


# %% [markdown]
# ## The check
#
# Against finite differences, which know nothing of all this, and against the compiled block.

# %%
report = check_vjp(block_fwd, block_vjp, (u, *args), B=B)
print(report)
assert report

# %%
g = rng.standard_normal(y.shape)
to_u, *slow = block_vjp(saved, g)
to_u_fast, _, fast = block.backward(g, cache)
apart = {"u": distance(to_u_fast, to_u)}
apart |= {name: distance(fast[name], grad) for name, grad in zip(NAMES, slow)}
for name, d in apart.items():
    print(f"{name:15} {d:.1e}")
assert max(apart.values()) < 1e-10

# %% [markdown]
# ### What goes wrong: two paths, and one of them forgotten
#
# A check is worth what it can catch. Forget that the step size acts by two paths, and one argument
# out of ten says so:


# %%
def one_path(saved, g):
    """`block_vjp`, but for the exponent's way back to the step size."""
    grads = list(block_vjp(saved, g))
    _, _, _, inner, s, a, W, bias, z = saved
    n, A, dt, _, B_bar, C, _, K = inner
    to_a = linear.linear_vjp(a, W, bias, glu.glu_vjp(z, g, axis=-2)[0], axis=-2)[0]
    to_K = causal.causal_vjp(n, K, gelu.gelu_vjp(s, to_a)[0])[1].real.sum(axis=0)
    to_exponent = vandermonde.kernel_from_exponent_vjp(dt * A, B_bar, C, K.shape[-1], to_K)[0]
    grads[1] = grads[1] - dt[:, 0] * np.sum((np.conj(A) * to_exponent).real, axis=1)
    return tuple(grads)


report = check_vjp(block_fwd, one_path, (u, *args), B=B)
print(report)
assert not report

# %% [markdown]
# ## What the way around is for
#
# Stack $n$ blocks. Without residuals the gradient is a product of $n$ Jacobians, which shrinks or
# grows with each factor. With them it is $\prod_k (1 + J_k^*)$: one of its $2^n$ terms is the
# gradient itself, unchanged. We need no second program to see it: of our block, $f(u)$ is the
# output less the input, and $J^* g$ is the gradient less $g$.

# %%
depth = 16
stack = [S4DBlock(16, 8, dropout=0.0, rng=rng) for _ in range(depth)]
x0 = rng.standard_normal((4, 16, 256), dtype=np.float32)


def forward(one, x, residual):
    y, _, cache = one.forward(x)
    return (y if residual else y - x), cache


def backward(one, g, cache, residual):
    back, _, _ = one.backward(g, cache)
    return back if residual else back - g


def norms(residual):
    """RMS of the gradient after each block, from the last to the input."""
    x, caches = x0, []
    for one in stack:
        x, cache = forward(one, x, residual)
        caches.append(cache)
    g = rng.standard_normal(x.shape, dtype=np.float32)
    found = [np.sqrt(np.mean(g**2))]
    for one, cache in zip(stack[::-1], caches[::-1]):
        g = backward(one, g, cache, residual)
        found.append(np.sqrt(np.mean(g**2)))
    return found[::-1]


assert distance(forward(block, u, False)[0], glu.glu(saved[-1], axis=-2)) < 1e-12  # f(u) alone
for residual in (True, False):

    def one_fwd(u, way=residual):
        return forward(block, u, way)

    def one_vjp(cache, g, way=residual):
        return (backward(block, g, cache, way),)

    assert check_vjp(one_fwd, one_vjp, (u,))

with_, without = norms(True), norms(False)
figure, ax = plt.subplots(figsize=(6.4, 3.4))
ax.semilogy(with_, ".-", color=BLUE, label="with residual")
ax.semilogy(without, ".-", color=VERMILION, label="without")
ax.set(xlabel="blocks before this place", ylabel="RMS of dL/dx (loss per unit)")
ax.legend()
plt.show()
jumps = [np.exp(np.abs(np.diff(np.log(a))).max()) for a in (with_, without)]
print(f"largest factor over one block: {jumps[0]:.2f} with residual, {jumps[1]:.1f} without")
assert jumps[0] < 1.2 < 3 < jumps[1]

# %% [markdown]
# The norms keep even the second stack alive: what a block shrinks, the next one's norm divides by.
# But there the gradient jumps from block to block, and no learning rate suits them all. With the
# residual it goes through almost unchanged.
#
# ## What to save and what to recompute
#
# Our `block_fwd` keeps $u, n, s, a$ and $z$, and $z$ has two halves: six signals. A mask of dropout
# would be one more, and so would each factor that the adjoints need. The compiled block forms
# those again. Count the bytes of its cache, each array once:


# %%
def arrays(item):
    """All arrays in nested tuples and objects with a ``_fields``."""
    if isinstance(item, np.ndarray):
        yield item
    elif isinstance(item, (tuple, list)):
        for one in item:
            yield from arrays(one)


def held(cache, like):
    """Bytes of different memory in a cache, in signals; what is small is parameters."""
    found = {}
    for a in arrays(cache):
        first, end = np.lib.array_utils.byte_bounds(a)  # a shape alone, without memory, has none
        found[first] = end - first
    return sum(found.values()) / like.nbytes


big = S4DBlock(32, 16, dropout=0.1, rng=rng)
x = rng.standard_normal((8, 32, 2048), dtype=np.float32)
_, _, cache = big.forward(x, seed=1)
print(f"cache of a block: {held(cache, x):.2f} signals of {x.nbytes / 1e6:.1f} MB")
assert 6 <= held(cache, x) < 6.5

# %% [markdown]
# One can keep still less: of each block its input alone, and run the block forward once more when
# its turn comes (Chen, Xu, Zhang, Guestrin 2016, *Training deep nets with sublinear memory cost*).
# The parameters have not changed and dropout is a function of its seed, so the second run gives the
# same bits.

# %%
deep = [S4DBlock(32, 16, dropout=0.1, rng=rng) for _ in range(6)]


def all_kept(x, g):
    caches = []
    for i, one in enumerate(deep):
        x, _, cache = one.forward(x, seed=i)
        caches.append(cache)
    for one in deep[::-1]:
        g, _, _ = one.backward(g, caches.pop())
    return g


def inputs_kept(x, g):
    inputs = []
    for i, one in enumerate(deep):
        inputs.append(x)
        x, _, _ = one.forward(x, seed=i, cache=False)
    for i in reversed(range(len(deep))):
        _, _, cache = deep[i].forward(inputs.pop(), seed=i)
        g, _, _ = deep[i].backward(g, cache)
    return g


def peak(program, *args):
    """Most memory at one time, in signals."""
    tracemalloc.start()
    program(*args)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / x.nbytes


def seconds(program, *args, repeats=3):
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        program(*args)
        found.append(time.perf_counter() - start)
    return min(found)


g = rng.standard_normal(x.shape, dtype=np.float32)
assert np.array_equal(all_kept(x, g), inputs_kept(x, g))
assert abs(peak(np.copy, x) - 1) < 0.01  # a copy is one signal
most = {}
for program in (all_kept, inputs_kept):
    most[program], took = peak(program, x, g), seconds(program, x, g)
    print(f"{program.__name__:12} {most[program]:5.1f} signals at the most, {1e3 * took:5.0f} ms")
assert 6 * len(deep) < most[all_kept]  # six signals a block, and those at work
assert len(deep) - 1 + 6 < most[inputs_kept] < 0.55 * most[all_kept]  # five inputs and one cache

# %% [markdown]
# The six signals, and a little for the norm's means and the states at the edges of chunks. And the
# same bits with half of the memory, for one more forward pass. The library keeps the six signals,
# and forms again what is cheap: masks, gates, the normalised signal and the states within a chunk.
#
# ## Fast equals slow, and how much faster
#
# The reference is loops, and it is honest about it:

# %%
x = rng.standard_normal((2, 16, 128))
small = S4DBlock(16, 8, dropout=0.0, dtype="float64", rng=rng)
weights = [small.params[name] for name in NAMES]


def by_reference():
    y, saved = block_fwd(x, *weights, B=small.ssm.B)
    return y, block_vjp(saved, y)[0]


def compiled():
    y, _, cache = small.forward(x)
    return y, small.backward(y, cache)[0]


for a, b in zip(compiled(), by_reference()):
    assert distance(a, b) < 1e-10
slow, fast = seconds(by_reference, repeats=1), seconds(compiled, repeats=20)
print(f"forward and backward: {1e3 * slow:.0f} ms by reference, {1e3 * fast:.2f} ms compiled")
print(f"{slow / fast:.0f} times faster")

# %% [markdown]
# ## Two blocks that multiply
#
# A task that no linear model can do: the input is a row of coin tosses $\pm 1$, and what is asked
# is the product of the present one and the one four samples before, $y_t = u_t u_{t-4}$. It is
# uncorrelated with every sample, so the best linear answer is zero, with a mean squared error of 1
# wherever something is asked. A deep model has to remember, and then to bend.

# %%
LAG = 4


def products(rng, sequences, length=128):
    """Tosses, and the product of each with the one `LAG` samples before."""
    u = rng.choice([-1.0, 1.0], (sequences, length, 1)).astype(np.float32)
    y = np.zeros_like(u)
    y[:, LAG:] = u[:, LAG:] * u[:, :-LAG]
    return u, y


u, y = products(rng, 512)
u_new, y_new = products(rng, 256)
X = np.stack([np.roll(u_new[..., 0], j, axis=1)[:, 16:].ravel() for j in range(16)], axis=1)
target = y_new[:, 16:].ravel()
linear_loss = np.mean((X @ np.linalg.lstsq(X, target, rcond=None)[0] - target) ** 2)
print(f"best linear answer from 16 samples: mean squared error {linear_loss:.3f}")
assert abs(linear_loss - 1) < 0.01

# %%
options = {"dt_min": 1e-2, "dt_max": 0.5}  # memories of 4 to 200 samples
model = SequenceModel(
    1, 16, 1, 2, task="regression", modes=8, dropout=0.0, layer_options=options, rng=rng
)
start = copy.deepcopy(model)
epochs = 12
trainer = Trainer(
    model,
    "mse",
    AdamW(model.params, lr=1e-2),
    schedule=partial(warmup_cosine, warmup=20, total=16 * epochs),
    max_norm=1.0,
    seed=1,
)
history = trainer.fit(
    Batches(u, y, batch_size=32), epochs=epochs, validation=Batches(u_new, y_new, batch_size=256)
)
loss = history["validation_loss"][-1]
print(f"{model.count_parameters()} parameters, mean squared error on new sequences {loss:.4f}")
assert loss < 0.1 < linear_loss
figure, ax = plt.subplots(figsize=(6.4, 3.4))
plots.training_losses(history, ax)
plt.show()

# %% [markdown]
# ## Look inside
#
# `look_inside` goes through a model once and keeps what passes between its parts: the signals, and
# with the loss's cotangent the gradients to them. First the gradients before training; then all
# after it, with the kernels and poles of the first layer.


# %%
def to_output(y):
    """dL/dy of the mean squared error on the first 64 new sequences."""
    return 2 * (y - y_new[:64]) / y.size


guess, step = np.random.default_rng(1).standard_normal((2, *y_new[:64].shape))
ahead, behind = (np.mean((guess + sign * step - y_new[:64]) ** 2) for sign in (1, -1))
assert np.isclose((ahead - behind) / 2, np.sum(to_output(guess) * step))  # exact for a square

figure, ax = plt.subplots(figsize=(6.4, 3.4))
plots.inside_gradients(look_inside(start, u_new[:64], to_output), ax)
plt.show()

# %%
first, was = model.layers["blocks.0"].ssm, start.layers["blocks.0"].ssm
seen = look_inside(model, u_new[:64], to_output)
plots.inside(seen, first, before=was, length=40)

# %% [markdown]
# What to look for in such a figure: an RMS that grows or shrinks from block to block, a gradient
# that is orders of magnitude smaller in one layer than in the next, a gradient that dies towards
# one end of time. Here the gradients reach every part within a factor of a few, at all times. After
# training there is one peak, in the first four samples. There the task has another rule, the answer
# zero, and there the error is largest. The poles hardly moved, but the kernels did: channel 15 has
# a new peak at lag 4, and channel 0 a deeper one. It was the step sizes that changed them. They
# moved by 4 % at the most, but the fast poles turn up to four times from one sample to the next,
# and 4 % of that is a good part of a turn. (Poles above half the sampling rate turn so fast that
# samples cannot tell them from slower ones.)

# %%
error = (seen.output - y_new[:64])[..., 0]
print(f"mean squared error: first four samples {np.mean(error[:, :LAG] ** 2):.4f}, ", end="")
print(f"all others {np.mean(error[:, LAG:] ** 2):.4f}")
assert np.mean(error[:, :LAG] ** 2) > np.mean(error[:, LAG:] ** 2)
at_times = np.array([np.sqrt(np.mean(g**2, axis=(0, 1))) for g in seen.gradients.values()])
assert (at_times.max(axis=0) < 5 * at_times.min(axis=0)).all()  # in every part, at all times
assert (at_times.argmax(axis=1) < LAG).all()

K_was, K = was.kernel(40), first.kernel(40)
assert K[15, 4] > K[15, [3, 5]].max()
assert K_was[15, 4] < K_was[15, [3, 5]].max()
assert K[0, 4] < K_was[0, 4] < K_was[0, [3, 5]].min()
assert np.abs(first.dt / was.dt - 1).max() < 0.05
for name in ("log_dt", "C"):
    mixed = copy.deepcopy(was)
    mixed.params[name][...] = first.params[name]
    left = distance(mixed.kernel(40), K) / distance(K_was, K)
    print(f"{name:6} alone leaves {left:.0%} of the kernels' change to the others")
    assert left < 0.3 if name == "log_dt" else left > 0.9

# %% [markdown]
# But a picture does not say how the model multiplies. Ask the gradient: what does the output at
# *one* time depend on? A cotangent that is 1 at time 64 and 0 elsewhere gives the row of the
# Jacobian. Where it is large, the model looks.


# %%
def at_64(y):
    g = np.zeros_like(y)
    g[:, 64] = 1
    return g


def looked_at(model):
    """RMS over sequences of dy_64 / du_t."""
    y, _, cache = model.forward(u_new[:64])
    to_u, _, _ = model.backward(at_64(y), cache)
    return np.sqrt(np.mean(to_u[..., 0].astype(float) ** 2, axis=0))


before, after = looked_at(start), looked_at(model)
figure, ax = plt.subplots(figsize=(6.4, 3.2))
lags = 64 - np.arange(before.size)
ax.stem(lags[40:65], after[40:65], linefmt=VERMILION, basefmt=GREY, label="trained")
ax.plot(lags[40:65], before[40:65], ".-", color=GREY, label="before")
ax.set(xlabel="lag (samples)", ylabel=r"RMS of $\partial y_{64} / \partial u_{64 - lag}$ (no unit)")
ax.legend()
plt.show()
assert not after[65:].any()  # causal: what comes later has no effect
found = {int(lag) for lag in lags[np.argsort(after)[-2:]]}
print("the two lags that count most:", sorted(found))
assert found == {0, LAG}

# %% [markdown]
# Nobody told the model which two samples to multiply. For samples later than time 64 the cell finds
# exact zeros, not small numbers: there is no path.
#
# ## Exercise 1: another norm
#
# RMS norm leaves the mean in [NORM-3]: $n = \text{scale} \cdot z$ with $z = u r$ and
# $r = (\operatorname{mean} u^2 + \varepsilon)^{-1/2}$ over the features. Write its adjoint; `yours`
# forgets that $r$ depends on $u$.


# %%
def rms_fwd(u, scale):
    r = 1 / np.sqrt(np.mean(u**2, axis=-2, keepdims=True) + 1e-5)
    return scale[:, None] * u * r, (u, scale, r)


def yours(saved, g):
    u, scale, r = saved
    return scale[:, None] * g * r, np.sum(g * u * r, axis=(0, 2))


# %%
def check(vjp):
    """Whether the adjoint of RMS norm stands up to finite differences."""
    args = rng.standard_normal((2, 3, 5)), rng.standard_normal(3)
    report = check_vjp(rms_fwd, vjp, args)
    return f"{'solved' if report else 'not yet'}: {report.headline}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# From $dr = -r^2 \operatorname{mean}(z\, du)$ comes, with $h = \text{scale} \cdot g$,
# $\operatorname{grad}_u = r\, (h - z \operatorname{mean} h z)$. This is the adjoint of layer norm
# without the first mean [NORM-5]:
#
# ```python
# def yours(saved, g):
#     u, scale, r = saved
#     h, z = scale[:, None] * g, u * r
#     to_u = r * (h - z * np.mean(h * z, axis=-2, keepdims=True))
#     return to_u, np.sum(g * z, axis=(0, 2))
# ```
#
# </details>

# %% [markdown]
# ## Exercise 2: keep every second input
#
# `inputs_kept` holds one signal a block. Hold one for every *two* blocks, and form the other again:
# with many blocks about half the inputs are left. `yours` must give the same bits, with fewer
# inputs at one time.


# %%
def yours(x, g, keep):
    """As `inputs_kept`; what is held until its turn comes goes through ``keep``."""
    inputs = []
    for i, one in enumerate(deep):
        inputs.append(keep(x))
        x, _, _ = one.forward(x, seed=i, cache=False)
    for i in reversed(range(len(deep))):
        _, _, cache = deep[i].forward(inputs.pop(), seed=i)
        g, _, _ = deep[i].backward(g, cache)
    return g


# %%
def check(program):
    """Whether the bits are the same, and half of the inputs enough."""
    x = rng.standard_normal((2, 32, 64), dtype=np.float32)
    count = []
    same = np.array_equal(program(x, x, lambda a: count.append(1) or a), all_kept(x, x))
    if not same:
        return "not yet: other bits than those of all_kept"
    solved = 0 < len(count) <= len(deep) // 2
    return f"{'solved' if solved else 'not yet'}: {len(count)} inputs kept for {len(deep)} blocks"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# ```python
# def yours(x, g, keep):
#     inputs = []
#     for i, one in enumerate(deep):
#         if i % 2 == 0:
#             inputs.append(keep(x))
#         x, _, _ = one.forward(x, seed=i, cache=False)
#     for i in reversed(range(0, len(deep), 2)):
#         middle, _, first = deep[i].forward(inputs.pop(), seed=i)
#         _, _, second = deep[i + 1].forward(middle, seed=i + 1)
#         g, _, _ = deep[i + 1].backward(g, second)
#         g, _, _ = deep[i].backward(g, first)
#     return g
# ```
#
# Two caches live at once now, where it was one. With $n$ blocks in groups of $k$ there are $n/k$
# inputs and $k$ caches of six signals: least near $k = \sqrt{n/6}$.
#
# </details>

# %% [markdown]
# ## Next
#
# This was the last notebook. `ssm-manual train` trains such models on data of your own, and
# `ssm_manual.layers` are the parts of which this one was made; `docs/models.md` and
# `docs/training.md` go on from here. And if you have an op of your own: write it, write its vjp,
# and let `check_vjp` have the last word.
