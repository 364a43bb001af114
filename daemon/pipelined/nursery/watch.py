"""Watches what workers have of memory and of processors, where their deployments limit that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelined.core.errors import Excess
from pipelined.nursery import usage
from pipelined.worker.offspring import descendants

# A worker that takes more is seen so much later. A look at one takes some 100 µs.
PERIOD_SECONDS = 0.25


@dataclass(eq=False)
class Watched:
    """One worker.

    Attributes:
        pid: Its process.
        shared: See ``usage.memory``.
        memory_bytes: What it may have, with all that it has started; None if anything.
        cpu_seconds: What one run may take; None if anything.
        on_excess: Told, at most once, what it has too much of, and the limit of that.
        run: Increases with each run, whose time is counted from ``cpu_before``; None between runs.
    """

    pid: int
    shared: int
    memory_bytes: int | None
    cpu_seconds: float | None
    on_excess: Callable[[Excess, float], None]
    run: int | None = None
    cpu_before: float = 0.0
    _runs: int = field(default=0, repr=False)

    def run_began(self) -> None:
        """Count the time of a run from now on."""
        if self.cpu_seconds is not None:
            self._runs += 1
            self.run = self._runs
            self.cpu_before = usage.cpu_seconds(self.pid, descendants(self.pid))

    def run_ended(self) -> None:
        """Count no more."""
        self.run = None


class Watch:
    """Looks at workers four times a second, as long as there are any with a limit.

    Belongs to one event loop; the looking is done in a thread.
    """

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._looking: asyncio.Task[None] | None = None

    def add(self, watched: Watched) -> None:
        """Begin to watch a worker."""
        self._watched.add(watched)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="watch of workers")

    def remove(self, watched: Watched) -> None:
        """End that: its process is gone."""
        self._watched.discard(watched)
        if not self._watched and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            for watched in tuple(self._watched):
                run = watched.run
                try:
                    found = await asyncio.to_thread(_excess, watched)
                except OSError:
                    # The daemon has no descriptor left, for one: the limits hold all the same.
                    continue
                if found is None or watched not in self._watched:
                    continue
                # The run may have ended meanwhile.
                if found[0] is Excess.CPU_TIME and watched.run != run:
                    continue
                watched.on_excess(*found)


def _excess(watched: Watched) -> tuple[Excess, float] | None:
    below = descendants(watched.pid)
    limit = watched.memory_bytes
    if limit is not None:
        everyone = [watched.pid, *below]
        at_most = sum(map(usage.memory_at_most, everyone))
        if at_most > limit and usage.memory(everyone, watched.shared) > limit:
            return Excess.MEMORY, limit
    if watched.cpu_seconds is not None and watched.run is not None:
        taken = usage.cpu_seconds(watched.pid, below) - watched.cpu_before
        if taken > watched.cpu_seconds:
            return Excess.CPU_TIME, watched.cpu_seconds
    return None
