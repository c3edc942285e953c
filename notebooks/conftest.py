"""Two kernels that start at the same moment may choose the same ports, and one of them dies."""

import os
import time


def pytest_sessionstart(session):
    """The second process begins some seconds after the first; later starts are apart anyhow."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    time.sleep(4 * int(worker.removeprefix("gw")))
