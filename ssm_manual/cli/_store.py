"""``--store``: a run of a command kept in a store, for `ssm-manual runs`."""

import contextlib

__all__ = ["add_option", "opened", "recording"]


def add_option(group, what):
    """Enter ``--store`` into a group of options; ``what`` is what the command keeps there."""
    group.add_argument(
        "--store",
        metavar="DB",
        help=f"keep {what} in a store of runs (made if there is none); see ssm-manual runs",
    )


def opened(path):
    """The store of ``--store``, made if there is none; an error names the option."""
    from ssm_manual.store import Store, StoreError

    try:
        return Store(path)
    except StoreError as error:
        raise ValueError(f"--store: {error}") from None


@contextlib.contextmanager
def recording(path, name, config, *, seed=None, tags=()):
    """The run of a command, from before its work until after it; None where there is no store.

    An exception makes it failed and an interrupt interrupted; both go on to the caller.

    Parameters
    ----------
    path : str or None
        Of ``--store``.
    name : str
        The command, and what it works on.
    config : dict
        All options.
    seed : int, optional
    tags : sequence of str

    Yields
    ------
    Run or None
    """
    if path is None:
        yield None
        return
    with opened(path) as store, store.start(name, config, seed=seed, tags=tags) as run:
        yield run
