"""What the models reach on every task: the test part, mean over seeds, beside the level to reach.

Each row is ``ssm-manual train TASK`` for several seeds: the same protocol, settings and data. The
levels are fixed before training. Times are of training and validation, without compilation.
"""

import argparse
import json
import statistics

from ssm_manual.tasks import training_run
from ssm_manual.tasks.catalogue import TASKS, task_class

#: What is run: name of the task, options, and what a model should reach on the test part (None:
#: less than the methods beside it).
ROWS = (
    ("previous-bit", {}, 1.0),
    ("previous-bit", {"length": 1000}, 1.0),
    ("copying-memory", {}, 0.999),
    ("copying-memory", {"delay": 1000}, 0.99),
    ("sentinel", {}, 0.99),
    ("delayed-xor", {}, 0.98),
    ("sinusoids", {}, 0.0070),
    ("co2", {}, None),
    ("digits", {}, 0.975),
    ("mnist", {}, 0.97),
)


#: What a quick run takes if nothing else is asked for.
QUICK = ("previous-bit", "sinusoids")


def verify():
    """Scores must be those of the model that was kept, counted item by item."""
    task = task_class("previous-bit")(quick=True)
    found = training_run.compare(task, ("s4d",), progress=False)
    run, arrays = found.runs[0], found.test.arrays
    right = total = 0
    for u, target in zip(arrays.u, arrays.target):
        y = run.model.forward(u[None])[0][0]
        for t in range(len(target)):
            right += (y[t, 0] > 0) == (target[t, 0] > 0.5)
            total += 1
    if abs(run.test[task.metric] - right / total) > 1e-9:
        raise SystemExit(f"the score is {run.test[task.metric]}, counted {right / total}")
    sealed = task.parts(0).test
    sealed.open()
    try:
        sealed.open()
    except RuntimeError:
        return
    raise SystemExit("a test part can be opened twice")


def measure(name, options, seeds, quick, beside, data):
    """All seeds of one task."""
    options = options | ({"data": data} if task_class(name).needs_data else {})
    results = {"task": name, "options": options, "quick": quick, "runs": {}, "rivals": {}}
    for seed in seeds:
        task = task_class(name)(quick=quick, **options)
        models = ("s4d", *(task.beside if beside else ()))
        found = training_run.compare(task, models, seed=seed)
        results["options"] = task.chosen
        for run in found.runs:
            own = results["runs"].setdefault(run.name, {"parameters": run.parameters, "seeds": []})
            scores = {"test": run.test[task.metric], "validation": run.validation[task.metric]}
            own["seeds"].append(
                {"seed": seed, "seconds": run.seconds, "updates": run.updates}
                | scores
                | {"further": run.further}
            )
        for rival in found.rivals:
            results["rivals"].setdefault(rival.name, []).append(rival.value)
    return task, results


def show(task, results, level):
    """The rows of one task."""
    unit, scale = (" %", 100) if task.percent else ("", 1)
    options = "".join(f" {key} {value}" for key, value in task.chosen.items())
    wanted = "below the methods beside it" if level is None else f"{level * scale:g}{unit}"
    quick = ", of the whole task; this is a smaller one" if task.quick else ""
    print(f"{results['task']}{options}: wanted {wanted}{quick}")
    for name, own in results["runs"].items():
        tests = [seed["test"] * scale for seed in own["seeds"]]
        seconds = [seed["seconds"] for seed in own["seeds"]]
        each = ", ".join(f"{value:.4g}" for value in tests)
        print(
            f"  {name:18}{statistics.mean(tests):9.4g}{unit}  ({each})  "
            f"{statistics.mean(seconds):7.1f} s  {own['parameters']:,} parameters"
        )
    for name, values in results["rivals"].items():
        print(f"  {name:18}{statistics.mean(values) * scale:9.4g}{unit}")
    print(flush=True)


def main():
    """Verify, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=tuple(TASKS), metavar="TASK", help="these alone (default all)"
    )
    parser.add_argument("--data", nargs="+", metavar="FILE", help="MNIST's, for that task")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--alone", action="store_true", help="S4D without the models beside it")
    parser.add_argument("--quick", action="store_true", help="one seed, two small tasks")
    parser.add_argument("--json", metavar="FILE", help="write the results, after every task")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error(f"--seeds is {args.seeds}; it must be at least 1")
    wanted = args.tasks or (QUICK if args.quick else tuple(TASKS))
    verify()
    print("verified: the score of a model is what counting item by item gives\n")
    everything = []
    for name, options, level in ROWS:
        if name not in wanted:
            continue
        if task_class(name).needs_data and not args.data:
            print(f"{name}: skipped, --data is not given\n")
            continue
        seeds = range(1 if args.quick else args.seeds)
        task, results = measure(name, options, seeds, args.quick, not args.alone, args.data)
        show(task, results, level)
        everything.append(results | {"level": level})
        if args.json:
            with open(args.json, "w") as file:
                json.dump(everything, file, indent=1)


if __name__ == "__main__":
    main()
