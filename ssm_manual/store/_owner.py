"""Who is writing a run, and whether that process is still there.

A process number alone says little: it is given out again after a while. Beside it stand the moment
at which the process began, the boot of the machine and the group of processes (a container) in
which the number is valid. Where one of these cannot be known, the process is taken to be alive: a
run that is being written is never marked by somebody else.
"""

import os
import platform

__all__ = ["alive", "elsewhere", "myself"]


def myself():
    """This process, as plain data.

    Returns
    -------
    dict
        ``pid``, ``began`` (ticks since boot), ``boot``, ``group``, ``machine``; a value that the
        system does not tell is None.
    """
    return {
        "pid": os.getpid(),
        "began": _stat(os.getpid())[1],
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "group": _link("/proc/self/ns/pid"),
        "machine": f"{platform.node()} {_text('/etc/machine-id')}",
    }


def alive(owner, me=None):
    """Whether a process may still be there.

    Parameters
    ----------
    owner : dict
        What `myself` was there.
    me : dict, optional
        What `myself` is here; None: it is asked.

    Returns
    -------
    bool
        False only where it is certain.
    """
    me = myself() if me is None else me
    if owner.get("machine") != me["machine"]:
        return True  # a copied file, or another machine: its processes cannot be seen from here
    if owner.get("boot") != me["boot"]:
        return None in (owner.get("boot"), me["boot"])  # no process outlives its boot
    if owner.get("group") != me["group"]:
        return True  # the number means another process here
    pid = owner.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 2**31 or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # signal 0 is sent to nobody: it asks whether one could be
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's: it is there
        pass
    state, began = _stat(pid)
    if state in ("Z", "X"):  # killed, and its parent has not asked yet
        return False
    return None in (began, owner.get("began")) or began == owner["began"]


def elsewhere(owner, me):
    """Whether a process cannot be seen from here: of another machine, or another container.

    Parameters
    ----------
    owner : dict
        What `myself` was there.
    me : dict
        What `myself` is here.

    Returns
    -------
    bool
    """
    return any(owner.get(what) != me[what] for what in ("machine", "group"))


def _stat(pid):
    """State and beginning of a process. Its name, in parentheses, may hold any character."""
    text = _text(f"/proc/{pid}/stat")
    if text is None or ")" not in text:
        return None, None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return None
