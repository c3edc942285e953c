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
# # 8. Linear regression from scratch
#
# Training in its simplest form: a weighted sum, a squared error, and a step against the gradient.
# Nothing here needs complex numbers or time. What remains is what every training run has: a loss,
# a gradient, a rate, and a number of epochs that may be far too large. Here we can say exactly why.
#
# The data is a published example: three fish, whose weight is
# $0.5 \cdot \text{length} + 0.2 \cdot \text{width}$.
#
# Needed from before: `check_vjp`, which holds a gradient against finite differences (notebook 2).
# The rest begins here anew, with real numbers. Labels such as [REGRESSION-3] are those of
# [Linear regression](../docs/derivations/regression.md).

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from ssm_manual import plots, reference
from ssm_manual.gradcheck import check_vjp
from ssm_manual.models import LinearRegression
from ssm_manual.tasks.tables import FISH
from ssm_manual.training import DivergenceError, regression

plt.rcParams.update(plots.STYLE)
rng = np.random.default_rng(8)

for (length, width), weight in zip(FISH.X, FISH.y):
    print(f"length {length:4.1f}, width {width:3.1f}: weight {weight:.2f}")

# %% [markdown]
# ## The equation
#
# A prediction for each row $i$ [REGRESSION-1], and half the mean squared error [REGRESSION-2]:
#
# $$p_i = \sum_k w_k x_{ik} + b, \qquad L = \frac{1}{2n} \sum_i e_i^2, \qquad e_i = p_i - y_i .$$
#
# ## The reference
#
# The published program updates the weights after *every row*, in order [REGRESSION-4]:
#
# $$w \leftarrow w - (\eta\, e_i)\, x_i, \qquad b \leftarrow b - \eta\, e_i .$$
#
# An epoch is one pass over the rows. In NumPy that is five lines, and we keep every number in
# float32, as it does.


# %%
def epoch(weights, bias, X, y, rate):
    """One update a row, in order."""
    for x, target in zip(X, y):
        error = (weights[0] * x[0] + weights[1] * x[1]) + bias - target
        weights = weights - (rate * error) * x
        bias = bias - rate * error
    return weights, bias


initial = np.array([1036446394, 1018744551], np.uint32).view(np.float32)  # the published bits
weights, bias = initial, np.float32(0)
seen = [(*weights, bias)]
for _ in range(1000):
    weights, bias = epoch(weights, bias, FISH.X, FISH.y, np.float32(0.001))
    seen.append((*weights, bias))
print("after 1000 epochs:", weights, bias)

figure, ax = plt.subplots(figsize=(6.4, 3.2))
for values, name in zip(np.transpose(seen), ("weight of length", "weight of width", "bias")):
    ax.plot(np.arange(1, 1002), values, label=name)
for true, colour in zip((0.5, 0.2, 0.0), plots.CYCLE):
    ax.axhline(true, color=colour, linewidth=0.8, linestyle=":")
ax.set(xscale="log", xlabel="epoch + 1", ylabel="parameter (target / feature)")
ax.legend(loc="center right", bbox_to_anchor=(1, 0.66))
plt.show()

# %% [markdown]
# *The three parameters over the first thousand epochs, and what they should become (dotted). After
# ten epochs almost nothing moves, and nothing is where it should be.*
#
# `ssm_manual.reference.regression` is the same, for any number of features. The published run's
# weights after 1000 epochs are known as float32 bits, and we meet them to the last one. That takes
# care with the order of the sum and, less, with $(\eta e_i)\, x_i$ in place of $\eta (e_i x_i)$. We
# try both of the others.

# %%
assert weights.view(np.uint32).tolist() == [1057192896, 1041473734]
assert bias.view(np.uint32) == 1021128372

other, offset = initial, np.float32(0)
for _ in range(1000):
    other, offset, _ = reference.regression.per_sample_epoch(
        other, offset, FISH.X, FISH.y, np.float32(0.001)
    )
assert np.array_equal(other, weights)
assert offset == bias

