"""Whether the system has killed a process of late because there was no memory left."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from pathlib import Path

_PERIOD_SECONDS = 2.0
_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)


class HostMemory:
    """Compares the system's count of such kills with what it was some seconds ago.

    Belongs to one event loop.

    Args:
        root: The file system to look into.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._counter = _counter(root)
        # The last ones, the oldest of which is from a whole period ago at least.
        self._counts = deque([self._count()], maxlen=3)
        self._looking = asyncio.create_task(self._look(), name="watch of the host's memory")

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    def ran_out(self) -> bool:
        """Whether something was killed within the last seconds."""
        return self._count() > self._counts[0]

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            self._counts.append(self._count())

    def _count(self) -> int:
        try:
            found = _KILLS.search(self._counter.read_bytes())
        except OSError:
            return 0
        return 0 if found is None else int(found[1])


def _counter(root: Path) -> Path:
    """The file that counts for the processes of this one's control group, else for all."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            candidate = root / f"sys/fs/cgroup{path}/memory.events"
        elif controllers == "memory":
            candidate = root / f"sys/fs/cgroup/memory{path}/memory.oom_control"
        else:
            continue
        if candidate.is_file():
            return candidate
    return root / "proc/vmstat"
