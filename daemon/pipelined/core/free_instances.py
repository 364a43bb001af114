"""Instances that have nothing to do, and the runs that wait for one."""

from __future__ import annotations

import asyncio
from collections import deque

from pipelined.core.errors import DomainError
from pipelined.core.instance import Instance
from pipelined.core.states import State


class FreeInstances:
    """Gives warm instances to runs, in the order in which they came. Belongs to one event loop."""

    def __init__(self) -> None:
        self._idle: deque[Instance] = deque()
        self._waiting: deque[asyncio.Future[Instance]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for an instance."""
        return len(self._waiting)

    @property
    def mismatched(self) -> bool:
        """Whether somebody waits while an instance is free."""
        return bool(self._idle) and any(not waiter.done() for waiter in self._waiting)

    def take(self) -> Instance | None:
        """An instance that is free now."""
        return self._idle.popleft() if self._idle else None

    async def wait(self) -> Instance:
        """Wait for the next instance that nobody before wants.

        Raises:
            DomainError: What ``fail_waiting`` was given.
        """
        waiter: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                # It does not count as one that waits any more.
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                # The instance was handed over in the same turn of the loop: pass it on.
                self.give_back(waiter.result())
            raise

    def give(self, instance: Instance) -> None:
        """Hand a warm instance to whoever waits longest, or keep it for the next."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(instance)
                return
        self._idle.append(instance)

    def give_back(self, instance: Instance) -> None:
        """Hand on an instance that was taken, unless it is not fit for that any more."""
        worker = instance.worker
        if instance.state is State.WARM and worker is not None and not worker.exited.done():
            self.give(instance)

    def withdraw(self, instance: Instance) -> None:
        """Do not give this instance to anybody."""
        if instance in self._idle:
            self._idle.remove(instance)

    def fail_waiting(self, error: DomainError) -> None:
        """Tell all who wait that they do so in vain."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
