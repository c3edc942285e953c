"""Sequential digits: scikit-learn's handwritten digits of 8 x 8 pixels, read pixel by pixel."""

import importlib

import numpy as np

from ssm_manual.tasks import _images, protocol
from ssm_manual.tasks.protocol import Score, Settings
from ssm_manual.training import accuracy

__all__ = ["SequentialDigits", "classical", "handwritten_digits"]

#: Images for validation, and for the test; the other 1197 are for training.
VALIDATION = TEST = 300

PIXELS = 64


def handwritten_digits():
    """1797 digits that 43 people wrote, as scikit-learn ships them.

    Returns
    -------
    images : ndarray
        (1797, 8, 8), float32, from 0 (paper) to 1.
    labels : ndarray of int
        (1797,), from 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    References
    ----------
    E. Alpaydin, C. Kaynak (1998), "Optical recognition of handwritten digits", UCI machine learning
    repository; its part for testing.
    """
    found = _scikit_learn("datasets").load_digits()
    return (found.images / 16).astype(np.float32), found.target.astype(np.int64)


class SequentialDigits(protocol.Task):
    """Which digit is it? 64 pixels come one after the other, row by row.

    Of the 1797 images 300 are the test part, the same for every seed; the seed draws 300 of the
    others for validation, and 1197 remain for training.

    Parameters
    ----------
    quick : bool
        600 images for training, and 3 epochs of a smaller model.

    **options
        As of `protocol.Task`: there is none.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> task = SequentialDigits(quick=True)
    >>> task.shape()
    {'d_input': 1, 'd_output': 10, 'task': 'classification', 'positions': 64}
    """

    name = "digits"
    title = "Sequential digits"
    summary = "scikit-learn's 8 x 8 digits, pixel by pixel"
    description = """\
Which digit is it? The 64 pixels of an image come one after the other, row by row.

Score: share of digits. Parts: of scikit-learn's 1797 images 300 are the test part, the same for
every seed; the seed draws 300 of the others for validation, and 1197 remain for training. Pixels
are standardised by mean and spread of the training images. 30 epochs.

Beside the models: nearest neighbours, a support vector machine and logistic regression, which see
all pixels at once; their settings are chosen on the validation part as well.
"""
    metric_label = "accuracy (share of digits)"

    def __init__(self, *, quick=False, **options):
        super().__init__(quick=quick, **options)
        self.images, self.labels = handwritten_digits()

    def parts(self, seed):
        """1197, 300 and 300 digits."""
        chosen = _images.split(len(self.labels), seed, validation=VALIDATION, test=TEST)
        if self.quick:
            chosen = chosen[0][:600], chosen[1][:100], chosen[2]
        train, validation, test = ((self.images[i], self.labels[i]) for i in chosen)
        return _images.parts(train, validation, test, batch_size=16 if self.quick else 32)

    def shape(self):
        """One pixel in, ten classes out."""
        return {"d_input": 1, "d_output": 10, "task": "classification", "positions": PIXELS}

    def candidates(self, model):
        """What was compared; the first is used."""
        # On the validation part, best epoch: S4D 99.7 %, with less dropout 99.3 %, and causal
        # 99.0 %; before that, without learned positions, 98.7 %, and with steps from 0.001 to 0.1
        # 98.7 % too. LSTM 98.0 % at 0.003, and 97.7 % at 0.01. One digit is 0.33 %.
        size = {"n_layers": 2, "epochs": 3 if self.quick else 30}
        if model in ("lstm", "rnn"):
            rates = (0.01,) if self.quick else (0.003, 0.01)
            return tuple(Settings(None, options={"dropout": 0.2}, lr=lr, **size) for lr in rates)

        def made(width=64, lr=0.003, dropout=0.2, bidirectional=True, **more):
            # a row of pixels is 8 samples: steps of 0.01 to 0.5, memories of 4 to 200 of them
            steps = {"bidirectional": bidirectional, "dt_min": 0.01, "dt_max": 0.5}
            options = {"modes": 8, "dropout": dropout, "layer_options": steps, **more}
            return Settings(width, options=options, lr=lr, **size)

        if self.quick:
            return (made(32, 0.01, 0.1, False),)
        return made(), made(dropout=0.1), made(dropout=0.1, bidirectional=False)

    def metrics(self):
        """Share of digits that are named rightly."""
        return {"accuracy": accuracy}

    def goal(self):
        """What S4D must reach, and what a guess does."""
        return {"goal": 0.975, "chance": 0.1}

    def rivals(self, parts, test):
        """Three methods of scikit-learn that see all pixels at once."""
        return classical(parts, test)

    def draw(self, runs, ax):
        """The hardest digits of the test part with the models' answers, and one as a sequence."""
        _images.draw(self, self.images.shape[1:], runs, ax)


def classical(parts, test):
    """Nearest neighbours, a support vector machine and logistic regression on the pixels.

    Each is fitted to the training part with a few settings; the one that names most digits of the
    validation part rightly is kept.

    Parameters
    ----------
    parts : Parts
    test : Batches
        The opened test part.

    Returns
    -------
    tuple of Score
    """
    neighbours, svm, linear = map(_scikit_learn, ("neighbors", "svm", "linear_model"))
    methods = (
        ("nearest neighbours", "k", (1, 3, 5), lambda k: neighbours.KNeighborsClassifier(k)),
        ("support vector machine", "C", (1, 3, 10), lambda C: svm.SVC(C=C)),
        (
            "logistic regression",
            "C",
            (0.01, 0.1, 1),
            lambda C: linear.LogisticRegression(C=C, max_iter=2000),
        ),
    )
    train, validation, test = (
        (part.arrays.u[..., 0].astype(float), part.arrays.target)
        for part in (parts.train, parts.validation, test)
    )
    scores = []
    for name, symbol, values, make in methods:
        fitted = [make(value).fit(*train) for value in values]
        best = int(np.argmax([one.score(*validation) for one in fitted]))  # the first of equals
        note = f"all pixels at once; {symbol} = {values[best]} by the validation part"
        scores.append(Score(name, float(fitted[best].score(*test)), note))
    return tuple(scores)


def _scikit_learn(module):
    """A module of scikit-learn, loaded when it is needed."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise ImportError(
            "the digits and what is compared with them need scikit-learn: "
            "pip install 'ssm_manual[examples]'"
        ) from None
