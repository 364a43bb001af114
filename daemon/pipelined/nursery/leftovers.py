"""Processes that a daemon and its nursery left behind when they were killed at once."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from pipelined.worker.offspring import kill_descendants

# Has the owner, in the environment of all processes that a daemon has started.
VARIABLE = "PIPELINED_WORKERS_OF"


def kill_leftovers(owner: str) -> int:
    """Kill all processes of an owner, which has no living daemon but this one; returns how many.

    To be called before any is started. What has given up its environment is found below its worker.
    """
    mark = f"{VARIABLE}={owner}".encode()
    spared = _with_ancestors()
    killed = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in spared:
            # It may end meanwhile, and those of others cannot be read.
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    _kill_with_descendants(int(entry.name))
                    killed += 1
    return killed


def _kill_with_descendants(pid: int) -> None:
    # While it is stopped it starts no more.
    os.kill(pid, signal.SIGSTOP)
    kill_descendants(pid)
    os.kill(pid, signal.SIGKILL)


def _with_ancestors() -> set[int]:
    """This process, which may have been started by a worker, and those above it."""
    found = set()
    pid = os.getpid()
    while pid:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            # Of another user, whose processes may not be seen: what is above it is, too.
            break
        pid = int(stat[stat.rindex(b")") + 2 :].split()[1])
    return found
