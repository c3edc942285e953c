"""The progress bar: items done, throughput, loss and epoch."""

import contextlib
import sys

from ssm_manual import _validate
from ssm_manual.training import batches


@contextlib.contextmanager
def bar(progress, data, curriculum, run, epochs):
    """A function ``(items, loss, epoch)`` to be called after every update.

    ``progress`` None: drawn where standard error is a terminal. The total is known for `Batches`
    without a curriculum.
    """
    shown = sys.stderr.isatty() if progress is None else _validate.flag("progress", progress)
    if not shown:
        yield lambda items, loss, epoch: None
        return
    from tqdm import tqdm

    _, items = batches.count(data)
    total = None if items is None or curriculum is not None else items * epochs
    done = 0 if items is None else items * run.epoch
    with tqdm(
        total=total,
        initial=int(done + run.items),
        unit="item",
        unit_scale=True,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as drawn:

        def advance(items, loss, epoch):
            drawn.set_postfix(epoch=f"{epoch + 1}/{epochs}", loss=f"{loss:.4g}", refresh=False)
            drawn.update(items)

        yield advance
