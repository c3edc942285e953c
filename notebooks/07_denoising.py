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
# # 7. Denoising: a published run reproduced, then done right
#
# Two halves. First we repeat a published training run digit by digit: four poles, twenty samples,
# ten thousand epochs, with a one-step direction in place of the gradient. We then let the gradient
# have the same start. In the second half we give the same model the job that it is meant for,
# taking noise off an electrocardiogram, and compare it with what a person would use instead.
#
# Needed from before: the gradients of notebook 3, and for one run Tustin's map of notebook 5.
# Labels such as [SCAN-5] and [TRUNC-4] are those of
# [the derivations](../docs/README.md#derivations).

# %%
import io
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from PIL import Image as Picture

from ssm_manual import ops, plots, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import DiagonalSSM
from ssm_manual.tasks import denoising, published, signals, trained_filter

plt.rcParams.update(plots.STYLE)

# %% [markdown]
# ## The published run
#
# ### The equation
#
# The input is $\sin 2t + \sin 20t$ at twenty times $t = 0.1\,k$ s, the target is $\sin 2t$. The
# model is
#
# $$x_t = \bar A\, x_{t-1} + \bar B\, u_t \quad\text{[SCAN-1]}, \qquad
# y_t = \sum_n C_n x_{t,n} \quad\text{[SCAN-2]}, \qquad e_t = y_t - \text{target}_t ,$$
#
# complex, with four poles $A$ at $-1 + 1.99i$, $-1 + 2i$, $-1 + 2.01i$ and $-1 + 5i$ in 1/s,
# $B = 1$, $C = \tfrac14$, taken through Tustin's map once, at $dt = 0.1$ s; after that $\bar A$,
# $\bar B$ and $C$ are trained directly. The printed loss is $\sum_t |e_t|^2$. The direction of each
# update is the one-step direction,
#
# $$\lambda_t = \overline C\, \frac{e_t}{20} \quad\text{[TRUNC-4]}, \qquad
# v_{\bar A} = \sum_t \lambda_t \overline{x_{t-1}}, \quad
# v_{\bar B} = \sum_t \lambda_t \overline{u_t}, \quad
# v_C = \sum_t \frac{e_t}{20}\, \overline{x_t} \quad\text{[SCAN-5, 6, 7]},$$
#
# with the rates 0.01, 0.05 and 0.5. A pole beyond $|\bar A| = 0.999$ is pulled back onto that
# circle [DESCENT-4].
#
# ### The reference
#
# A plain loop in single precision, as the original is.

# %%
u, target = published.published_data()
RATES = published.PUBLISHED_RATES


def epoch_by_loop(params, full):
    """One epoch: the loss, and the update in place; `full` continues lambda [SCAN-4]."""
    A, B, C = (params[name] for name in "ABC")
    states, errors = [np.zeros(4, np.complex64)], []
    for u_t, target_t in zip(u, target):
        states.append(A * states[-1] + B * u_t)
        errors.append(np.sum(C * states[-1]) - target_t)
    direction = {name: np.zeros(4, np.complex64) for name in "ABC"}
    lam = np.zeros(4, np.complex64)
    for t in range(u.size - 1, -1, -1):
        e = errors[t] / np.float32(u.size)
        lam = C.conj() * e + (A.conj() * lam if full else 0)
        direction["A"] += lam * states[t].conj()  # the state before: states[0] is x_{-1}
        direction["B"] += lam * u[t]
        direction["C"] += e * states[t + 1].conj()
    for name in "ABC":
        params[name] -= np.float32(RATES[name]) * direction[name]
    modulus = np.abs(A)
    A *= np.where(modulus > 0.999, np.float32(0.999) / modulus, np.float32(1))
    return sum(abs(e) ** 2 for e in errors)


poles = np.array([-1 + 1.99j, -1 + 2j, -1 + 2.01j, -1 + 5j], np.complex64)
A_bar, B_bar = reference.discretize.tustin(poles, np.complex64(1), np.float32(0.1))
params = {"A": A_bar, "B": B_bar, "C": np.full(4, 0.25, np.complex64)}
begin = time.perf_counter()
by_loop = np.array([epoch_by_loop(params, full=False) for _ in range(1001)])
loop_time = (time.perf_counter() - begin) / by_loop.size
print(f"loss at epoch 0: {by_loop[0]:.6f}, at epoch 1000: {by_loop[1000]:.6f}")

