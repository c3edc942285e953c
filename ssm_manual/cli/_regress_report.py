"""What ``ssm-manual regress`` prints and writes."""

from typing import NamedTuple

import numpy as np

from ssm_manual._version import __version__

#: At most so many losses are written to the JSON file.
LOSSES_WRITTEN = 500

#: With more rows, the product of their contractions is taken to first order.
ROWS_MULTIPLIED = 2000


class Result(NamedTuple):
    """One run: the table, the model before and after, the closed form, and what is known of it."""

    table: object
    start: object
    model: object
    closed: object
    history: object
    rate: float
    options: dict
    truth: object = None  # a model, where the data's rule is known
    ask: object = None  # features to predict from, where the answer is known


def mean_square(model, table):
    """mean e^2 of a model over a table, in double precision."""
    X, y = np.asarray(table.X, float), np.asarray(table.y, float)
    p = X @ np.asarray(model.params["weights"], float) + float(model.params["bias"])
    return float(np.mean((p - y) ** 2))


def curvatures(result):
    """Of the loss in the coordinates of the descent, the penalty included; descending."""
    found = result.model.curvatures(result.table.X, standardise=result.options["standardise"])
    return found + result.options["l2"]


def slowest_factor(result):
    """By what an epoch multiplies the error in the direction that it shortens least."""
    options, rate = result.options, result.rate
    if options["updates"] == "full_batch":
        return float(np.max(np.abs(1 - rate * curvatures(result))))  # [REGRESSION-6]
    if len(result.table.y) > ROWS_MULTIPLIED:
        return 1 - len(result.table.y) * rate * curvatures(result)[-1]  # to first order in the rate
    from ssm_manual.models._frame import frame_of

    X = frame_of(result.table.X, options["standardise"]).features(result.table.X)
    wide = np.column_stack([X.astype(float), np.ones(len(X))])
    decay = np.diag([rate * options["l2"]] * X.shape[1] + [0.0])
    product = np.eye(wide.shape[1])
    for row in wide:
        product = product - rate * np.outer(row, row @ product) - decay @ product  # [REGRESSION-8]
    return float(np.max(np.abs(np.linalg.eigvals(product))))


def text(result):
    """The result as text."""
    table, options, history = result.table, result.options, result.history
    how = "one update a row" if options["updates"] == "per_sample" else "one update an epoch"
    rows = "row" if len(table.y) == 1 else "rows"
    lines = [
        f"{table.name}: {len(table.y)} {rows}, {table.target} from {', '.join(table.features)}",
        f"{result.model.dtype}, {how}, rate {result.rate:.6g}"
        + (f", l2 {options['l2']:g}" if options["l2"] else "")
        + (", features standardised" if options["standardise"] else ""),
        "",
    ]
    models = [("learnt", result.model), ("least squares", result.closed)]
    if result.truth is not None:
        models.append(("truth", result.truth))
    # what was learnt over what least squares finds, where that is not zero
    rows = [("", *(name for name, _ in models), "learnt / l.s.")]
    solved = result.closed.params["weights"]
    digits = 9 if result.model.dtype == np.float64 else 8
    for i, name in enumerate(table.features):
        values = (f"{m.params['weights'][i]:.{digits}g}" for _, m in models)
        ratio = f"{result.model.params['weights'][i] / solved[i]:.5f}" if solved[i] else "-"
        rows.append((name, *values, ratio))
    rows.append(("bias", *(f"{m.params['bias']:.{digits}g}" for _, m in models), ""))
    rows.append(("mean e^2", *(f"{mean_square(m, table):.3g}" for _, m in models), ""))
    spread = float(np.var(np.asarray(table.y, float)))
    if spread > 0:
        rows.append(
            (
                "R^2, same rows",
                *(f"{1 - mean_square(m, table) / spread:.6f}" for _, m in models),
                "",
            )
        )
    if result.ask is not None:
        point = ", ".join(f"{n} {v:g}" for n, v in zip(table.features, result.ask))
        ratio = result.model.predict(result.ask) / result.closed.predict(result.ask)
        values = (f"{m.predict(result.ask):.7g}" for _, m in models)
        rows.append((point, *values, f"{ratio:.5f}"))
    lines += [*_columns(rows), ""]
    if result.ask is not None:
        true = float(result.truth.predict(result.ask))
        off = abs(float(result.model.predict(result.ask)) / true - 1)
        lines.append(f"the learnt prediction meets the truth to {100 * (1 - off):.2f} %")
    lines += _epochs(result)
    before = result.model.epochs - history.epochs
    if before > 0 and options.get("resume"):
        lines.append(f"{before} epochs were made before, by the model of {options['resume']}")
    return "\n".join(lines)


def _epochs(result):
    history, options = result.history, result.options
    unit = "epoch" if history.epochs == 1 else "epochs"
    if history.reason == "target_loss":
        why = f"mean e^2 {history.losses[-1]:.6g} reached {options['target_loss']:g}"
    else:
        why = f"all that were to be made; mean e^2 {history.losses[-1]:.6g} in the last"
    lines = [f"{history.epochs} {unit}, the last has the index {history.stop}: {why}"]
    found = curvatures(result)
    largest, least = found[0], found[-1]
    if least <= 1e-15 * largest:
        what = "some columns depend on each other" if len(result.table.y) > 1 else "one row"
        if 1 < len(result.table.y) <= len(result.table.features):
            what = "there are fewer rows than parameters"
        lines.append(f"condition number: infinite; {what}")
        return lines
    condition = np.sqrt(largest / least)
    kind = "standardised features" if options["standardise"] else "features"
    lines.append(f"condition number of the {kind} with a column of ones: {condition:.4g}")
    factor = slowest_factor(result)
    if 0.5 < factor < 1:
        halves = np.log(0.5) / np.log(factor)
        lines.append(f"the slowest direction halves its error every {halves:,.0f} epochs or so")
    if condition > 100 and not options["standardise"]:
        own = result.model.curvatures(result.table.X, standardise=True) + options["l2"]
        if own[-1] > 1e-15 * own[0]:
            better = np.sqrt(own[0] / own[-1])
            lines.append(f"--standardise would bring the condition number to {better:.4g}")
    return lines


def as_json(result):
    """Everything as plain data."""
    history, table = result.history, result.table
    step = -(-history.losses.size // LOSSES_WRITTEN)
    data = {
        "version": __version__,
        "options": result.options,
        "rate": result.rate,
        "rows": len(table.y),
        "features": list(table.features),
        "target": table.target,
        "start": _params(result.start),
        "learnt": _params(result.model) | {"mean_square": mean_square(result.model, table)},
        "least_squares": _params(result.closed)
        | {"mean_square": mean_square(result.closed, table)},
        "curvatures": curvatures(result).tolist(),
        "epochs": history.epochs,
        "epochs_in_all": result.model.epochs,
        "stop": history.stop,
        "reason": history.reason,
        "losses": {
            "epochs": list(range(0, history.losses.size, step)),
            "values": history.losses[::step].tolist(),
            "last": float(history.losses[-1]),
        },
    }
    if result.ask is not None:
        data["truth"] = _params(result.truth)
        data["prediction"] = {
            "features": result.ask.tolist(),
            "learnt": float(result.model.predict(result.ask)),
            "truth": float(result.truth.predict(result.ask)),
        }
    return data


def _params(model):
    return {name: value.tolist() for name, value in model.params.items()}


def _columns(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
