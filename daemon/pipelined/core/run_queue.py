"""The runs that wait for an instance of a deployment, and the instances that have nothing to do.

Runs are served by rank: the time at which they came, less AGING_SECONDS for each step of their
priority. All of them age alike, so a rank never changes, and a run of low priority waits at most
that much longer than it would have: it does not starve. Of equal ranks the first comes first.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from pipelined.core.errors import DomainError
from pipelined.core.instance import Instance
from pipelined.core.shared_limits import ConcurrentRuns
from pipelined.core.states import State

# A run of one step more of priority is treated as if it had come so much earlier.
AGING_SECONDS = 30.0


def rank(came_at: float, priority: int) -> float:
    """The place of a run among others; the lowest is served first."""
    return came_at - AGING_SECONDS * priority


@dataclass(slots=True, eq=False)
class Waiting:
    """A run that waits.

    Attributes:
        rank: See ``rank``.
        grant: Gives it an instance, which it has to give back.
        refuse: Tells it that it waits in vain.
        caller: Of one whose caller waits; done when that has left.
        waits: It has been neither served nor removed.
    """

    rank: float
    grant: Callable[[Instance], None]
    refuse: Callable[[DomainError], None]
    caller: asyncio.Future[Instance] | None = None
    waits: bool = True


class _Line:
    """Runs in the order of their ranks."""

    def __init__(self) -> None:
        # Those that have been removed stay until they are the first.
        self._heap: list[tuple[float, int, Waiting]] = []
        self._numbers = itertools.count()
        self._highest = float("-inf")
        self.length = 0

    def ahead(self, place: float) -> int:
        """How many are of this rank or lower."""
        if place >= self._highest:
            return self.length
        return sum(1 for rank, _, waiting in self._heap if waiting.waits and rank <= place)

    def add(self, waiting: Waiting) -> None:
        self._highest = waiting.rank if not self.length else max(self._highest, waiting.rank)
        heapq.heappush(self._heap, (waiting.rank, next(self._numbers), waiting))
        self.length += 1

    def first(self) -> Waiting | None:
        while self._heap:
            waiting = self._heap[0][2]
            if waiting.waits and waiting.caller is not None and waiting.caller.done():
                # It left in this turn of the loop.
                self.remove(waiting)
            elif waiting.waits:
                return waiting
            else:
                heapq.heappop(self._heap)
        return None

    def remove(self, waiting: Waiting) -> None:
        """Take one out, wherever it is."""
        if not waiting.waits:
            return
        waiting.waits = False
        self.length -= 1
        # Those that have gone are not looked for, but may not be more than those that are here.
        if len(self._heap) > 2 * self.length + 64:
            self._heap = [item for item in self._heap if item[2].waits]
            heapq.heapify(self._heap)


class RunQueue:
    """Gives warm instances to runs. Belongs to one event loop.

    Whoever is given an instance takes a slot with it, and gives both back with ``give_back``.

    Args:
        slots: Shared with other deployments.
        weight: Turns in a row that it has among them.
        most_running: Runs that may be executed at once; None for as many as there are instances.

    Attributes:
        weight: As given.
        running: Instances that have been given out.
        quiet: Set while none is, and none waits for one that may have it.
    """

    def __init__(
        self, slots: ConcurrentRuns, weight: int = 1, most_running: int | None = None
    ) -> None:
        self.weight = weight
        self.running = 0
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._slots = slots
        self._most_running = most_running
        # The one that was used last is the next: see ``scaler``.
        self._idle: list[Instance] = []
        # Its worker may die and be replaced before it is given back.
        self._given_out: set[Instance] = set()
        self._callers = _Line()
        self._durable = _Line()
        # Places of durable runs that are being written.
        self._reserved = 0
        self._paused = False

    @property
    def waiting(self) -> int:
        """How many wait for an instance, or soon will."""
        return self._callers.length + self._durable.length + self._reserved

    @property
    def callers(self) -> int:
        """How many of them have a caller that waits, too."""
        return self._callers.length

    @property
    def active(self) -> int:
        """How many are executed, or wait for an instance that they may have."""
        return self.running + self._callers.length + (0 if self._paused else self._durable.length)

    @property
    def mismatched(self) -> bool:
        """Whether a caller waits while an instance is free that it may have."""
        return self._free and self._callers.first() is not None

    @property
    def idle(self) -> bool:
        """Whether an instance has nothing to do that a run may have, and nobody waits."""
        return self._free and not self.waiting

    @property
    def durable(self) -> int:
        """How many of them are durable."""
        return self._durable.length

    @property
    def paused(self) -> bool:
        """Whether durable runs are left waiting."""
        return self._paused

    def pause(self) -> None:
        """Leave durable runs waiting, until ``resume`` is called."""
        self._paused = True
        self._settle()

    def resume(self) -> None:
        """Serve them again."""
        self._paused = False
        self._settle()
        self._dispatch()

    def ahead(self, place: float) -> int:
        """How many of those that wait come before a run of this rank."""
        return self._callers.ahead(place) + self._durable.ahead(place)

    def take(self) -> Instance | None:
        """An instance that is free now, unless others wait for it."""
        if not self._idle or self._first() is not None or not self._enter():
            return None
        return self._give_out()

    async def wait(self, place: float) -> Instance:
        """Wait for the next instance that nobody of a lower rank wants.

        Raises:
            DomainError: What ``refuse`` was given.
        """
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        waiting = Waiting(place, future.set_result, future.set_exception, future)
        self._callers.add(waiting)
        self._settle()
        # Somebody may have left since.
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if waiting.waits:
                self.remove(waiting)
            elif not future.cancelled() and future.exception() is None:
                # The instance was handed over in the same turn of the loop: pass it on.
                self.give_back(future.result())
            # It may have been taken out by whoever looked for the first one.
            self._settle()
            raise

    def reserve(self) -> None:
        """Take a place for a durable run, to be followed by ``add`` or ``unreserve``."""
        self._reserved += 1

    def unreserve(self) -> None:
        """Give up a place that was taken."""
        self._reserved -= 1

    def add(self, waiting: Waiting) -> None:
        """Let a durable run wait."""
        self._durable.add(waiting)
        self._settle()
        self._dispatch()

    def remove(self, waiting: Waiting) -> None:
        """Let a run wait no longer."""
        (self._durable if waiting.caller is None else self._callers).remove(waiting)
        self._settle()

    def give(self, instance: Instance) -> None:
        """Hand a warm instance to whoever is the next, or keep it for the one after.

        One that is given out still is handed on when it is given back.
        """
        if instance not in self._given_out:
            self._idle.append(instance)
            self._dispatch()

    def give_back(self, instance: Instance) -> None:
        """Hand on an instance that was given out, unless it is not fit for that any more."""
        self.running -= 1
        self._given_out.discard(instance)
        worker = instance.worker
        if instance.state is State.WARM and worker is not None and not worker.exited.done():
            self._idle.append(instance)
        self._settle()
        # Who is in line for the slot comes before the next run of ours.
        self._slots.leave()
        self._dispatch()

    def withdraw(self, instance: Instance) -> bool:
        """Do not give this instance to anybody; whether it had nothing to do."""
        if instance not in self._idle:
            return False
        self._idle.remove(instance)
        return True

    def refuse_callers(self, error: DomainError) -> None:
        """Tell all callers that they wait in vain."""
        self._refuse(self._callers, error)

    def refuse_durable(self, error: DomainError) -> None:
        """Tell all durable runs that they wait in vain."""
        self._refuse(self._durable, error)

    def take_turn(self) -> bool:
        """See Sharer."""
        return self._dispatch_one()

    def _refuse(self, line: _Line, error: DomainError) -> None:
        while (waiting := line.first()) is not None:
            line.remove(waiting)
            waiting.refuse(error)
        self._settle()

    @property
    def _free(self) -> bool:
        full = self._most_running is not None and self.running >= self._most_running
        return bool(self._idle) and not full and not self._slots.full

    def _first(self) -> Waiting | None:
        caller = self._callers.first()
        durable = None if self._paused else self._durable.first()
        if caller is None or (durable is not None and durable.rank < caller.rank):
            return durable
        return caller

    def _enter(self) -> bool:
        if self._most_running is not None and self.running >= self._most_running:
            return False
        if not self._slots.enter(self):
            return False
        self.running += 1
        self.quiet.clear()
        return True

    def _dispatch(self) -> None:
        while self._dispatch_one():
            pass

    def _dispatch_one(self) -> bool:
        if not self._idle or (waiting := self._first()) is None or not self._enter():
            return False
        self.remove(waiting)
        waiting.grant(self._give_out())
        return True

    def _give_out(self) -> Instance:
        instance = self._idle.pop()
        self._given_out.add(instance)
        return instance

    def _settle(self) -> None:
        if self.active:
            self.quiet.clear()
        else:
            self.quiet.set()