# %% [markdown]
# ### Derive: what the direction leaves out
#
# The rates go with half the mean, $L = \frac{1}{2n} \sum_t |e_t|^2$ with $n = 20$ [LOSS-1]; the
# printed sum is $2nL$. Its gradient to $y_t$ is $e_t / n$, and what reaches the state from its own
# output is $s_t = \overline C\, e_t / n$ [SCAN-3]. But $x_t$ is also in every later output. The
# adjoint recursion collects them, from the end:
#
# $$\lambda_t = s_t + \overline{\bar A}\, \lambda_{t+1}, \quad \lambda_{n} = 0
# \quad\text{[SCAN-4]}, \qquad\text{written out}\qquad
# \lambda_t = \sum_{j=0}^{n-1-t} \overline{\bar A}^{\,j} s_{t+j} \quad\text{[TRUNC-1]}.$$
#
# The one-step direction keeps $j = 0$ alone.

# %%
A, B, C = (published.published_model().params[name].astype(complex) for name in "ABC")
x = np.zeros((u.size + 1, 4), complex)  # x[0] is the state before the first sample
for t in range(u.size):
    x[t + 1] = A * x[t] + B * u[t]
source = C.conj() * (x[1:] @ C - target)[:, None] / u.size  # [SCAN-3]
lam = np.zeros((u.size + 1, 4), complex)
for t in range(u.size - 1, -1, -1):
    lam[t] = source[t] + A.conj() * lam[t + 1]  # [SCAN-4]
written_out = [sum(A.conj() ** j * source[t + j] for j in range(u.size - t)) for t in range(u.size)]
off = np.abs(lam[:-1] - written_out).max()
print(f"recursion and sum differ by {off:.1e}")
assert off < 1e-15
for name, before in (("A_bar", x[:-1]), ("B_bar", u[:, None])):
    whole, kept = ((adjoint * before.conj()).sum(axis=0) for adjoint in (lam[:-1], source))
    cosine = np.vdot(whole, kept).real / (np.linalg.norm(whole) * np.linalg.norm(kept))
    part = np.linalg.norm(kept) / np.linalg.norm(whole)
    print(f"{name}: one step is {part:.2f} times as long as the gradient, cosine {cosine:+.2f}")

# %% [markdown]
# ### The check: fast equals slow, and both equal the print
#
# `published.run_published` runs the same through `DiagonalSSM.fit(mode="one_step")`, all epochs
# compiled into one loop. The package holds the printed figures.

# %%
run = published.run_published()
assert np.allclose(run.losses[:1001], by_loop, rtol=1e-3)

printed = published.published_figures()
log = {row["epoch"]: row for row in printed["log"]}
print("epoch    printed    ours       deviation")
for epoch, row in log.items():
    deviation = run.losses[epoch] / row["loss"] - 1
    print(f"{epoch:5d}  {row['loss']:9.6f}  {run.losses[epoch]:9.6f}  {deviation:+.1e}")
    assert abs(deviation) < 1e-3

# %% [markdown]
# Single precision does not add in the same order everywhere, and the run is long; a relative
# $10^{-4}$ is what remains of that. The parameters are printed with three decimals, after the
# update of their epoch. We compare every one of them.

# %%
worst = 0.0
for row in printed["log"]:
    ours = run.params_log[row["epoch"]]
    for name, key in zip("ABC", ("A_bar", "B_bar", "C")):
        worst = max(worst, abs(ours[name][row["channel"]] - complex(*row[key])))
print(f"{3 * len(printed['log'])} complex parameters, largest difference {worst:.4f}")
assert worst < 0.003

y, _, _ = run.model.forward(u)
print("\nstep  printed            ours               target")
for row in printed["verification"]:
    k = row["step"]
    there, here = complex(*row["prediction"]), complex(y[k])
    print(f"{k:4d}  {there:17.2f}  {here:17.2f}  {target[k].real:6.2f}")
    assert abs(there - here) < 0.02

# %% [markdown]
# ### Is it a gradient?
#
# `check_vjp` takes the loss as an op of its parameters and asks. We give it the full backward pass
# and the one-step direction, at the start of the run.


# %%
def loss_fwd(A_bar, B_bar, C):
    """half_mse of the run's model."""
    rows = u.astype(float)[None, None]
    (y, _), of_scan = ops.scan.scan_fwd(A_bar, B_bar, C, None, rows, real=False)
    loss, of_loss = ops.loss.half_mse_fwd(y, target.astype(complex)[None, None])
    return loss, (of_scan, of_loss)


