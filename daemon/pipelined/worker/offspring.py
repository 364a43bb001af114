"""Processes that a process has started, and those that they have: found in /proc, and killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
# A process that forks faster than it can be found is looked for so often.
_ROUNDS = 100


def become_subreaper(*, wanted: bool = True) -> None:
    """Have descendants whose parents have gone become children of this process.

    However it has been started, a descendant is then found below this process, also in a session of
    its own; when this process ends, they all go to the next subreaper above.

    Raises:
        OSError: The system does not know how.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))


def is_subreaper() -> bool:
    """Whether this process has become one."""
    value = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value))
    return bool(value.value)


def die_with_parent(parent: int) -> None:
    """Be killed by the system when the parent, or the thread of it that started this, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It had ended before it was asked for.
        os._exit(1)


def children(pid: int) -> Iterator[int]:
    """Yield the children of a process, zombies included."""
    # By thread: those that have been adopted are children of one of them, too.
    for task in _listed(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def descendants(pid: int) -> list[int]:
    """Return the process ids of all that is below a process, children before theirs."""
    found: list[int] = []
    todo = [pid]
    while todo:
        below = list(children(todo.pop()))
        found += below
        todo += below
    return found


def kill_descendants(pid: int) -> None:
    """Kill all that is below a process, which is stopped or does not start more meanwhile."""
    for _ in range(_ROUNDS):
        alive = [each for each in descendants(pid) if not is_zombie(each)]
        if not alive:
            return
        for each in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)


def is_zombie(pid: int) -> bool:
    """Whether it has ended, reaped or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    # The name may have parentheses and spaces.
    return stat[stat.rindex(b")") + 2 :][:1] in (b"Z", b"X")


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