rate = np.float32(0.001)
for name in ("another bracket", "another order"):
    w, b, path = initial, np.float32(0), []
    for _ in range(1000):
        for x, target in zip(FISH.X, FISH.y):
            if name == "another order":
                error = w[0] * x[0] + (w[1] * x[1] + b) - target
                w = w - (rate * error) * x
            else:
                error = (w[0] * x[0] + w[1] * x[1]) + b - target
                w = w - rate * (error * x)
            b = b - rate * error
        path.append((*w, b))
    steps = np.array(path).view(np.int32) - np.array(seen[1:]).view(np.int32)
    others = np.sum(np.any(steps, axis=1))
    print(f"{name}: other bits in {others} of 1000 epochs, at the end {steps[-1]} units off")
    assert others > 0

# %% [markdown]
# ## Derive
#
# One row's loss is $L_i = e_i^2 / 2$, so $dL_i = e_i\, de_i$. The error depends on the parameters
# by $de_i = \sum_k x_{ik}\, dw_k + db$. Collect what multiplies $dw_k$ and $db$, and take the mean
# over the rows:
#
# $$\operatorname{grad}_w = \frac{1}{n} \sum_i e_i\, x_i, \qquad
# \operatorname{grad}_b = \frac{1}{n} \sum_i e_i . \qquad\text{[REGRESSION-3]}$$
#
# No factor 2: the half in the loss has taken it. The update above steps along the gradient of one
# row.
#
# ## The check


# %%
def loss_fwd(weights, bias, X, y):
    """Half the mean squared error; the errors are what the way back needs."""
    error = X @ weights + bias - y
    return np.mean(error**2) / 2, (weights, X, error)


def loss_vjp(residuals, grad_loss):
    """[REGRESSION-3], and the gradients to the data for completeness."""
    weights, X, error = residuals
    g = grad_loss * error / error.size
    return X.T @ g, g.sum(), np.outer(g, weights), -g


X64, y64 = FISH.X.astype(float), FISH.y.astype(float)
arguments = (rng.standard_normal(2), 0.3, X64, y64)
report = check_vjp(loss_fwd, loss_vjp, arguments)
assert report
report

# %% [markdown]
# Two slips are common: a factor 2 where the half has been forgotten, and a sum over the rows where
# a mean was meant.


# %%
def doubled_vjp(residuals, grad_loss):
    """The half forgotten."""
    return tuple(2 * grad for grad in loss_vjp(residuals, grad_loss))


def summed_vjp(residuals, grad_loss):
    """The mean forgotten."""
    _, _, error = residuals
    return tuple(error.size * grad for grad in loss_vjp(residuals, grad_loss))


for wrong in (doubled_vjp, summed_vjp):
    found = check_vjp(loss_fwd, wrong, arguments)
    assert not found
    print(f"{wrong.__doc__} {found.headline}")

# %% [markdown]
# Neither would be noticed in a run: both directions point straight downhill, and the loss falls.
# What has changed is the rate, by a factor of 2 or of the number of rows, and with the second one a
# larger table needs another rate.
#
# The package's own op has the penalty $\tfrac{\ell}{2} |w|^2$ in it; with $\ell = 0$ it is ours.

# %%
assert check_vjp(regression.objective_fwd, regression.objective_vjp, arguments, l2=0.7)
model = LinearRegression(arguments[0], 0.3)
_, grads = model.loss_and_grads(X64, y64)
ours = loss_vjp(loss_fwd(*arguments)[1], 1.0)
assert np.allclose(grads["weights"], ours[0], rtol=1e-13)
assert np.isclose(grads["bias"], ours[1], rtol=1e-13)

# %% [markdown]
# ## What to save, and what to recompute
#
# The gradient needs the $n$ errors. They are a sum over all features, so they are saved, one number
# a row; $w$ and $X$ are the arguments themselves, references that cost nothing. Updates by row save
# nothing at all: the one error is used at once.

# %%
_, (kept_weights, kept_X, kept_errors) = loss_fwd(*arguments)
assert kept_weights is arguments[0]  # a reference, not a copy
assert kept_X is X64
print(f"saved: {kept_errors.size} errors, {kept_errors.nbytes} bytes; the table has {X64.nbytes}")

# %% [markdown]
# ## Fast equals slow
#
# `LinearRegression.fit` runs the same loop compiled, in the same order, with nothing fused or
# reassociated: the same bits. Now the whole published run, which stops when the mean of $e^2$ over
# an epoch is at most $10^{-5}$.

