"""Which runs may wait: refuses those that would not be executed, or not in time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from pipelined.core.errors import QueueFull, WaitTooLong
from pipelined.core.instances import Instances
from pipelined.core.run_queue import RunQueue
from pipelined.core.scaler import Scaler
from pipelined.core.shared_limits import SharedLimits
from pipelined.core.specification import Specification
from pipelined.core.states import State


class Admission:
    """Of one version of a deployment. Belongs to one event loop.

    Args:
        specification: Of the version.
        instances: Execute the runs.
        queue: Where they wait.
        scaler: Knows how long runs and startups take.
        shared: What all deployments share.
    """

    def __init__(
        self,
        specification: Specification,
        instances: Instances,
        queue: RunQueue,
        scaler: Scaler,
        shared: SharedLimits,
    ) -> None:
        length = specification.options.queue_length
        self._limit = shared.limits.length if length is None else length
        self._name = specification.name
        self._instances = instances
        self._queue = queue
        self._scaler = scaler
        self._waiting_bytes = shared.waiting_bytes

    @property
    def length(self) -> int:
        """Runs that may wait; at least one where there is no worker, which it starts."""
        return self._limit or int(not self._scaler.live)

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Have room for so many bytes that wait in memory.

        Raises:
            WaitingRunsTooLarge: There is none.
        """
        self._waiting_bytes.take(size, self._expected_wait(self._queue.waiting))
        try:
            yield
        finally:
            self._waiting_bytes.give_back(size)

    def check_length(self) -> None:
        """Raise QueueFull if too many runs wait already."""
        if self._queue.waiting >= self.length:
            raise self.full(self._queue.waiting)

    def full(self, waiting: int) -> QueueFull:
        """What a run is told where so many wait."""
        wait = self._expected_wait(waiting)
        return QueueFull(self._name, self._limit, wait)

    def check_deadline(self, seconds_left: float | None, place: float, state: State) -> None:
        """Refuse what cannot be in time, were all as fast as the fastest of late.

        Args:
            seconds_left: Until the caller's deadline; None without one.
            place: In the queue.
            state: Of the version.

        Raises:
            WaitTooLong: Its turn would come after that.
        """
        if seconds_left is None or seconds_left <= 0:
            # Whose deadline is over is told that, and not to come again.
            return
        rounds = self._queue.ahead(place) // len(self._instances)
        wait = rounds * self._scaler.run_times.least
        if state is not State.WARM:
            timeline = self._instances.timeline
            since = 0.0
            if state is State.STARTING and timeline is not None:
                since = time.monotonic() - timeline.zero
            wait += max(0.0, self._scaler.startup_times.least - since)
        if wait > seconds_left:
            raise WaitTooLong(self._name, wait, seconds_left)

    def _expected_wait(self, waiting: int) -> float:
        """Seconds in which so many runs are executed, at least one."""
        return max(1.0, self._scaler.run_times.mean * waiting / max(1, self._scaler.live))
