"""The count of cases at the end of a run, from all its processes."""

from fuzz.budget import COUNTED


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = session.config.stash.get(COUNTED, {})


def pytest_testnodedown(node, error):
    counted = node.config.stash.setdefault(COUNTED, {})
    for share, cases in getattr(node, "workeroutput", {}).get("fuzz", {}).items():
        counted[share] = counted.get(share, 0) + cases


def pytest_terminal_summary(terminalreporter):
    counted = terminalreporter.config.stash.get(COUNTED, {})
    if counted:
        parts = ", ".join(f"{cases:,} of {share}" for share, cases in sorted(counted.items()))
        terminalreporter.write_sep("=", f"fuzz: {sum(counted.values()):,} cases ({parts})")
