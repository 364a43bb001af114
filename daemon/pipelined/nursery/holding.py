"""What one worker holds of the machine, and how it is held to that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from pipelined.core.errors import Excess, Exit
from pipelined.core.options import Options
from pipelined.nursery import usage
from pipelined.nursery.machine import Machine
from pipelined.nursery.watch import Watched
from pipelined.worker.offspring import descendants

log = structlog.get_logger()


class Holding:
    """From the start of a worker's process to its end.

    Args:
        machine: What there is.
        worker_id: Of the worker.
        kill: Ends it.
    """

    def __init__(self, machine: Machine, worker_id: str, kill: Callable[[], None]) -> None:
        self._machine = machine
        self._worker_id = worker_id
        self._kill = kill
        self._pid = 0
        # What it was forked with.
        self._shared = 0
        self._gpus = machine.gpus.share()
        self._group = None if machine.groups is None else machine.groups.make(worker_id)
        self._watched: Watched | None = None
        self._memory_limit: int | None = None
        self._excess: tuple[Excess, float] | None = None

    def process_started(self, pid: int) -> None:
        """Take note of the process."""
        self._pid = pid
        self._shared = usage.memory_at_most(pid)

    def enter(self, options: Options) -> Sequence[str] | None:
        """Begin to hold the process to its limits; returns the devices that it may have.

        Raises:
            NurseryUnavailable: There are not so many.
        """
        if self._memory_limit is None and self._watched is None:
            watched_memory = self._memory_limit = options.memory_bytes
            if self._entered_group(options.memory_bytes):
                watched_memory = None
            if watched_memory is not None or options.cpu_seconds is not None:
                self._watched = Watched(
                    self._pid, self._shared, watched_memory, options.cpu_seconds, self._exceeds
                )
                self._machine.watch.add(self._watched)
        return self._gpus.take(options.gpus)

    def run_began(self) -> None:
        """Count the time of a run from now on."""
        if self._watched is not None:
            self._watched.run_began()

    def run_ended(self) -> None:
        """Count no more."""
        if self._watched is not None:
            self._watched.run_ended()

    async def memory(self) -> int:
        """Bytes that it has, with all that it has started; see ``usage.memory``."""
        return await asyncio.to_thread(_memory, self._pid, self._shared)

    def explained(self, exit_: Exit, *, killed: bool) -> Exit:
        """The end of the process, with what is known of it here.

        Args:
            exit_: As the system tells it.
            killed: It was killed by the daemon.
        """
        if exit_.signal != "SIGKILL":
            return exit_
        if self._excess is not None:
            return replace(exit_, excess=self._excess[0], limit=self._excess[1])
        of_group = None if self._group is None else self._group.killed_for()
        if of_group is not None:
            limit = self._memory_limit if of_group is Excess.MEMORY else None
            return replace(exit_, excess=of_group, limit=limit or 0.0)
        if not killed and self._machine.memory.ran_out():
            return replace(exit_, excess=Excess.HOST_MEMORY)
        return exit_

    def close(self) -> None:
        """Give it all back: the process is gone."""
        if self._watched is not None:
            self._machine.watch.remove(self._watched)
        self._gpus.close()
        if self._group is not None:
            # Not a task: the end of the loop waits for it.
            asyncio.get_running_loop().run_in_executor(None, self._group.remove)

    def _entered_group(self, memory_bytes: int | None) -> bool:
        """Have the system hold the process to its memory; False where it has to be watched."""
        if self._group is None:
            return False
        try:
            self._group.add(self._pid)
            if memory_bytes is not None:
                self._group.limit_memory(memory_bytes)
        except OSError as error:
            log.warning("worker not in its group", worker=self._worker_id, reason=error.strerror)
            return False
        return True

    def _exceeds(self, excess: Excess, limit: float) -> None:
        if self._excess is None:
            log.warning("worker killed", worker=self._worker_id, excess=excess.value, limit=limit)
            self._excess = (excess, limit)
            self._kill()


def _memory(pid: int, shared: int) -> int:
    return usage.memory([pid, *descendants(pid)], shared)
