"""Labelled images as sequences of pixels: how they are split, standardised, varied and drawn."""

import numpy as np

from ssm_manual import plots
from ssm_manual.tasks import protocol
from ssm_manual.training import Batches

#: Seed of the test part, which is the same whatever the seed of a run.
TEST_SEED = 0

#: Images that `draw` shows.
ROWS, COLUMNS = 2, 8


def split(items, seed, *, validation, test, used=None):
    """Numbers of the items for training, validation and test.

    There are only so many images. Were the test part drawn by the seed of a run, its items would
    have been among those on which the settings were chosen, with another seed. So it is drawn once
    for all, and so are the ``used`` ones where not all are; the seed divides what is left.
    """
    order = np.random.default_rng(TEST_SEED).permutation(items)[:used]
    rest = np.random.default_rng([seed, 2]).permutation(order[test:])
    return rest[validation:], rest[:validation], order[:test]


def parts(train, validation, test, *, batch_size, vary=False):
    """`protocol.Parts` of three pairs ``(images, labels)``: pixels row by row, one feature.

    Standardised by mean and spread of the training images; with ``vary`` those are `Varied`.
    """
    images = train[0]
    mean, spread = images.mean(dtype=float), images.std(dtype=float) or 1.0

    def standard(images):
        return ((images - mean) / spread).astype(np.float32)

    def sequences(images, labels):
        return standard(images).reshape(len(images), -1, 1), labels

    if vary:
        dark = standard(images.min())
        fitted = Varied(*sequences(*train), images.shape[1:], dark, batch_size=batch_size)
    else:
        fitted = Batches(*sequences(*train), batch_size=batch_size)
    plain = {"batch_size": 100, "shuffle": False}
    test = protocol.Sealed(Batches(*sequences(*test), **plain))
    return protocol.Parts(fitted, Batches(*sequences(*validation), **plain), test)


class Varied(Batches):
    """Batches of images as sequences; every epoch each is turned, resized and moved anew.

    By up to `TURN`, `RESIZE` and `MOVE`, uniform and independent; bilinear between pixels, and
    ``dark`` beyond the edge.
    """

    #: Radians; share of the size; pixels.
    TURN, RESIZE, MOVE = 0.2, 0.1, 1.5

    def __init__(self, u, target, size, dark, *, batch_size):
        super().__init__(u, target, batch_size=batch_size)
        self.size, self.dark = size, dark

    def __call__(self, epoch, rng):
        """The batches of an epoch; see `ssm_manual.training.batches`."""
        for batch in super().__call__(epoch, rng):
            items = len(batch.u)
            angle = rng.uniform(-self.TURN, self.TURN, items)
            scale = np.exp(rng.uniform(-self.RESIZE, self.RESIZE, items))
            move = rng.uniform(-self.MOVE, self.MOVE, (2, items))
            images = batch.u.reshape(items, *self.size)
            images = transformed(images, angle, scale, move, self.dark)
            yield batch._replace(u=images.reshape(batch.u.shape))


def transformed(images, angle, scale, move, dark):
    """Images turned about their middle, resized and moved, bilinear between pixels.

    Parameters
    ----------
    images : ndarray
        (items, rows, columns).
    angle : ndarray
        (items,), radians, from the first axis towards the second.
    scale : ndarray
        (items,): 2 makes things twice as large.
    move : ndarray
        (2, items): pixels down and to the right, after all else.
    dark : float
        What lies beyond the edge.

    Returns
    -------
    ndarray
        As ``images``.
    """
    items, rows, columns = images.shape
    middle = (rows - 1) / 2, (columns - 1) / 2
    # where each new pixel comes from: the inverse map
    down = np.arange(rows)[:, None] - middle[0] - move[0][:, None, None]
    right = np.arange(columns) - middle[1] - move[1][:, None, None]
    c, s = (f(angle)[:, None, None] / scale[:, None, None] for f in (np.cos, np.sin))
    i = np.clip(c * down + s * right + middle[0] + 1, 0, rows + 1)
    j = np.clip(c * right - s * down + middle[1] + 1, 0, columns + 1)
    # one dark pixel around the image; two behind it, for the last has a neighbour too
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)), constant_values=dark)
    top, left = i.astype(int), j.astype(int)
    i, j, item = i - top, j - left, np.arange(items)[:, None, None]
    upper = (1 - j) * padded[item, top, left] + j * padded[item, top, left + 1]
    lower = (1 - j) * padded[item, top + 1, left] + j * padded[item, top + 1, left + 1]
    return ((1 - i) * upper + i * lower).astype(images.dtype)


def draw(task, size, runs, ax):
    """The test images that are hardest for all models together, their answers, one as a sequence.

    Parameters
    ----------
    task : Task
        Whose ``parts`` have images of this size.
    size : tuple of int
        Rows and columns.
    runs : list of Run
    ax : matplotlib.axes.Axes
    """
    u, labels = task.parts(runs[0].seed).test.open().arrays[:2]
    logits = np.stack([answers(run.model, u) for run in runs])
    right = np.take_along_axis(log_softmax(logits), labels[None, :, None], axis=2)[..., 0]
    hardest = np.argsort(right.mean(axis=0), kind="stable")[: ROWS * COLUMNS]
    ax.set_axis_off()
    above, below = ax.inset_axes([0, 0.3, 1, 0.64]), ax.inset_axes([0.08, 0.08, 0.9, 0.17])
    line = 0.3  # of the text below an image, in images, as all else here
    height, width = 1.2 + line * len(runs), 1.2
    for place, item in enumerate(hardest):
        x, y = width * (place % COLUMNS), -height * (place // COLUMNS)
        image = u[item].reshape(size)
        above.imshow(image, cmap="gray_r", extent=(x, x + 1, y - 1, y), aspect="equal")
        for which, run in enumerate(runs):
            found = int(logits[which, item].argmax())
            wrong = found != labels[item]
            text = {"color": plots.model_colour(run.name), "fontsize": "small", "va": "center"}
            below_it = y - 1 - line * (which + 0.6)
            above.text(
                x + 0.5,
                below_it,
                str(found) if wrong else "\u2713",
                ha="center",
                fontweight="bold" if wrong else "normal",
                **text,
            )
            if place % COLUMNS == 0:
                above.text(-0.1, below_it, run.title, ha="right", **text)
    above.set(xlim=(-0.9, width * COLUMNS), ylim=(-height * ROWS, 0.05))
    above.set_axis_off()
    above.set_title("the hardest of the test part; a number is a wrong answer", fontsize="small")
    below.plot(np.arange(1, u.shape[1] + 1), u[hardest[0], :, 0], color="black", linewidth=0.8)
    below.set_xlabel("pixel (number), of the first image above", fontsize="small")
    below.set_ylabel("ink (SD)", fontsize="small")
    below.tick_params(labelsize="small")
    below.set_xlim(0, u.shape[1] + 1)
    below.spines[["top", "right"]].set_visible(False)


def answers(model, u, batch_size=100):
    """Logits (items, classes) of sequences, a batch at a time."""
    return np.concatenate(
        [
            model.forward(u[start : start + batch_size], cache=False)[0]
            for start in range(0, len(u), batch_size)
        ]
    )


def log_softmax(logits):
    """Logarithms of the probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