# %%
fish = LinearRegression(initial)
run = fish.fit(FISH.X, FISH.y, epochs=30_000, rate=0.001, target_loss=1e-5, path=True)
assert np.array_equal(run.path[1000], np.append(weights, bias))
print(f"stopped at epoch {run.stop} (counted from 0): {run.reason}")
print("weights", fish.params["weights"], "bias", fish.params["bias"])
predicted = fish.predict(np.array([25, 7], np.float32))
print(f"a fish of 25.0 and 7.0: {predicted:.5f}, in truth {0.5 * 25 + 0.2 * 7:.1f}")
assert run.stop == 19431
assert f"{predicted:.5f}" == "13.89094"

# %% [markdown]
# Nineteen thousand epochs for three fish, and the weights are $(0.504,\ 0.184)$ where
# $(0.5,\ 0.2)$ is exact. The loss is tiny all the same. What has happened?
#
# ## The path on the loss surface
#
# We draw the surface over the two weights, with the bias as it was learnt, and the path of the run
# on it.

# %%
closed = LinearRegression.least_squares(FISH.X, FISH.y)
plots.regression(FISH, run, fish, closed)

# %% [markdown]
# *Left: contours of the mean squared error (equal ratios), the path of the published run with
# numbers of epochs, and the least-squares solution. Right: the loss over the epochs, both axes
# logarithmic.*
#
# Ten epochs take the path across the valley, and the loss falls by five decades. Then it creeps
# along the valley floor for the remaining nineteen thousand. All rates small enough to survive the
# walls are too small for the floor.
#
# ## Curvatures
#
# Write the bias as the weight of a column of ones, $\tilde X = (X, 1)$ and $\theta = (w, b)$. The
# loss is a quadratic; its second derivative is $H = \tilde X^\top \tilde X / n$, and its gradient
# is $H (\theta - \theta^*)$. A step with *all* rows at once is therefore
#
# $$\theta_{t+1} - \theta^* = (I - \eta H)\, (\theta_t - \theta^*) . \qquad\text{[REGRESSION-6]}$$
#
# Along each eigenvector of $H$ the distance shrinks by $1 - \eta \lambda$ a step, whatever the
# others do. We watch it do so, on a table of our own.

# %%
X = rng.standard_normal((50, 3)) * [1.0, 2.0, 0.3] + [0.0, 1.0, 0.5]
y = X @ [1.0, -1.0, 2.0] + 0.5 + 0.1 * rng.standard_normal(50)
wide = np.column_stack([X, np.ones(50)])
curvature, direction = np.linalg.eigh(wide.T @ wide / 50)
rate = 1 / curvature[-1]
table_model = LinearRegression.initial(3, dtype="float64")
history = table_model.fit(X, y, epochs=60, rate=rate, updates="full_batch", path=True)
best = LinearRegression.least_squares(X, y)
away = (history.path - np.append(best.params["weights"], best.params["bias"])) @ direction

steps = np.arange(len(away))
predicted = away[0] * (1 - rate * curvature) ** steps[:, None]
figure, ax = plt.subplots(figsize=(6.8, 3.8))
for i in (0, 1, 2):
    (drawn,) = ax.semilogy(np.abs(away[:, i]), "o", markersize=3)
    ax.semilogy(
        steps,
        np.abs(predicted[:, i]),
        color=drawn.get_color(),
        label=f"λ = {curvature[i]:.3f}: factor {1 - rate * curvature[i]:.3f}",
    )
ax.set(xlabel="epoch", ylabel="distance from the minimum (no unit)", ylim=(1e-9, 10))
ax.legend()
plt.show()
assert np.allclose(away[:31, :2], predicted[:31, :2], rtol=1e-9)
H, theta = wide.T @ wide / 50, rng.standard_normal(4)
minimum = np.append(best.params["weights"], best.params["bias"])
_, slopes = LinearRegression(theta[:3], theta[3]).loss_and_grads(X, y)
off = np.abs(np.append(slopes["weights"], slopes["bias"]) - H @ (theta - minimum)).max()
one_step = np.abs(history.path[1] - minimum - (np.eye(4) - rate * H) @ (history.path[0] - minimum))
print(f"gradient and H (theta - minimum) differ by {off:.1e},", end=" ")
print(f"the first step and [REGRESSION-6] by {one_step.max():.1e}")
assert off < 1e-12
assert one_step.max() < 1e-12
assert np.all(np.abs(away[1:, 3]) < 1e-12)  # the steepest: done in one step

