"""What processes hold, as /proc has it. Reads files: not on the event loop's thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pipelined.core.reports import ProcessMemory

# The kernel walks all pages of a process for its proportional share, and holds up its page faults
# meanwhile: so it is asked less often than reports are made.
PROPORTIONAL_SECONDS = 15.0


class MemoryReader:
    """Reads the memory of processes, of those that end meanwhile as none. Belongs to one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By process id: when it was read, and what it was.
        self._proportional: dict[int, tuple[float, int | None]] = {}

    def of(self, pids: Iterable[int]) -> ProcessMemory:
        """What these processes hold together."""
        total = ProcessMemory()
        for pid in pids:
            total += self._of(pid)
        return total

    def _of(self, pid: int) -> ProcessMemory:
        status = _kilobytes(Path(f"/proc/{pid}/status"))
        if "VmRSS" not in status:
            self._proportional.pop(pid, None)
            return ProcessMemory()
        resident, anonymous = status["VmRSS"] << 10, status.get("RssAnon", 0) << 10
        return ProcessMemory(resident, anonymous, self._share(pid))

    def _share(self, pid: int) -> int | None:
        now = self._clock()
        for known in [p for p, (at, _) in self._proportional.items() if at < now - 60.0]:
            # It may be gone, and its number another's.
            del self._proportional[known]
        found = self._proportional.get(pid)
        if found is None or found[0] < now - PROPORTIONAL_SECONDS:
            # Not readable for one that must not be looked into by others.
            share = _kilobytes(Path(f"/proc/{pid}/smaps_rollup")).get("Pss")
            found = self._proportional[pid] = (now, None if share is None else share << 10)
        return found[1]


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # one is the folder's own


def _kilobytes(path: Path) -> dict[str, int]:
    values = {}
    try:
        for line in path.read_text().splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB":
                values[name] = int(words[0])
    except OSError:
        # It has ended, or may not be read.
        return {}
    return values
