"""Sequential MNIST from a file of the user's: images of digits, read pixel by pixel."""

from typing import ClassVar

import numpy as np

from ssm_manual import _validate
from ssm_manual.tasks import _idx, _images, protocol
from ssm_manual.tasks.protocol import Option, Score, Settings
from ssm_manual.training import accuracy

__all__ = ["SequentialMNIST", "labelled_images", "nearest_neighbours"]

#: Of all images used, the share that validation has, and the test.
SHARE = 0.1

#: Of which the validation part chooses.
NEIGHBOURS = (1, 3, 5)


def labelled_images(data):
    """Images and labels of an .npz archive, or of two IDX files.

    The archive has ``x`` and ``y``, or ``x_train`` and ``y_train``; what else it has is left alone.
    IDX files may be compressed by gzip. Images are (items, rows, columns), or (items, pixels) of
    squares; labels are integers from 0 on. Nothing is downloaded; pickled objects are refused.

    Parameters
    ----------
    data : str, os.PathLike, or a sequence of one or two of them
        Two: images and labels, in any order.

    Returns
    -------
    images : ndarray
        (items, rows, columns), numbers as they stand in the file.
    labels : ndarray
        (items,), int64.

    Raises
    ------
    ValueError
        If a file is malformed, truncated, too long or holds something else; the message names it.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "three.npz")
    ...     np.savez(path, x=np.zeros((3, 28, 28), np.uint8), y=[5, 0, 4])
    ...     images, labels = labelled_images(path)
    >>> images.shape, labels.tolist()
    ((3, 28, 28), [5, 0, 4])
    """
    return _idx.read(data)


class SequentialMNIST(protocol.Task):
    """Which digit is it? The 784 pixels of an image come one after the other, row by row.

    A tenth of the images that are used is the test part, the same for every seed; the seed draws
    another tenth for validation.

    Parameters
    ----------
    quick : bool
        Images of a quarter of the pixels (means of 2 x 2), 500 if nothing is said, and 3 epochs of
        a smaller model.
    data : path or paths
        As of `labelled_images`. Images of another size, and other labels, do as well.
    **options : int
        ``items``: how many images are used, at most.

    Raises
    ------
    ValueError
        If a file does not hold labelled images, see `labelled_images`, or too few.

    References
    ----------
    Q. Le, N. Jaitly, G. Hinton (2015), "A simple way to initialize recurrent networks of rectified
    linear units", section 4.2: the task. The images: Y. LeCun, C. Cortes, C. Burges, "The MNIST
    database of handwritten digits".
    """

    name = "mnist"
    title = "Sequential MNIST"
    summary = "MNIST from your own file, 784 pixels one by one"
    description = """\
Which digit is it? The pixels of an image come one after the other, row by row. The images are
yours: two IDX files (images and labels, .gz or not), or one .npz archive (x and y, or x_train and
y_train); nothing is downloaded.

Score: share of images. Parts: a tenth of those used is the test part, the same for every seed; the
seed draws another tenth for validation. Pixels are standardised by mean and spread of the training
images, which are turned, resized and moved a little, anew in every epoch. 25 epochs.

Beside the models: the nearest neighbours among the training images, as they stand in the file.
"""
    options: ClassVar[dict] = {
        "items": Option(10_000, "images that are used, at most", minimum=50, quick=500)
    }
    metric_label = "accuracy (share of images)"
    needs_data = (
        "an .npz archive (x and y, or x_train and y_train), or two IDX files, images and labels, "
        ".gz or not"
    )

    def __init__(self, *, quick=False, data=None, **options):
        super().__init__(quick=quick, data=data, **options)
        self.images, self.labels = _idx.read(self.data)
        least = self.options["items"].minimum
        if len(self.images) < least:
            raise ValueError(
                f"{self.data[0]}: holds {len(self.images)} images; there must be at least {least}"
            )
        if self.quick:
            self.images = _halved(self.images)

    def parts(self, seed):
        """80, 10 and 10 % of the images that are used."""
        used = min(self.chosen["items"], len(self.images))
        tenth = round(SHARE * used)
        chosen = _images.split(len(self.images), seed, validation=tenth, test=tenth, used=used)
        train, validation, test = ((self.images[i], self.labels[i]) for i in chosen)
        return _images.parts(
            train, validation, test, batch_size=16 if self.quick else 32, vary=not self.quick
        )

    def shape(self):
        """One pixel in, a class for each label out, and a learned vector for the place."""
        return {
            "d_input": 1,
            "d_output": int(self.labels.max()) + 1,
            "task": "classification",
            "positions": int(np.prod(self.images.shape[1:])),
        }

    def candidates(self, model):
        """What was compared; the first is used."""
        size = {"n_layers": 2, "epochs": 3 if self.quick else 25}
        # S4D on the validation part after 10 epochs: 97.1 %, and still rising. Images that are
        # never twice the same need no dropout.
        options = {"dropout": 0.0}
        if model in ("lstm", "rnn"):
            rates = (0.01,) if self.quick else (0.003, 0.01)
            return tuple(Settings(None, options=options, lr=lr, **size) for lr in rates)
        options["modes"] = 8
        if self.quick:
            return (Settings(32, options=options, lr=0.01, **size),)
        return (Settings(64, options=options, lr=0.005, **size),)

    def metrics(self):
        """Share of images that are named rightly."""
        return {"accuracy": accuracy}

    def goal(self):
        """What S4D should reach on 10,000 digits, and what a guess does."""
        return {"goal": 0.97, "chance": 1 / (int(self.labels.max()) + 1)}

    def rivals(self, parts, test):
        """The nearest neighbours among the training images, as they stand in the file."""
        train, validation, test = (part.arrays for part in (parts.train, parts.validation, test))
        shares = [
            np.mean(nearest_neighbours(train.u, train.target, validation.u, k) == validation.target)
            for k in NEIGHBOURS
        ]
        k = NEIGHBOURS[int(np.argmax(shares))]  # the first of equals
        found = nearest_neighbours(train.u, train.target, test.u, k)
        note = f"all pixels at once; k = {k} by the validation part"
        return (Score("nearest neighbours", float(np.mean(found == test.target)), note),)

    def draw(self, runs, ax):
        """The hardest images of the test part with the models' answers, and one as a sequence."""
        _images.draw(self, self.images.shape[1:], runs, ax)


