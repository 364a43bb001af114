"""What processes have of the machine, read from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_AT_MOST = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_SHARED_OUT = re.compile(rb"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB", re.MULTILINE)


def memory_at_most(pid: int) -> int:
    """Return the bytes of a process that no file backs, what it shares with others included.

    Of a process that was forked that is much more than it costs; but it is read in 20 µs. 0 if the
    process is gone.
    """
    return _kilobytes(f"/proc/{pid}/status", _AT_MOST)


def memory(pids: Iterable[int], shared: int) -> int:
    """Return the bytes that processes have for themselves, and their shares of what they share.

    Counted is what only swapping or their end could give back: not pages of files, such as those of
    weights that are mapped. Takes milliseconds, and waits for a process that maps memory.

    Args:
        pids: The processes.
        shared: Of those that may not be looked at so closely (they are not dumpable, and this
            process is not root), what each shares with others: what it had when it was forked.
    """
    return sum(_memory(pid, shared) for pid in pids)


def cpu_seconds(pid: int, below: Iterable[int]) -> float:
    """Return the time on processors of a process, its children that it has reaped, and others."""
    own = _times(pid)
    return (sum(own) + sum(sum(_times(each)[:2]) for each in below)) / _TICKS


def _memory(pid: int, shared: int) -> int:
    try:
        return _kilobytes(f"/proc/{pid}/smaps_rollup", _SHARED_OUT)
    except PermissionError:
        return max(0, memory_at_most(pid) - shared)


def _kilobytes(path: str, pattern: re.Pattern[bytes]) -> int:
    try:
        return sum(map(int, pattern.findall(Path(path).read_bytes()))) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _times(pid: int) -> list[int]:
    """User and system time, and the same of reaped children, in ticks."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return [0, 0, 0, 0]
    # After the name, which may have parentheses and spaces, comes the third field.
    return [int(field) for field in stat[stat.rindex(b")") + 2 :].split()[11:15]]