# %% [markdown]
# *Distance from the minimum along three eigenvectors of the second derivative: measured (points)
# and $(1 - \eta \lambda)^t$ (lines). The fourth, the steepest, is done in one step at
# $\eta = 1/\lambda_1$.*
#
# So the steepest direction limits the rate, $\eta < 2/\lambda_1$, and the flattest decides when it
# is over. With $\eta = 1/\lambda_1$, shrinking an error by $\varepsilon$ takes about
#
# $$t \approx \kappa^2 \ln \frac{1}{\varepsilon} \quad\text{epochs}, \qquad
# \kappa = \sqrt{\lambda_1 / \lambda_{F+1}} , \qquad\text{[REGRESSION-7]}$$
#
# and $\kappa$ is the condition number of $\tilde X$.

# %%
found = LinearRegression.curvatures(FISH.X)
kappa = np.sqrt(found[0] / found[-1])
print("curvatures of the fish:", ", ".join(f"{value:.3g}" for value in found))
print(f"condition number {kappa:.0f}; its square, the order of the epochs: {kappa**2:,.0f}")
assert np.isclose(kappa, np.linalg.cond(np.column_stack([X64, np.ones(3)])))

limit = 2 / curvature[-1]
for factor in (0.99, 1.01):
    trial = LinearRegression.initial(3, rng=rng, dtype="float64")
    try:
        last = trial.fit(X, y, epochs=2000, rate=factor * limit, updates="full_batch").losses[-1]
        print(f"rate {factor} x 2/λ: loss {last:.4f}")
        assert factor < 1
    except DivergenceError as error:
        print(f"rate {factor} x 2/λ: {str(error).partition(';')[0]}")
        assert factor > 1

# %% [markdown]
# And the published updates, one a row? If there is a solution that all rows agree on, an epoch is a
# product of one contraction a row [REGRESSION-8], which to first order is the step above with the
# rate $n \eta$:
#
# $$\theta_{\text{after}} - \theta^* = (I - \eta\, \tilde x_n \tilde x_n^\top) \cdots
# (I - \eta\, \tilde x_1 \tilde x_1^\top)\, (\theta_{\text{before}} - \theta^*) .$$

# %%
product = np.eye(3)
for row in np.column_stack([X64, np.ones(3)]):
    product = product - 0.001 * np.outer(row, row @ product)
factors = np.sort(np.abs(np.linalg.eigvals(product)))
print("an epoch multiplies the three distances by", factors)
print(f"the slowest halves every {np.log(0.5) / np.log(factors[-1]):,.0f} epochs")

exact = LinearRegression.initial(2, dtype="float64")
exact_run = exact.fit(X64, y64, epochs=100_000, rate=0.001)
halving = 2 * np.log(0.5) / np.log(exact_run.losses[90_000] / exact_run.losses[70_000]) * 20_000
print(f"measured between epochs 70,000 and 90,000: {halving:,.0f}")
assert np.isclose(halving, np.log(0.5) / np.log(factors[-1]), rtol=1e-3)

# %% [markdown]
# ## What to do about it
#
# A large $\kappa$ often has nothing to do with the question. Two things make it: features of
# different size, and features whose mean is large beside their spread, which then look much like
# the column of ones. Both go away with $z = (x - \text{mean}) / \text{deviation}$. What is learnt
# on $z$ folds back into the user's units [REGRESSION-10]:
#
# $$w_k = \frac{v_k}{s_k}, \qquad b = c - \sum_k \frac{v_k m_k}{s_k} .$$
#
# `fit(standardise=True)` does both. We do it by hand beside it, from weights of zero.

# %%
mean, deviation = X64.mean(axis=0), X64.std(axis=0)
by_hand, by_fit = (LinearRegression(np.zeros(2), 0.0) for _ in range(2))
by_hand.fit((X64 - mean) / deviation, y64, epochs=300, updates="full_batch")
by_fit.fit(X64, y64, epochs=300, updates="full_batch", standardise=True)
v, c = by_hand.params["weights"], by_hand.params["bias"]
w, b = v / deviation, c - np.sum(v * mean / deviation)  # [REGRESSION-10]
off = max(np.abs(w - by_fit.params["weights"]).max(), abs(b - by_fit.params["bias"]))
print(f"folded by hand, and by fit: {off:.1e} apart")
assert off < 1e-10