def nearest_neighbours(known, labels, asked, k):
    """The label that most of the k nearest items have; among equals, that of the nearest.

    Parameters
    ----------
    known : array_like
        (items, ...), compared by Euclidean distance.
    labels : array_like of int
        (items,), at least 0.
    asked : array_like
        (others, ...).
    k : int
        From 1 to the number of items.

    Returns
    -------
    ndarray of int
        (others,).

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> nearest_neighbours([[0.0], [1.0], [5.0]], [3, 3, 7], [[0.4], [4.0]], 1).tolist()
    [3, 7]
    """
    known, asked = _validate.arrays(known=known, asked=asked, real=("known", "asked"))
    labels = np.asarray(labels)
    _validate.shape("labels", labels, (len(known),), meaning="one for each known item")
    k = _validate.integer("k", k, minimum=1, maximum=len(known))
    known, asked = (a.reshape(len(a), -1) for a in (known, asked))
    _validate.shape("asked", asked, (None, known.shape[1]), meaning="(others, numbers of an item)")
    found = []
    for start in range(0, len(asked), 500):
        # |a - b|^2 without |a|^2, which is the same for all that are compared
        distances = np.sum(known**2, axis=1) - 2 * asked[start : start + 500] @ known.T
        near = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1)
        votes = labels[np.take_along_axis(near, order, axis=1)]
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
        first = counts.argmax(axis=1)[:, None]  # the first of the largest: the nearest
        found.append(np.take_along_axis(votes, first, axis=1)[:, 0])
    return np.concatenate(found)


def _halved(images):
    """Means of 2 x 2 pixels; a last row or column without a fellow is left out."""
    items, rows, columns = images.shape
    if rows < 2 or columns < 2:
        return images
    even = images[:, : rows - rows % 2, : columns - columns % 2]
    return even.reshape(items, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