def full_vjp(residuals, grad_loss):
    """Through all of time."""
    of_scan, of_loss = residuals
    grad_y, _ = ops.loss.half_mse_vjp(of_loss, grad_loss)
    return ops.scan.scan_vjp(of_scan, (grad_y, None))[:3]


def one_step_vjp(residuals, grad_loss):
    """The published direction."""
    of_scan, of_loss = residuals
    return full_vjp((of_scan._replace(horizon=1), of_loss), grad_loss)


start = published.published_model().params
at_start = tuple(start[name].astype(complex)[None] for name in "ABC")
right, wrong = (check_vjp(loss_fwd, vjp, at_start) for vjp in (full_vjp, one_step_vjp))
assert right
assert not wrong
print(f"full BPTT: {right}\n\none step: {wrong}")

# %% [markdown]
# $C$ passes either way, as $\operatorname{grad}_C$ does not contain $\lambda$. $\bar A$ and
# $\bar B$ are nowhere near. Notebook 3 follows the angle along the run: the direction to $\bar B$
# soon points away from the gradient, and stays so.
#
# ### From the same start, with the gradient
#
# Only one word changes, `mode="bptt"`. The gradient also stands larger steps, so once more with all
# three rates times five; we give the one-step direction the same chance.

# %%
runs = {
    "one step, as published": run,
    "one step, rates times 5": published.run_published("one_step", 5.0),
    "full BPTT, same rates": published.run_published("bptt"),
    "full BPTT, rates times 5": published.run_published("bptt", 5.0),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7))
for (name, one), style in zip(runs.items(), ("-", "--", "-", "--")):
    left.semilogy(one.losses, style, linewidth=1.2, label=name)
left.plot(list(log), [row["loss"] for row in log.values()], "k.", markersize=7, label="printed")
left.set(xlabel="epoch", ylabel="sum |e|² (squared units)")
left.legend(fontsize=8, loc="upper right")
t = 0.1 * np.arange(u.size)
right.plot(t, u, color=plots.COLOURS["grey"], linewidth=0.8, label="input")
right.plot(t, target.real, "k", linewidth=2.5, alpha=0.35, label="target")
for (name, one), column in zip(runs.items(), range(4)):
    if column in (0, 3):
        right.plot(
            t,
            one.model.forward(u)[0].real,
            "o-",
            color=plots.CYCLE[column],
            markersize=3,
            label=name,
        )
right.set(xlabel="time (s)", ylabel="signal (no unit)", ylim=(-2.1, 2.9))
right.legend(fontsize=8, loc="upper right", ncols=2)
plt.show()
for name, one in runs.items():
    print(f"{name:26s} loss at epoch 9000: {one.losses[9000]:.4f}")

# %% [markdown]
# *Left: the loss of four runs from one start, and the printed values. Right: output (real part) of
# the published run and of the best one after 10,000 epochs.*
#
# With the same rates the gradient ends at half the published loss; with five times the rates, after
# some rough epochs, at a hundredth of it. The one-step direction with five times the rates does
# worse than before.
#
# ### The poles while they learn
#
# Where do the poles go meanwhile? Two of the runs once more, with stops for a picture that lie
# closer at the start.

# %%
marks = np.unique(np.geomspace(1, 10_001, 48).astype(int)) - 1  # epochs
ways = {"one step, as published": ("one_step", 1.0), "full BPTT, rates times 5": ("bptt", 5.0)}


def followed(mode, scale):
    """Poles and real outputs at the marks."""
    model = published.published_model()
    rates = {name: scale * rate for name, rate in RATES.items()}
    poles, outputs = [], []
    for count in np.diff(marks, prepend=0):
        if count:
            model.fit(u, target, epochs=int(count), rates=rates, mode=mode)
        poles.append(model.params["A"].copy())
        outputs.append(model.forward(u)[0].real)
    return np.array(poles), np.array(outputs)


paths = {name: followed(*way) for name, way in ways.items()}
for name, (poles, _) in paths.items():
    assert np.array_equal(poles[-1], runs[name].model.params["A"])  # the runs from above
    three = poles[:, :3]  # those that begin together
    apart = np.abs(three[:, :, None] - three[:, None, :]).max(axis=(1, 2))
    print(f"{name}: three poles {apart[0]:.3f} apart at the start,", end=" ")
    print(f"0.1 by epoch {marks[np.argmax(apart > 0.1)]}")
    print("  moduli at the end ", np.abs(poles[-1]).round(3))
    print("  angles at the end ", np.angle(poles[-1]).round(2), "rad a sample")