scaled = LinearRegression(initial)
options = {"updates": "full_batch", "standardise": True, "target_loss": 1e-5, "path": True}
scaled_run = scaled.fit(FISH.X, FISH.y, epochs=30_000, **options)
found = LinearRegression.curvatures(FISH.X, standardise=True)
print(f"condition number {np.sqrt(found[0] / found[-1]):.1f} in place of {kappa:.0f}")
print(f"{scaled_run.epochs} epochs in place of {run.epochs}")
assert scaled_run.epochs < run.epochs / 20
plots.regression(FISH, scaled_run, scaled, closed, standardise=True)

# %% [markdown]
# *The same surface over the weights of the standardised features. The valley that is left is the
# correlation of length and width: long fish are wide, and three of them cannot tell much about
# which of the two it is.*
#
# The prediction of [REGRESSION-7] over many tables: two features with a correlation between 0 and
# 0.99, some of them shifted away from zero, full batches at $1/\lambda_1$, until the error is down
# to a millionth.

# %%
conditions, counts, shifted = [], [], []
for shift in (0.0, 3.0):
    for correlation in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        first, second = rng.standard_normal((2, 200))
        second = correlation * first + np.sqrt(1 - correlation**2) * second
        table = np.column_stack([first, second]) + shift
        clean = table @ [1.0, -1.0] + 1.0
        trial = LinearRegression.initial(2, dtype="float64")
        path = trial.fit(table, clean, epochs=60_000, updates="full_batch", path=True).path
        distance = np.linalg.norm(path - [1.0, -1.0, 1.0], axis=1)
        counts.append(int(np.argmax(distance < 1e-6 * distance[0])))
        found = LinearRegression.curvatures(table)
        conditions.append(np.sqrt(found[0] / found[-1]))
        shifted.append(shift > 0)
conditions, counts, shifted = map(np.array, (conditions, counts, shifted))

figure, ax = plt.subplots(figsize=(6.4, 4))
ax.loglog(conditions[~shifted], counts[~shifted], "o", label="mean 0")
ax.loglog(conditions[shifted], counts[shifted], "s", label="mean 3, deviation 1")
line = np.geomspace(1, conditions.max(), 50)
ax.loglog(line, line**2 * np.log(1e6), color="0.5", label="κ² ln 10⁶")
ax.set(xlabel="condition number κ (no unit)", ylabel="epochs to a millionth of the error")
ax.legend()
plt.show()
large = conditions > 3
assert np.all(counts[large] < 1.1 * conditions[large] ** 2 * np.log(1e6))
assert np.all(counts[large] > 0.6 * conditions[large] ** 2 * np.log(1e6))
cost = counts[shifted] / counts[~shifted]
print(f"moved away from zero: {cost.min():.0f} to {cost.max():.0f} times the epochs")

# %% [markdown]
# *Epochs that it takes, over the condition number: the line is [REGRESSION-7]. Moving the features
# away from zero changes nothing about the question and costs ten to six hundred times the epochs.*
#
# ## The closed form beside it
#
# For this model there is a way in one step: at the minimum the gradient is zero, which is a linear
# system. It is better not to form $X^\top X$, whose condition number is $\kappa^2$: a singular
# value decomposition of the centred and scaled table itself keeps the digits. With $Z$ for that
# table, and without a penalty,
#
# $$v = \arg\min_v |Z v - (y - \bar y)|^2, \qquad w_k = \frac{v_k}{s_k}, \qquad
# b = \bar y - \sum_k w_k m_k . \qquad\text{[REGRESSION-11]}$$

# %%
print("          learnt       least squares")
for name, learnt, solved in zip(FISH.features, fish.params["weights"], closed.params["weights"]):
    print(f"{name:8s}  {learnt:.8f}   {solved:.8f}")
print(f"bias      {fish.params['bias']:.8f}  {closed.params['bias']:.8f}")
assert np.allclose(closed.params["weights"], [0.5, 0.2], atol=1e-5)
v = np.linalg.lstsq((X64 - mean) / deviation, y64 - y64.mean(), rcond=None)[0]
w, b = v / deviation, y64.mean() - np.sum(v * mean / deviation)
off = max(np.abs(w - closed.params["weights"]).max(), abs(b - closed.params["bias"]))
print(f"the closed form by hand: {off:.1e} from the package's, which is rounded to float32")
assert off < 1e-7

