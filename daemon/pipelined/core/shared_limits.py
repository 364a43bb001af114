"""What all deployments share: slots for runs, and the memory of those that wait."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from pipelined.core.errors import WaitingRunsTooLarge

QUEUE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What the operator allows.

    Attributes:
        length: Runs that may wait for one deployment.
        waiting_bytes: Of the requests that wait in memory, over all deployments.
        concurrent_runs: That are executed at once, over all deployments; None for as many as there
            are instances.
        kill_grace_seconds: What a worker has to heed a cancellation, before it is killed.
    """

    length: int = QUEUE_LENGTH
    waiting_bytes: int = 1 << 30
    concurrent_runs: int | None = None
    kill_grace_seconds: float = 5.0


class Sharer(Protocol):
    """Who takes turns with others."""

    @property
    def weight(self) -> int:
        """Turns in a row, at least 1."""

    def take_turn(self) -> bool:
        """Begin one more run, for which there is a slot; whether there was one to begin."""


class ConcurrentRuns:
    """Slots for runs, given out in weighted round robin. Belongs to one event loop.

    A deployment whose queue is never empty would have all of them if whoever came first was served
    first. Here each that waits gets as many turns in a row as it has instances, and then goes to
    the end of the line.

    Args:
        limit: Slots; None if there is no end of them.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0
        # Who waits for a slot, and the turns that are left to it before it is the next one's.
        self._line: OrderedDict[Sharer, int] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether there is no slot left."""
        return self._limit is not None and self._taken >= self._limit

    def enter(self, sharer: Sharer) -> bool:
        """Take a slot, or get in line for one."""
        if self.full:
            self._line.setdefault(sharer, sharer.weight)
            return False
        self._taken += 1
        return True

    def leave(self) -> None:
        """Give back a slot; whose turn it is gets it."""
        self._taken -= 1
        while self._line and not self.full:
            sharer = next(iter(self._line))
            turns = self._line[sharer] - 1
            # It enters again, and is in line again if it has more to begin.
            if not sharer.take_turn():
                del self._line[sharer]
            elif turns > 0:
                self._line[sharer] = turns
            else:
                self._line[sharer] = sharer.weight
                self._line.move_to_end(sharer)


class WaitingBytes:
    """The memory that requests take while they wait. Belongs to one event loop.

    Args:
        limit: Bytes of all of them together; may be set.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0

    def take(self, size: int, retry_after: float) -> None:
        """Take so many bytes.

        Raises:
            WaitingRunsTooLarge: There are not so many left; it may be tried again after the time.
        """
        if self._taken + size > self.limit:
            raise WaitingRunsTooLarge(size, self.limit, retry_after)
        self._taken += size

    def force(self, size: int) -> None:
        """Take so many bytes, whether they are left or not."""
        self._taken += size

    def give_back(self, size: int) -> None:
        """Give them back."""
        self._taken -= size


class SharedLimits:
    """What all deployments of a daemon share."""

    def __init__(self, limits: QueueLimits | None = None) -> None:
        self.limits = limits or QueueLimits()
        self.concurrent_runs = ConcurrentRuns(self.limits.concurrent_runs)
        self.waiting_bytes = WaitingBytes(self.limits.waiting_bytes)
