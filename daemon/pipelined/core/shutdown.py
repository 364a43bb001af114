"""How the daemon is told to stop, and how long what it does may still take."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipelined.core.deployments import Deployments


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain ended.

    Attributes:
        unfinished: Runs that were waiting or being executed when the time was over.
        seconds: How long it took.
    """

    unfinished: int
    seconds: float


class Shutdown:
    """The end of the daemon: asked for once, and hurried by whoever asks again.

    Belongs to one event loop.

    Args:
        seconds: How long runs may take to end unless who asks says otherwise; may be set until
            somebody has asked.

    Attributes:
        asked: Set once the daemon is to stop.
        drained: Done when all runs have ended, or have been ended.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = asyncio.Event()
        self.drained: asyncio.Future[Drained] = asyncio.get_running_loop().create_future()
        self._deadline = math.inf
        self._moved = asyncio.Event()
        self._at_once = asyncio.Event()

    def ask(self, seconds: float | None = None) -> None:
        """Stop when all runs have ended, or in so many seconds; asked again, it is the sooner."""
        allowed = self.seconds if seconds is None else seconds
        self._deadline = min(self._deadline, time.monotonic() + allowed)
        self._moved.set()
        self.asked.set()

    def signalled(self) -> None:
        """Stop as ``ask`` does; a second signal says that nothing is to be waited for."""
        if self.asked.is_set():
            self._at_once.set()
            self.ask(0.0)
        else:
            self.ask()

    @property
    def seconds_left(self) -> float:
        """Until runs are not waited for any more; 0 when that is so, infinite before ``ask``."""
        return max(0.0, self._deadline - time.monotonic())

    async def drain(self, deployments: Deployments, hurry: Callable[[], None]) -> Drained:
        """Let runs end as long as they may, and stop all workers.

        Args:
            deployments: To be closed.
            hurry: Called when a second signal has come: workers are to be killed without grace.
        """
        began = time.monotonic()
        draining = asyncio.create_task(deployments.close(math.inf))
        while not draining.done() and (left := self.seconds_left) > 0:
            self._moved.clear()
            await first(asyncio.shield(draining), self._moved.wait(), timeout=left)
        unfinished = 0
        if not draining.done():
            unfinished = deployments.active_runs
            ending = asyncio.gather(draining, deployments.close(0.0))
            await first(asyncio.shield(ending), self._at_once.wait())
            if not ending.done():
                hurry()
            await ending
        self.drained.set_result(Drained(unfinished, time.monotonic() - began))
        return self.drained.result()


async def first(*events: Awaitable[object], timeout: float | None = None) -> None:
    """Wait for what comes first, or for the time; the others are not waited for any more."""
    waiters = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