# %%
colours = [plots.COLOURS[name] for name in ("blue", "vermilion", "green", "purple")]
figure, axes = plt.subplots(1, 3, figsize=(9.3, 3.6), dpi=72, width_ratios=(1, 1, 1.6))
moving = []
for ax, (name, (poles, _)) in zip(axes, paths.items()):
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.6", linewidth=1))
    ax.plot(poles[0].real, poles[0].imag, "o", color="0.6", markersize=5)
    for pole, colour in zip(poles.T, colours):
        (trail,) = ax.plot([], [], color=colour, linewidth=1)
        (head,) = ax.plot([], [], "X", color=colour, markersize=8)
        moving.append((pole, trail, head))
    ax.set(xlim=(0.15, 1.1), ylim=(-0.85, 0.85), aspect="equal", title=name)
    ax.set(xlabel="Re A_bar (no unit)", xticks=(0.2, 0.6, 1.0))
    ax.title.set_fontsize(10)
axes[0].set_ylabel("Im A_bar (no unit)")
t = 0.1 * np.arange(u.size)
axes[2].plot(t, target.real, "k", linewidth=3, alpha=0.3, label="target")
curves = [
    (outputs, axes[2].plot([], [], style, markersize=4, linewidth=1, color=colour, label=name)[0])
    for (name, (_, outputs)), style, colour in zip(
        paths.items(), ("s--", "o-"), (plots.COLOURS["orange"], plots.COLOURS["sky"])
    )
]
axes[2].set(xlabel="time (s)", ylabel="output (no unit)", ylim=(-1.6, 2.4))
axes[2].legend(fontsize=8, loc="upper right")

axes[2].set_title("epoch 10000")
figure.canvas.draw()
figure.set_layout_engine("none")  # the axes stay where they are now

