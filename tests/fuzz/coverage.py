"""The coverage list of hostile arrays and values: every public function x every hazard.

A row of `ROWS` is a function with its valid arguments and their kinds; `hazards.HAZARDS` is what
can befall an argument of each kind. `EXCLUDED` says why a public name, or all that lies below it,
has no row. `test_coverage.py` sees to it that a new public name gets one or the other.
"""

from fuzz import (
    rows_figures,
    rows_hippo,
    rows_layers,
    rows_models,
    rows_ops,
    rows_store,
    rows_store_runs,
    rows_stream,
    rows_tasks,
    rows_training,
)
from fuzz.hazards import HAZARDS

__all__ = ["EXCLUDED", "HAZARDS", "ROWS"]

ROWS = [
    *rows_ops.ROWS,
    *rows_layers.ROWS,
    *rows_models.ROWS,
    *rows_hippo.ROWS,
    *rows_training.ROWS,
    *rows_tasks.ROWS,
    *rows_figures.ROWS,
    *rows_store.ROWS,
    *rows_store_runs.ROWS,
    *rows_stream.ROWS,
]

_FILES = "reads or writes files: coverage_files.py"
_RESULT = "a plain record of results, or an error that the package itself makes"
_RUN = "trains for seconds to minutes; what it is given goes to rows that are here: Trainer, layers"
_FIGURE = "draws results that the package itself has made; it takes no numbers of a user's own"
_METHOD = "called by the runner of a task with what the task itself has made"
_KERNEL = "a kernel: checks nothing, and is called through `generate` with what that has checked"
_OWN = "the package's own data, without arguments"

#: Why a public name, or a module or class with all that is in it, has no row.
EXCLUDED = {
    "ssm_manual.reference": "loops to read and to compare with; they check nothing, and say so",
    "ssm_manual.cli": "words from a command line: tests/test_cli_*.py, coverage_files.py",
    "ssm_manual.checkpoint": _FILES,
    "ssm_manual.vectors": _FILES,
    "ssm_manual.ops.kernels.log_parallel": _KERNEL,
    "ssm_manual.ops.layer_norm.Residuals": _RESULT,
    "ssm_manual.ops.registry": "called once by each op of the package, when it is imported",
    **dict.fromkeys(
        (
            "ssm_manual.gradcheck.ArgumentCheck",
            "ssm_manual.gradcheck.RegistryCheck",
            "ssm_manual.gradcheck.RegistryReport",
            "ssm_manual.gradcheck.Report",
            "ssm_manual.models.Inside",
            "ssm_manual.models.sequence.State",
            "ssm_manual.training.Batch",
            "ssm_manual.training.DivergenceError",
            "ssm_manual.training.History",
            "ssm_manual.store.Run.check_writable",
            "ssm_manual.store.Signal",
            "ssm_manual.store.StoreError",
            "ssm_manual.store.describe",
            "ssm_manual.training.StepDivergenceError",
            "ssm_manual.training.regression.RegressionHistory",
            "ssm_manual.training.state",
            "ssm_manual.tasks.catalogue",
            "ssm_manual.tasks.signals.Recording",
            "ssm_manual.tasks.seasonal.Regression",
            "ssm_manual.tasks.sinusoids.Sequences",
        ),
        _RESULT,
    ),
    **dict.fromkeys(
        (
            "ssm_manual.layers.DenseSSM.to_checkpoint",
            "ssm_manual.layers.DenseSSM.from_checkpoint",
            "ssm_manual.models.LinearRegression.to_checkpoint",
            "ssm_manual.models.LinearRegression.from_checkpoint",
            "ssm_manual.models.RecordingFilter.to_checkpoint",
            "ssm_manual.models.RecordingFilter.from_checkpoint",
            "ssm_manual.models.SequenceModel.to_checkpoint",
            "ssm_manual.models.SequenceModel.from_checkpoint",
            "ssm_manual.store.Store.export",
            "ssm_manual.store.strict",
            "ssm_manual.training.TrainingState",
            "ssm_manual.tasks.mnist",
            "ssm_manual.tasks.recordings",
            "ssm_manual.tasks.signals.read",
            "ssm_manual.tasks.tables",
        ),
        _FILES,
    ),
    **dict.fromkeys(
        (
            "ssm_manual.tasks.deep_filter",
            "ssm_manual.tasks.gradient_reach",
            "ssm_manual.tasks.hippo_matrices",
            "ssm_manual.tasks.rules",
            "ssm_manual.tasks.trained_filter",
            "ssm_manual.tasks.training_run",
            "ssm_manual.tasks.xor_signal",
            "ssm_manual.tasks.kernel_survey",
            "ssm_manual.tasks.denoising.compare",
            "ssm_manual.tasks.free_run.free_run",
        ),
        _RUN,
    ),
    **dict.fromkeys(
        (
            "ssm_manual.tasks.co2",
            "ssm_manual.tasks.copying.recalled",
            "ssm_manual.tasks.seasonal.holt_winters",
            "ssm_manual.tasks.seasonal.regression",
            "ssm_manual.tasks.copying.CopyingMemory",
            "ssm_manual.tasks.digits.SequentialDigits",
            "ssm_manual.tasks.digits.classical",
            "ssm_manual.tasks.previous_bit.PreviousBit",
            "ssm_manual.tasks.sentinel.Sentinel",
            "ssm_manual.tasks.sinusoids.SinusoidForecast",
            "ssm_manual.tasks.sinusoids.Forecasts",
            "ssm_manual.tasks.xor.DelayedXOR",
            "ssm_manual.tasks.xor.Growing",
            "ssm_manual.tasks.protocol",
            "ssm_manual.tasks.parts",
            "ssm_manual.tasks.denoising.Comparison",
            "ssm_manual.tasks.denoising.Score",
            "ssm_manual.tasks.denoising.Task",
            "ssm_manual.tasks.filters",
            "ssm_manual.tasks.co2_series",
            "ssm_manual.training.data",
            "ssm_manual.models.DiagonalSSM.sequence",
            "ssm_manual.training.Batches.settings",
        ),
        _METHOD,
    ),
    **dict.fromkeys(
        (
            "ssm_manual.store.Run.fail",
            "ssm_manual.store.Run.interrupt",
            "ssm_manual.store.Run.together",
            "ssm_manual.store.Store.close",
        ),
        "tests/test_store*.py; words or nothing are all that it is given",
    ),
    **dict.fromkeys(
        (
            "ssm_manual.tasks.digits.handwritten_digits",
            "ssm_manual.tasks.published",
            "ssm_manual.tasks.signals.ecg",
            "ssm_manual.tasks.signals.eeg",
        ),
        _OWN,
    ),
    **dict.fromkeys(
        (
            f"ssm_manual.plots.{name}"
            for name in (
                *("applied", "denoising", "figure", "gradient_reach", "hippo_experiment"),
                *("hippo_experiments", "initial_spectrum"),
                *("initialisations", "inside", "inside_activations", "inside_gradients"),
                *("inside_norms", "kernel_methods", "layer_kernels", "layer_poles"),
                *("model_colour", "regression", "rules", "task", "task_curves"),
                *("task_scores", "training", "training_gradients", "training_losses"),
                *("training_rates", "xor_accuracies", "xor_answers", "xor_lengths"),
                *("xor_signal", "xor_training"),
            )
        ),
        _FIGURE,
    ),
}
