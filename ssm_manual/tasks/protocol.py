"""What a task is: its data in three parts, settings fixed before training, and how it is scored.

The protocol, the same for every task and every model:

* Data comes in three parts that share no item. The model is fitted to ``train``. What is chosen
  (learning rates, widths, the epoch whose parameters are kept) is chosen on ``validation``. The
  ``test`` part is `Sealed`: it is opened once, after training, and a second time is an error.
* Settings stand in the task's file before a run begins. ``Task.candidates`` lists those that they
  were chosen from, on validation parts alone, of a seed that no reported run has.
* A rival (an LSTM, an RNN) gets the same data, at most as many updates and as many parameters as
  S4D has, to within what one unit of width changes, and learning rates of its own, chosen in the
  same way.
* All random numbers follow from the seed: data, initial parameters, order of items, dropout.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from ssm_manual import _validate
from ssm_manual.tasks.parts import Fresh, Parts, Sealed

__all__ = [
    "CHOICE_SEED",
    "MODELS",
    "TITLES",
    "Fresh",
    "Option",
    "Parts",
    "Score",
    "Sealed",
    "Settings",
    "Task",
]

#: What a task can be given to: blocks of `models.SequenceModel`.
MODELS = ("s4d", "s4", "lstm", "rnn")

#: How models are called in tables and figures.
TITLES = {"s4d": "S4D", "s4": "S4", "lstm": "LSTM", "rnn": "RNN", "s4d-frozen": "S4D, frozen"}

#: The seed with which settings are chosen; reported runs have others.
CHOICE_SEED = 1000


class Score(NamedTuple):
    """How well something that was not trained by us does on the test part.

    Attributes
    ----------
    name : str
        Such as ``"seasonal naive"``.
    value : float
        In the task's metric.
    note : str
        What it does, or how its settings were chosen.
    """

    name: str
    value: float
    note: str = ""


class Option(NamedTuple):
    """A number that makes one task several, such as a delay.

    Attributes
    ----------
    default : int
    help : str
        What it is, for ``--help``.
    minimum, maximum : int
        Both admissible.
    quick : int or None
        The default of a quick look; None: the same.
    """

    default: int
    help: str
    minimum: int = 1
    maximum: int = 10**6
    quick: int | None = None


@dataclass(frozen=True)
class Settings:
    """Everything about a model and its training that is chosen.

    Attributes
    ----------
    d_model : int or None
        Width; None: the one whose number of parameters comes nearest to that of the task's S4D.
    n_layers : int
        Blocks.
    options : dict
        Further options of `SequenceModel`, such as ``modes``, ``mixer``, ``dropout``,
        ``layer_options``.
    lr : float
        Largest learning rate of AdamW.
    ssm_lr : float or None
        Of the parameters of the dynamics (`training.SSM_PARAMETERS`), which do not decay; None:
        as `training.ssm_groups`.
    weight_decay : float
        Of all other parameters.
    epochs : int
        Passes over ``train``, or as many epochs of fresh items.
    warmup : float
        Share of all updates until the learning rate is at its largest; then half a cosine to 0.
    max_norm : float or None
        Limit of the gradients' global norm.
    enough : float or None
        Training ends with the first epoch whose validation metric is at least as good as this.
    frozen : callable or None
        ``frozen(name) -> bool``: parameters that are not trained.
    """

    d_model: int | None
    n_layers: int
    options: dict = field(default_factory=dict)
    lr: float = 0.003
    ssm_lr: float | None = None
    weight_decay: float = 0.01
    epochs: int = 10
    warmup: float = 0.1
    max_norm: float | None = 1.0
    enough: float | None = None
    frozen: Callable[[str], bool] | None = None


class Task:
    """One task; a subclass says what is asked and draws the data.

    Attributes
    ----------
    name, title, summary, description : str
        The name on the command line; a few words; one line; what is asked and the protocol, for
        ``--help``.
    options : dict
        ``{name: Option}``.
    needs_data : str
        Of a task on a user's files: what they are, for ``--help``. Otherwise empty.
    models : tuple of str
        What can be trained: names of `MODELS`, or the task's own, whose settings name a ``block``.
    beside : tuple of str
        Those that a model is compared with where nothing is said.
    loss, loss_options
        Of `Trainer`.
    metric : str
        A key of ``metrics()``, or ``"loss"``: what decides.
    metric_label : str
        For axes and tables, with its unit.
    higher_is_better, percent : bool
        Of the metric; ``percent``: it is a share, shown in percent.

    Parameters
    ----------
    quick : bool
        A smaller task and fewer epochs: a first look within seconds.
    data : sequence of path_like, optional
        The user's files, of a task that needs some.
    **options : int
        Of those in ``options``.

    Raises
    ------
    ValueError
        If an option is unknown or out of its range, or files are missing or not wanted.
    """

    name = title = summary = description = ""
    options: ClassVar[dict] = {}
    models = MODELS
    beside = ("lstm",)
    needs_data = ""
    loss = "softmax_cross_entropy"
    loss_options: ClassVar[dict] = {}
    metric, metric_label = "accuracy", "accuracy (share of items)"
    higher_is_better = True
    percent = True

    def __init__(self, *, quick=False, data=None, **options):
        self.quick = _validate.flag("quick", quick)
        if bool(data) != bool(self.needs_data):
            wanted = self.needs_data or f"None, for {self.name} draws its own"
            raise ValueError(f"data is {_validate.show(data)}; it must be {wanted}")
        self.data = [data] if isinstance(data, (str, os.PathLike)) else data
        for name in options:
            _validate.one_of(f"an option of {self.name}", name, tuple(self.options))
        self.chosen = {}
        for name, option in self.options.items():
            value = options.get(name)
            if value is None:
                value = option.quick if quick and option.quick is not None else option.default
            self.chosen[name] = _validate.integer(
                name, value, minimum=option.minimum, maximum=option.maximum
            )

    # --------------------------------------------------------------------- what a subclass defines

    def parts(self, seed):
        """The data.

        Parameters
        ----------
        seed : int

        Returns
        -------
        Parts
        """
        raise NotImplementedError

    def shape(self):
        """Options of `SequenceModel` that the task dictates.

        Returns
        -------
        dict
            ``d_input``, ``d_output``, ``task``, and for example ``encoder``.
        """
        raise NotImplementedError

    def settings(self, model):
        """What has been chosen for a model: the first of `candidates`, if a subclass lists some.

        Parameters
        ----------
        model : str
            One of ``models``.

        Returns
        -------
        Settings
        """
        if type(self).candidates is Task.candidates:
            raise NotImplementedError
        return self.candidates(model)[0]

    def metrics(self):
        """Metrics for validation and test, see `Trainer`.

        Returns
        -------
        dict
        """
        return {}

    # ----------------------------------------------------------------- what a subclass may override

    def candidates(self, model):
        """Settings that were compared on validation, ``settings(model)`` among them.

        Parameters
        ----------
        model : str

        Returns
        -------
        tuple of Settings
        """
        return (self.settings(model),)

    def goal(self):
        """What a model should reach on the test part, and what needs no model at all.

        Returns
        -------
        dict of float
            ``{label: value}`` in the task's metric, such as ``{"goal": 0.99, "chance": 0.5}``.
        """
        return {}

    def fit(self, trainer, parts, settings, *, early_stopping, progress):
        """Train. A task with a curriculum overrides this.

        Parameters
        ----------
        trainer : Trainer
        parts : Parts
            Whose test part stays sealed.
        settings : Settings
        early_stopping : EarlyStopping
            Keeps the parameters of the best epoch on validation.
        progress : bool or None
            As of `Trainer.fit`.
        """
        trainer.fit(
            parts.train,
            epochs=settings.epochs,
            validation=parts.validation,
            early_stopping=early_stopping,
            progress=progress,
        )

    def rivals(self, parts, test):
        """Answers that need no training of ours.

        Parameters
        ----------
        parts : Parts
        test : Batches
            The opened test part.

        Returns
        -------
        tuple of Score
        """
        return ()

    def further(self, model, test):
        """Further figures of a trained model on the test part.

        Parameters
        ----------
        model : SequenceModel
        test : Batches
            The opened test part.

        Returns
        -------
        dict of float
        """
        return {}

    def draw(self, runs, ax):
        """What the task looks like, with the answers of trained models.

        Parameters
        ----------
        runs : list of Run
            See `ssm_manual.tasks.training_run`; ``run.model`` is trained.
        ax : matplotlib.axes.Axes
        """
        raise NotImplementedError