frames = []
for k, mark in enumerate(marks):
    for pole, trail, head in moving:
        trail.set_data(pole[: k + 1].real, pole[: k + 1].imag)
        head.set_data(pole[k : k + 1].real, pole[k : k + 1].imag)
    for outputs, curve in curves:
        curve.set_data(t, outputs[k])
    axes[2].set_title(f"epoch {mark}")
    figure.canvas.draw()
    frames.append(Picture.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB"))
plt.close(figure)
shades = np.linspace(0, 255, 5)[:, None]  # one palette for all: what does not move costs nothing
inks = [matplotlib.colors.to_rgb(ink) for ink in ("black", *plots.COLOURS.values())]
few = Picture.new("P", (1, 1))
colours = np.concatenate([255 - shades * (1 - np.array(ink)) for ink in inks])
few.putpalette(colours.astype("u1").tobytes())
frames = [frame.quantize(palette=few, dither=Picture.Dither.NONE) for frame in frames]
film = io.BytesIO()
pauses = [180] * (len(frames) - 1) + [3000]  # ms
frames[0].save(film, "gif", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
print(f"{len(frames)} frames, {len(film.getvalue()) / 1e3:.0f} kB")
Image(film.getvalue(), format="gif", alt="Poles of two runs moving from epoch 0 to 10,000")

# %% [markdown]
# *The four poles (crosses) with the way they have come (lines), from the start (grey dots) inside
# the unit circle (grey): left along the one-step direction, in the middle along the gradient.
# Right: what both models put out at that epoch (real part).*
#
# Three of the poles begin almost on one spot, with the same $\bar B$ and $C$. Their directions are
# almost the same too, and for a while they travel as one. Along the gradient they have parted by
# epoch 162, along the one-step direction by epoch 1408. (Its rates are smaller as well, by a factor
# of five.) Two poles of the better run end at the clamp of 0.999. Do not read their angles,
# $\pm 0.76$ radians a sample, as frequencies of the signal: those are 0.2 and 2. Twenty samples can
# be fitted by poles elsewhere.
#
# ### The longer preset
#
# The same authors have a longer demonstration: 500 samples at $dt = 10^{-3}$ s, four continuous
# poles $-\tfrac12 + i \pi\, 10^{2n/3 - 1}$, trained through Tustin's map. With the gradient of
# notebook 5:

# %%
model = published.long_model(np.float64)
u_long, target_long = published.long_data(np.float64)
before = model.forward(u_long)[0].real
history = model.fit(
    u_long, target_long, epochs=published.LONG_EPOCHS, rates=published.LONG_RATES, margin=1e-4
)
after = model.forward(u_long)[0].real
print(f"mean |e|^2: {history.losses[0]:.4f} at epoch 0, {history.losses[-1]:.4f} at epoch 4999")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
plots.loss_curve(history.losses, left)
t = 1e-3 * np.arange(u_long.size)
right.plot(t, u_long, color=plots.COLOURS["grey"], linewidth=0.8, label="input")
right.plot(t, target_long.real, "k", linewidth=2.5, alpha=0.35, label="target")
right.plot(t, before, "--", label="output before")
right.plot(t, after, label="output after")
right.set(xlabel="time (s)", ylabel="signal (no unit)", ylim=(-1, 2.5))
right.legend(fontsize=8, ncols=2, loc="upper right")
plt.show()

# %% [markdown]
# *The longer preset: loss, and the output (real part) before and after training.*
#
# `examples/truncated_directions.py` follows this run with the published directions beside the
# gradient, and trains along each of them. They begin up to a whole length away from the gradient,
# and the losses fall all the same. That is why we do not accept a falling loss as a test.
#
# ### Timing

# %%
model = published.published_model()
model.fit(u, target, epochs=10, mode="one_step")  # compiles, or loads what was compiled before
begin = time.perf_counter()
model.fit(u, target, epochs=10_000, mode="one_step")
fast_time = (time.perf_counter() - begin) / 10_000
print(f"NumPy loop {1e6 * loop_time:8.2f} µs an epoch")
print(f"package    {1e6 * fast_time:8.2f} µs an epoch, {loop_time / fast_time:.0f} times faster")

# %% [markdown]
# ## Done right: an electrocardiogram
#
# Twenty samples without noise are a demonstration. Now a recording: three heart beats, 1024
# samples, which come with PyWavelets. We add white noise, and train a model of 16 poles with real
# output and a feed-through $D$ to give the clean signal back.
#
# What makes it honest is the protocol, which `ssm_manual.tasks.denoising` spells out:
#
# * training on the first 70 % alone; mean and scale come from there;
# * fresh noise in every epoch, so there is nothing to learn by heart;
# * evaluation on the last 30 %, with unseen noise, the same for every method;
# * a filter may wait `lookahead` samples before it answers; the delay is removed before comparing;
# * the others choose their settings on the training part as well.
#
# The measure is
#
# $$\text{SNR} = 10 \log_{10} \frac{\sum_t |\text{clean}_t|^2}
# {\sum_t |\text{restored}_t - \text{clean}_t|^2} .$$
#
# Where nothing is restored yet, the difference is the noise itself.

# %%
ecg = signals.ecg().samples[0]
task = denoising.prepare(ecg, noise_snr=5.0)
noise = task.sigma * np.random.default_rng(0).standard_normal(task.clean.size)
before = denoising.snr(task.clean[: task.start], noise[: task.start])
assert abs(before - 5.0) < 0.5  # one draw of noise of 5 dB
sums = (np.sum(part[: task.start] ** 2) for part in (task.clean, noise))
assert np.isclose(before, 10 * np.log10(next(sums) / next(sums)), rtol=1e-12)
power = np.mean(task.clean[task.start :] ** 2)
print(f"SNR over the training part {before:.1f} dB in this draw")
print(f"power of the held-out part over the training part's: {10 * np.log10(power):+.1f} dB")

ax = plots.signals({"noisy": task.clean + noise, "clean": task.clean}, unit="training deviations")
ax.axvline(task.start, color=plots.COLOURS["grey"], linestyle="--", linewidth=0.9)
ax.annotate("held out", (task.start, 6.5), (6, 0), textcoords="offset points", fontsize=9)
ax.figure.dpi = 95
ax.figure

# %% [markdown]
# *The recording about its training mean, and one draw of noise at 5 dB. The held-out part lies
# further from that mean and is 1.0 dB stronger: at the same noise its SNR is about 6 dB.*
#
# ### Train and compare
#
# Plain gradient descent, 5000 epochs, once without waiting and once with eight samples. Five seeds
# each: another initial $C$, other noise.

# %%
SEEDS = range(5)
results = {}
for lookahead in (0, 8):
    results[lookahead] = [
        denoising.compare(ecg, name="ECG", noise_snr=5.0, lookahead=lookahead, seed=seed)
        for seed in SEEDS
    ]
    found = results[lookahead]
    print(f"lookahead {lookahead}: SNR before {np.mean([r.snr_in for r in found]):.2f} dB, after:")
    table = {
        s.method: (np.mean([r.score(s.method).snr for r in found]), s.causal, s.settings)
        for s in found[0].scores
    }
    for name, (mean, causal, settings) in sorted(table.items(), key=lambda item: -item[1][0]):
        kind = "causal" if causal else "sees all"
        print(f"  {mean:5.2f} dB  {kind:9s} {name:27s} {settings}")
    print(f"  training took {np.mean([r.training_seconds for r in found]):.2f} s a model\n")

# %%
figure = plots.denoising(results[8][0])
figure.dpi = 80
figure

# %% [markdown]
# *One of the models that wait eight samples. Above: held-out part, noisy, clean and restored.
# Below: the poles before and after training, the kernel, the frequency response and the loss. The
# kernel has its peak at the lag of eight samples: the model delays, and averages around it.*
#
# ### Reading it
#
# The model lands beside the two least-squares FIRs (one of 64 taps, one whose length was chosen on
# the training part), less than 0.1 dB below them, and above the other causal filters. Why not above
# the FIR? Because all three are linear and time-invariant, and there is a best one. For filters
# that look back over a given number of samples we can compute it, and even let it cheat: fit the
# taps $h$ *on the held-out part itself*, against the expectation over all noise,
#
# $$h = \Big( \sum_t w_t w_t^{\mathsf T} + n \sigma^2 I \Big)^{-1} \sum_t w_t\, \text{clean}_t,
# \qquad
# \text{expected error} = \sum_t (w_t^{\mathsf T} h - \text{clean}_t)^2 + n \sigma^2 |h|^2 ,$$
#
# where $w_t$ holds the clean samples that the filter sees and $n$ is the number of rows. No FIR of
# that length and patience does better there, in expectation over the noise.


# %%
def best_fir(lookahead, taps, cheat):
    """Expected SNR of the best FIR on the held-out part, in dB; and its taps."""
    task = denoising.prepare(ecg, noise_snr=5.0, lookahead=lookahead)
    padded = np.concatenate([np.zeros(taps - 1), task.clean])
    seen = np.lib.stride_tricks.sliding_window_view(padded, taps)[lookahead:, ::-1]
    goal = task.clean[: task.clean.size - lookahead]
    first = slice(task.start, None), slice(0, task.start - lookahead)
    rows = first[0] if cheat else first[1]
    W, d = seen[rows], goal[rows]
    h = np.linalg.solve(W.T @ W + len(W) * task.sigma**2 * np.eye(taps), W.T @ d)
    W, d = seen[first[0]], goal[first[0]]
    expected = np.sum((W @ h - d) ** 2) + len(W) * task.sigma**2 * (h @ h)
    return 10 * np.log10(np.sum(d**2) / expected), h


ours = {k: np.mean([r.score().snr for r in found]) for k, found in results.items()}
bounds = {}
for lookahead in (0, 8):
    print(f"lookahead {lookahead}: our model {ours[lookahead]:.2f} dB")
    for taps in (64, 256):
        honest = best_fir(lookahead, taps, cheat=False)[0]
        bounds[lookahead, taps] = best_fir(lookahead, taps, cheat=True)[0]
        print(
            f"  {taps:3d} taps: {honest:.2f} dB fitted on the training part,"
            f" {bounds[lookahead, taps]:.2f} dB fitted on the held-out part itself"
        )

# %% [markdown]
# Is the expectation what one finds? We filter two thousand draws of noise.

# %%
expected, h = best_fir(8, 64, cheat=True)
task = denoising.prepare(ecg, noise_snr=5.0, lookahead=8)
draw = np.random.default_rng(7)
goal = task.clean[task.start : task.clean.size - 8]
errors = []
for _ in range(2000):
    noisy = task.clean + task.sigma * draw.standard_normal(task.clean.size)
    errors.append(np.convolve(noisy, h)[task.start + 8 : task.clean.size] - goal)
found = 10 * np.log10(np.sum(goal**2) / np.mean(np.sum(np.square(errors), axis=1)))
print(f"expected {expected:.3f} dB, mean of 2000 draws {found:.3f} dB")
assert abs(found - expected) < 0.03

# %% [markdown]
# The model is within 0.1 dB of the honest 64-tap FIR. And there is hardly anything above that for a
# filter of this kind: one that looks back over 64 samples, and has been fitted to the answers,
# gains 0.11 dB without waiting and 0.02 dB with eight samples; one over 256 samples gains 0.25 and
# 0.05 dB, from four times the taps and nearly as many unknowns as there are samples to fit. The
# model, with 16 complex poles, $\bar B$, $C$ and one $D$, has found by gradient descent what the
# FIR finds by solving 64 equations. What it offers is the form: 16 states, whatever the length of
# its memory, where an FIR needs a product for every tap. (Beats are about 328 samples apart; only a
# filter that reaches back to the beat before sees something new. The 400 taps in the table below
# do.)
#
# The methods that are better without waiting see the whole recording. With eight samples of
# patience the model passes two-way Butterworth and Savitzky-Golay and is level with wavelet
# shrinkage; only SciPy's Wiener filter stays well above, by 1.5 dB. It is not linear: it averages
# less where the signal is strong. A linear time-invariant filter treats the peaks and the quiet
# stretches alike, whoever finds its coefficients.

# %%
for lookahead in (0, 8):
    print(
        f"lookahead {lookahead}: 400 taps fitted on the training part:"
        f" {best_fir(lookahead, 400, cheat=False)[0]:.2f} dB, our model {ours[lookahead]:.2f} dB"
    )
    assert ours[lookahead] < bounds[lookahead, 256]

# %% [markdown]
# How alike are model and FIR? Kernels and frequency responses, side by side:

# %%
model = results[8][0].model
lags = np.arange(64)
K = np.array(model.kernel(64), float)
K[0] += model.params["D"]
h = best_fir(8, 64, cheat=False)[1]
frequencies = np.linspace(0, 0.5, 400)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
left.stem(lags, h, linefmt="0.75", markerfmt=".", basefmt=" ", label="FIR, 64 taps")
plots.kernel(K, ax=left, color=plots.COLOURS["vermilion"], label="model, 16 poles")
left.legend(fontsize=9)
fir_response = np.exp(-2j * np.pi * np.outer(frequencies, lags)) @ h
plots.frequency_response(frequencies, fir_response, ax=right, color="0.6", label="FIR, 64 taps")
plots.frequency_response(
    frequencies,
    model.frequency_response(frequencies),
    ax=right,
    color=plots.COLOURS["vermilion"],
    label="model, 16 poles",
)
right.set_ylim(-50, 5)
right.legend(fontsize=9)
plt.show()
distance = np.linalg.norm(K - h) / np.linalg.norm(h)
print(f"relative distance of the kernels over 64 lags: {distance:.2f}")

# %% [markdown]
# *The two linear filters for a lookahead of eight samples: kernel (left) and frequency response
# (right).*
#
# ### Does it need the whole gradient?
#
# The same training with the one-step direction, and with windows of 16 and 64 samples
# (`mode="windowed"`), three seeds each. The rates are those chosen for the gradient.

# %%
rows = {
    "full BPTT": ("bptt", None),
    "windows of 64": ("windowed", 64),
    "windows of 16": ("windowed", 16),
    "one step": ("one_step", None),
}
print("SNR after, dB         lookahead 0   lookahead 8")
for name, (mode, window) in rows.items():
    means = []
    for lookahead in (0, 8):
        task = denoising.prepare(ecg, noise_snr=5.0, lookahead=lookahead)
        held_out = slice(task.start, task.clean.size - lookahead)
        each = []
        for seed in range(3):
            for_model, unseen = np.random.default_rng(seed).spawn(2)
            trained = trained_filter.train(task, mode=mode, window=window, rng=for_model)
            noise = task.sigma * unseen.standard_normal((32, task.clean.size))
            errors = np.array([trained(task.clean + one) - task.clean for one in noise])
            each.append(denoising.snr(task.clean[held_out], errors[:, held_out]))
        means.append(np.mean(each))
    print(f"{name:20s} {means[0]:12.2f} {means[1]:13.2f}")

# %% [markdown]
# Without waiting, all four end at the same place: what such a filter can know lies in the last few
# samples. With a lookahead of eight the windows lose about 0.7 dB, and the one-step direction loses
# 0.1. Odd, for by the angle the windows should be the better approximation. We look closer: take
# the model that was trained with the gradient, go on from there in each of the four ways, with the
# same noise for each, and see what becomes of the loss and how far the poles go.

# %%
gain = 1 / np.sqrt(1 + task.sigma**2)
clean = (gain * task.clean[: task.start]).astype(np.float32)
late = np.concatenate([np.zeros(8, np.float32), clean[:-8]])
best = results[8][0].model
rates = trained_filter.RATES  # the first stage's
print("5000 epochs more   mean loss, first 500   last 500   largest move of a pole")
for name, (mode, window) in rows.items():
    draw = np.random.default_rng(1)

    def batches(start, count, draw=draw):
        """Fresh noise in every epoch."""
        noise = draw.standard_normal((count, clean.size), np.float32)
        return clean + np.float32(gain * task.sigma) * noise, np.broadcast_to(late, noise.shape)

    again = DiagonalSSM(**best.params)
    losses = again.fit(batches, epochs=5000, rates=rates, mode=mode, window=window).losses / gain**2
    moved = np.abs(again.A_bar - best.A_bar).max()
    print(f"{name:15s}{losses[:500].mean():23.5f} {losses[-500:].mean():13.5f} {moved:15.4f}")

# %% [markdown]
# The windows climb. The recording is cut at the same places in every epoch, so what is cut off does
# not average out: it drags the poles far away from where the gradient had put them, and the loss
# rises by a third and more. The one-step direction stays where it is because it hardly moves the
# poles at all; $C$ and $D$, whose directions are exact, do its work between poles that were well
# placed from the start. Neither descends the loss; the one merely does no harm here. The gradient
# costs no more, and needs no such luck.
#
# ### What to save and what to recompute
#
# A training epoch has 716 samples and 16 poles in single precision. The compiled loop keeps all its
# states, and as many adjoint states: they fit the processor's cache, so that recomputing them would
# only cost time. `ops.scan`, which is made for long sequences too, keeps one state in 64 [SCAN-12].

# %%
n_samples, n_poles = task.start, 16
print(f"all states: {8 * n_samples * n_poles} bytes, and as many of adjoint states")
saved_bytes = 8 * -(-n_samples // 64) * n_poles
print(f"one state in 64: {saved_bytes} bytes, and blocks of {8 * 64 * n_poles} to work in")

# %% [markdown]
# ## Exercise: the best C
#
# The published run creeps: with $\bar A$ and $\bar B$ held, its loss is quadratic in $C$, and
# gradient descent is a slow way to the bottom of a bowl. Set
# $\operatorname{grad}_C = \frac1n \sum_t e_t \overline{x_t} = 0$ [SCAN-7], with
# $e_t = \sum_n C_n x_{t,n} - \text{target}_t$, and solve for $C$. Complete `yours`, which takes the
# states `x` (20, 4) and the target (20,) and at present returns the $C$ with which the published
# run ends, until the cell after it says *solved*.


# %%
def yours(x, goal):
    """The C for which grad_C = 0."""
    return run.model.params["C"].astype(complex)


# %%
def check(solve):
    """Whether the gradient to C vanishes, with the published run's last A_bar and B_bar."""
    A_end, B_end = (run.model.params[name].astype(complex) for name in "AB")
    x = np.zeros((u.size + 1, 4), complex)
    for k in range(u.size):
        x[k + 1] = A_end * x[k] + B_end * u[k]
    x, goal = x[1:], target.astype(complex)
    error = x @ solve(x, goal) - goal
    grad_C = x.conj().T @ error / u.size  # [SCAN-7]
    size = np.linalg.norm(grad_C) * u.size / np.linalg.norm(x.conj().T @ goal)
    loss = np.sum(np.abs(error) ** 2)
    if size > 1e-10:
        return f"not yet: |grad_C| is {size:.1e} of its scale"
    return f"solved: loss {loss:.4f}, where the published run ends at {run.losses[-1]:.4f}"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Written with the matrix $X$ of states, one row a sample,
# $\operatorname{grad}_C = \frac1n X^{\mathsf H} (X C - d)$. It vanishes for
# $X^{\mathsf H} X\, C = X^{\mathsf H} d$: the normal equations, with the conjugates of [SCAN-7] in
# them. A QR-based solver is more accurate than forming $X^{\mathsf H} X$:
#
# ```python
# def yours(x, goal):
#     return np.linalg.lstsq(x, goal, rcond=None)[0]
# ```
#
# </details>

# %% [markdown]
# *Next:* [8. Linear regression from scratch](08_linear_regression.ipynb). Why is descent so slow?
# The simplest model there is tells exactly.