year = 2000 + rng.uniform(0, 1, 40)  # far from zero: nearly the column of ones
table = np.column_stack([year, year**2])
answer = 3.0 * year - 0.001 * year**2
solved = LinearRegression.least_squares(table, answer)
wide = np.column_stack([table, np.ones(40)])
normal = np.linalg.solve(wide.T @ wide, wide.T @ answer)
print(f"\nyears and their squares: condition number {np.linalg.cond(wide):.0e}")
print("true weights                 3.000000  -0.00100000")
for how, found in (("decomposition", solved.params["weights"]), ("normal equations", normal)):
    print(f"weights by {how:16s} {found[0]:9.6f} {found[1]:12.8f}")
assert np.allclose(solved.params["weights"], [3.0, -0.001], rtol=1e-3)
assert not np.allclose(normal[:2], [3.0, -0.001], rtol=1e-3)

# %% [markdown]
# So why descend at all? Because this is the last model in these notebooks that has a closed form.
# For all others there is the gradient, and the same valley.
#
# ## Timing
#
# A per-sample loop is a chain: no row can begin before the one before it has been used. NumPy pays
# some hundred nanoseconds for each small operation in it, compiled code one or two.


# %%
def best_of(function, repeats):
    """Shortest time in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def compiled():
    """1000 epochs of the published run."""
    LinearRegression(initial).fit(FISH.X, FISH.y, epochs=1000, rate=0.001)


def plain():
    """The same, with `epoch` from above."""
    w, b = initial, np.float32(0)
    for _ in range(1000):
        w, b = epoch(w, b, FISH.X, FISH.y, np.float32(0.001))


fast, slow = best_of(compiled, 20), best_of(plain, 3)
print(f"1000 epochs: NumPy {1e3 * slow:.1f} ms, compiled {1e3 * fast:.2f} ms")
assert slow > 5 * fast

# %% [markdown]
# ## Exercise: the best constant rate
#
# With full batches at $\eta = 1/\lambda_1$ the flattest direction shrinks by
# $1 - \lambda_{F+1}/\lambda_1$ an epoch. A larger rate makes it faster, until the steepest
# direction, which then overshoots and changes sign each time, becomes the slowest. Which rate makes
# the *slower of the two* as fast as possible? Derive it, and complete `yours`, which at present
# returns $1/\lambda_1$, until the cell after it says *solved*.


# %%
def yours(largest, smallest):
    """The best constant rate for curvatures between smallest and largest."""
    return 1 / largest


# %%
def slowest(rate, largest, smallest):
    """The factor an epoch of the slower one of the two."""
    return max(abs(1 - rate * largest), abs(1 - rate * smallest))


def check(choose):
    """Whether no other rate is faster."""
    for largest, smallest in ((1.0, 0.1), (267.0, 0.0173), (5.0, 5.0)):
        rates = np.linspace(0, 2 / largest, 20_001)
        fastest = min(rates, key=lambda rate: slowest(rate, largest, smallest))
        factor, better = (
            slowest(rate, largest, smallest) for rate in (choose(largest, smallest), fastest)
        )
        if factor > better + 1e-9:
            return (
                f"not yet: for curvatures {largest:g} and {smallest:g} the factor is {factor:.6f},"
                f" and another rate has {better:.6f}"
            )
    return "solved: no other rate is faster"


print(check(yours))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# $|1 - \eta \lambda_1|$ grows with $\eta$ beyond $1/\lambda_1$, and $1 - \eta \lambda_{F+1}$
# falls. The larger of the two is least where they are equal:
# $\eta \lambda_1 - 1 = 1 - \eta \lambda_{F+1}$, so
# $\eta = 2 / (\lambda_1 + \lambda_{F+1})$. The factor is
# $(\kappa^2 - 1) / (\kappa^2 + 1) \approx 1 - 2/\kappa^2$: half as many epochs, and the square
# stays.
#
# ```python
# def yours(largest, smallest):
#     return 2 / (largest + smallest)
# ```
#
# </details>

# %% [markdown]
# *Next:* [9. HiPPO and the diagonal initialisations](09_hippo.ipynb). From where should a
# state-space model begin to descend?
