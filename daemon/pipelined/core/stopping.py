"""How the workers of one version of a deployment are stopped, for a while or for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pipelined.core.admission import Admission
from pipelined.core.errors import DomainError, ShuttingDown, WorkerDied
from pipelined.core.instances import Instances
from pipelined.core.run_queue import RunQueue
from pipelined.core.scaler import Scaler


@dataclass(slots=True)
class Life:
    """From one time that all workers are stopped to the next.

    Attributes:
        reason: Why they are to be stopped, once that is known.
        stopping: They are being stopped: that one dies now is no news.
    """

    reason: DomainError | None = None
    stopping: bool = False

    def cause(self, death: WorkerDied) -> DomainError:
        """What a caller is told of the death of a worker: if it was by our hand, why."""
        if self.stopping and self.reason is not None:
            return self.reason.with_traceback(None)
        return death


class Stopping:
    """Lets runs end, stops the workers, and holds up who comes meanwhile.

    Belongs to one event loop.

    Args:
        instances: Whose workers are stopped.
        queue: Of the runs that wait for them.
        scaler: Starts them.
        admission: Which runs may wait.
        on_change: Called when it begins, and when a cooling has ended.
        resume_durable: Called when durable runs may be executed again.

    Attributes:
        life: That has not ended yet.
        closed: Why they are stopped for good, if they are.
    """

    def __init__(
        self,
        instances: Instances,
        queue: RunQueue,
        scaler: Scaler,
        admission: Admission,
        on_change: Callable[[], None],
        resume_durable: Callable[[], None],
    ) -> None:
        self.life = Life()
        self.closed: DomainError | None = None
        self._instances = instances
        self._queue = queue
        self._scaler = scaler
        self._admission = admission
        self._on_change = on_change
        self._resume_durable = resume_durable
        self._cooling: asyncio.Task[None] | None = None
        # Runs that came while the workers were being stopped.
        self._held_up = 0

    @property
    def cooling(self) -> bool:
        """Whether they are being stopped for a while."""
        return self._cooling is not None

    @property
    def held_up(self) -> int:
        """Runs, and callers of ``warm``, that wait until they are stopped."""
        return self._held_up

    @property
    def holds_more_up(self) -> bool:
        """Whether one that comes now may wait for that, if it has to."""
        return self._cooling is None or self._held_up < self._admission.length

    def check_open(self) -> None:
        """Raise why they are stopped for good, if they are."""
        if self.closed is not None:
            raise self.closed.with_traceback(None)

    async def over(self) -> None:
        """Wait until no workers are being stopped that may be started again afterwards.

        Raises:
            QueueFull: Too many wait for that already.
            DeploymentDeleted, ShuttingDown: They are stopped for good.
        """
        while self._cooling is not None and self.closed is None:
            if not self.holds_more_up:
                raise self._admission.full(self._held_up)
            self._held_up += 1
            try:
                await asyncio.wait({self._cooling})
            finally:
                self._held_up -= 1
        self.check_open()

    async def drain(self, reason: DomainError, grace_seconds: float) -> None:
        """Stop for good; see ``Deployment.drain``."""
        if self.closed is None:
            self.closed = reason
            if isinstance(reason, ShuttingDown):
                self._queue.pause()
            self._on_change()
        await self._stop_workers(reason, grace_seconds)
        if self._cooling is not None:
            await asyncio.wait({self._cooling})
        if not isinstance(self.closed, ShuttingDown):
            self._queue.refuse_durable(reason)

    def begin_cooling(self, reason: DomainError, grace_seconds: float) -> asyncio.Task[None]:
        """Stop for a while, or join the cooling in progress; see ``Deployment.begin_cooling``."""
        self.check_open()
        if self._cooling is None:
            # They start the workers again afterwards.
            self._queue.pause()
            self._cooling = asyncio.create_task(self._cool(reason, grace_seconds), name="cooling")
            self._on_change()
        return self._cooling

    async def _cool(self, reason: DomainError, grace_seconds: float) -> None:
        try:
            await self._stop_workers(reason, grace_seconds)
        finally:
            self.life = Life()
            self._cooling = None
            self._on_change()
            self._resume_durable()

    async def _stop_workers(self, reason: DomainError, grace_seconds: float) -> None:
        life = self.life
        if life.reason is None:
            life.reason = reason
        try:
            await asyncio.wait_for(self._queue.quiet.wait(), grace_seconds)
        except asyncio.TimeoutError:
            self._queue.refuse_callers(life.reason)
            if self.closed is not None and not self._queue.paused:
                self._queue.refuse_durable(life.reason)
        life.stopping = True
        self._scaler.close()
        await asyncio.gather(*(instance.stop() for instance in self._instances))
