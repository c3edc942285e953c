"""Within an epoch: gradients of a few batches, an update, the books, checkpoints.

Every random choice follows from ``(seed, epoch, batch)``, and no sum depends on threads. So a run
is its settings and its data, and a checkpoint between two updates is all that it takes to go on.
"""

import contextlib
import json
import time

import numpy as np

from ssm_manual import _validate, checkpoint
from ssm_manual.training import _passes, batches, state
from ssm_manual.training._divergence import StepDivergenceError, moved_furthest
from ssm_manual.training.clip import clip_gradients, global_norm
from ssm_manual.training.optimizers import check_gradients

#: Streams of random numbers: each is a generator of ``[seed, stream, ...]``.
SHUFFLING, DROPOUT, EVALUATION = range(3)


class Epochs:
    """The inner half of `ssm_manual.training.Trainer`, which sets the attributes."""

    def _epoch(self, data, path, every, settings, bar):
        """The rest of an epoch: from the batch at which the run stands."""
        run = self._run
        rng = np.random.default_rng([self.seed, SHUFFLING, run.epoch])
        given = batches.batches_of("data", data, run.epoch, rng, run.batch)
        began = time.perf_counter()
        while group := self._gradients(given):
            losses, sizes, items, grads, norm = group
            # Only here, for these parameters are known to give a finite loss and gradients.
            since = run.updates - self._kept[1]
            due = run.batch == 0 and since > 0 if every is None else since >= every
            if path is not None and due:
                self._save(path, settings)
            self._update(grads)
            loss, size = sum(l * s for l, s in zip(losses, sizes)), sum(sizes)
            run.history["loss"].append(loss / size)
            run.history["grad_norm"].append(norm)
            run.loss_sum, run.size = run.loss_sum + loss, run.size + size
            run.batch, run.items = run.batch + len(losses), run.items + items
            now = time.perf_counter()
            run.seconds, began = run.seconds + now - began, now
            bar(items, loss / size, run.epoch)
        if run.batch == 0:
            raise ValueError(f"data holds no batch in epoch {run.epoch}")

    def _gradients(self, given):
        """Gradients of the next ``accumulate`` batches together; None at the end of the epoch."""
        losses, sizes, items, total = [], [], 0, None
        while len(losses) < self.accumulate and (batch := next(given, None)) is not None:
            number = self._run.batch + len(losses)
            with self._watched(number, batch):
                loss, grads = self._passes.loss_and_grads(batch, self._dropout_seed(number))
            if not np.isfinite(loss):
                self._diverged(number, batch, loss)
            check_gradients(self.optimizer.params, grads)
            if self.accumulate > 1:  # [OPTIM-8]
                if total is None:
                    total = {name: g * batch.size for name, g in grads.items()}
                else:
                    for name, g in grads.items():
                        total[name] += g * batch.size
            losses.append(loss)
            sizes.append(batch.size)
            items += len(batch.u)
        if not losses:
            return None
        if self.accumulate > 1:
            grads = {name: g / sum(sizes) for name, g in total.items()}
        norm = global_norm(grads)
        if not np.isfinite(norm):
            self._diverged(number, batch, losses[-1], grads)
        return losses, sizes, items, grads, norm

    def _update(self, grads):
        if self.max_norm is not None:
            grads, _ = clip_gradients(grads, self.max_norm)
        factor = _validate.real_number("schedule", self.schedule(self._run.updates), minimum=0)
        for name, a in self.model.params.items():
            if name in self._sound:
                np.copyto(self._sound[name], a)
            else:
                self._sound[name] = a.copy()
        with np.errstate(over="ignore", invalid="ignore"):  # the next loss tells
            self.optimizer.step(grads, factor)
        self._run.history["lr"].append(self.optimizer.lr * factor)
        self._run.updates += 1

    def _end_epoch(self, validation, early_stopping):
        """Close the books of an epoch, evaluate, and judge whether to go on."""
        run = self._run
        ended = {"epoch_loss": run.loss_sum / run.size, "epoch_end": float(run.updates)}
        ended["items_per_second"] = run.items / run.seconds if run.seconds else 0.0
        if validation is not None:
            found = self._evaluate("validation", validation, self._watched)
            ended |= {f"validation_{name}": value for name, value in found.items()}
        for name, value in ended.items():
            run.history.setdefault(name, []).append(value)
        run.loss_sum = run.size = run.items = run.seconds = 0.0
        run.epoch, run.batch = run.epoch + 1, 0
        if early_stopping is None:
            return
        value = ended[early_stopping.metric]
        # what is good enough ends the run: it is kept even if it is better by less than min_change
        if early_stopping.reached(value) or early_stopping.better(value, run.best):
            run.best, run.best_epoch, run.waited = value, run.epoch - 1, 0
            if early_stopping.restore:
                run.best_params = {name: a.copy() for name, a in self.model.params.items()}
        else:
            run.waited += 1
        if run.waited >= early_stopping.patience or early_stopping.reached(value):
            run.reason = "early_stopping"

    def _evaluate(self, name, data, watched):
        rng = np.random.default_rng([self.seed, EVALUATION])
        sums, total = dict.fromkeys(("loss", *self.metrics), 0.0), 0.0
        for batch in batches.batches_of(name, data, 0, rng):
            with watched(None, batch):
                loss, y = self._passes.predict(batch)
            found = {name: f(y, batch.target) for name, f in self.metrics.items()}
            total += batch.size
            for key, value in {"loss": loss, **found}.items():
                sums[key] += float(value) * batch.size
        if total == 0:
            raise ValueError(f"{name} holds no batch")
        return {key: value / total for key, value in sums.items()}

    def _dropout_seed(self, batch):
        sequence = np.random.SeedSequence([self.seed, DROPOUT, self._run.epoch, batch])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    # ----------------------------------------------------------------------------------- divergence

    @contextlib.contextmanager
    def _watched(self, number, batch):
        """Overflow is told by what it leaves, in words of its own, rather than by warnings."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                yield
            except _validate.NonFiniteError as error:
                self._diverged(number, batch, np.nan, cause=error)

    def _diverged(self, number, batch, loss, grads=None, cause=None):
        run = self._run
        if not _passes.finite(batch):
            what = "validation" if number is None else f"data, batch {number} of epoch {run.epoch},"
            raise ValueError(f"{what} holds a number that is not finite") from None
        culprit = moved_furthest(self._sound, self.model.params, grads)
        for name, value in self._sound.items():
            self.model.params[name][...] = value
        raise StepDivergenceError(
            run, number, loss, culprit, self.optimizer, *self._kept
        ) from cause

    def _check_end(self):
        """The last update has no loss after it that would tell."""
        if not all(np.isfinite(a).all() for a in self.model.params.values()):
            self._diverged(None, (), np.nan)

    # ---------------------------------------------------------------------------------- checkpoints

    def _settings(self, data, validation, early_stopping, curriculum):
        def of(d):
            return d.settings() if isinstance(d, batches.Batches) else type(d).__name__

        settings = {
            "accumulate": self.accumulate,
            "curriculum": getattr(curriculum, "__qualname__", type(curriculum).__name__),
            "data": of(data),
            "early_stopping": None if early_stopping is None else vars(early_stopping),
            "loss": self._passes.name,
            "loss_options": self._passes.loss_options,
            "max_norm": self.max_norm,
            "optimizer": self.optimizer.settings(),
            "seed": self.seed,
            "validation": of(validation),
        }
        return json.loads(json.dumps(settings, default=repr))  # as a file gives it back

    def _save(self, path, settings):
        optimizer, params = self.optimizer, self.model.params
        self._run.optimizer_updates = optimizer.updates
        checkpoint.save(path, state.TrainingState(self._run, params, optimizer.state, settings))
        self._kept = path, self._run.updates

    def _restore(self, path, settings):
        found = checkpoint.load(path, expected=state.TrainingState)
        state.check_same(path, "the model", found.params, self.model.params)
        changed = state.differences(found.settings, settings)
        run, optimizer = found.run, self.optimizer
        rates = run.history.get("lr", [])
        for k in sorted({0, len(rates) // 2, len(rates) - 1} & set(range(len(rates)))):
            now = optimizer.lr * float(self.schedule(k))
            if now != rates[k]:
                changed.append(f"schedule gave lr {rates[k]:g} at update {k} and gives {now:g}")
        if changed:
            raise checkpoint.CheckpointError(f"{path}: is of another run: {'; '.join(changed)}")
        pairs = [("the model", found.params, self.model.params)]
        if run.best_params:
            pairs.append(("the best model", run.best_params, self.model.params))
        for slot in {**optimizer.state, **found.optimizer}:
            given, own = found.optimizer.get(slot, {}), optimizer.state.get(slot, {})
            pairs.append((f"the optimiser's {slot}", given, own))
        for what, source, target in pairs:  # all of them before the first is copied
            state.check_same(path, what, source, target)
        for _, source, target in pairs:
            if source is not run.best_params:
                state.copy_into(source, target)
        optimizer.updates = run.optimizer_updates
        self._run, self._sound, self._kept = run, {}, (path, run.updates)
