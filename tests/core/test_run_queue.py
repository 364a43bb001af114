"""Who is served next, in one deployment and among several."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from pipelined.core.errors import ShuttingDown, WaitingRunsTooLarge
from pipelined.core.instance import Instance
from pipelined.core.run_queue import AGING_SECONDS, RunQueue, Waiting, rank
from pipelined.core.run_times import Times
from pipelined.core.shared_limits import ConcurrentRuns, WaitingBytes
from pipelined.core.states import State


@dataclass(eq=False)
class Exited:
    """As much of a worker as the queue looks at."""

    exited: asyncio.Future[None]


@dataclass(eq=False)
class Idle:
    """As much of an instance as the queue looks at; one that is always fit."""

    state: State = State.WARM
    worker: Exited = field(
        default_factory=lambda: Exited(asyncio.get_running_loop().create_future())
    )


class Queue:
    """A queue with so many instances, and the names of what it has begun, in order."""

    def __init__(
        self, slots: ConcurrentRuns, instances: int, began: list[str] | None = None
    ) -> None:
        self.queue = RunQueue(slots, instances)
        self.began: list[str] = [] if began is None else began
        self.busy: list[Instance] = []
        for _ in range(instances):
            self.queue.give(cast("Instance", Idle()))

    def add(self, name: str, place: float = 0.0) -> Waiting:
        """A durable run that waits, until it is ended."""

        def grant(instance: Instance) -> None:
            self.began.append(name)
            self.busy.append(instance)

        def refuse(error: Exception) -> None:
            self.began.append(f"{name}: {type(error).__name__}")

        waiting = Waiting(place, grant, refuse)
        self.queue.add(waiting)
        return waiting

    def end_one(self) -> None:
        self.queue.give_back(self.busy.pop(0))


async def test_rank_decides_and_then_who_came_first() -> None:
    queue = Queue(ConcurrentRuns(None), 1)
    queue.add("running")
    for name, came_at, priority in (
        ("a", 0.0, 0),
        ("b", 1.0, 0),
        ("high", 2.0, 1),
        ("low", -AGING_SECONDS * 1.5, -2),
        ("c", 1.0, 0),
    ):
        queue.add(name, rank(came_at, priority))
    assert queue.queue.ahead(rank(0.5, 0)) == 2
    assert queue.queue.ahead(rank(100.0, 0)) == queue.queue.waiting == 5
    gone = queue.add("gone")
    queue.queue.remove(gone)
    queue.queue.remove(gone)
    for _ in range(6):
        queue.end_one()
    # Low has waited for one and a half steps of the two.
    assert queue.began == ["running", "high", "a", "b", "c", "low"]
    assert queue.queue.quiet.is_set()


async def test_a_low_priority_does_not_starve() -> None:
    queue = Queue(ConcurrentRuns(None), 1)
    queue.add("running")
    queue.add("low", rank(0.0, -10))
    now = 0.0
    # One of the highest priority comes every second, and each takes one.
    while "low" not in queue.began:
        now += 1.0
        queue.add("high", rank(now, 10))
        queue.end_one()
    assert now == pytest.approx(20 * AGING_SECONDS, abs=2)


async def test_callers_that_leave_are_passed_over() -> None:
    queue = Queue(ConcurrentRuns(None), 1)
    queue.add("running")
    callers = [asyncio.create_task(queue.queue.wait(place)) for place in (-3.0, -2.0, -1.0)]
    await asyncio.sleep(0)
    assert queue.queue.waiting == 3
    # One has left before it is its turn, and one in the same turn of the loop.
    callers[0].cancel()
    await asyncio.sleep(0)
    callers[1].cancel()
    queue.end_one()
    instance = await callers[2]
    assert queue.queue.running == 1
    assert queue.queue.waiting == 0
    queue.queue.give_back(instance)
    # Of many that have left nothing stays.
    for _ in range(3):
        many = [queue.add(str(number)) for number in range(1000)]
        for waiting in many:
            queue.queue.remove(waiting)
    assert queue.queue.waiting == 0
    queue.end_one()
    # But for the one that found an instance idle.
    assert queue.began == ["running", "0"]


async def test_the_last_caller_leaves_as_an_instance_comes_back() -> None:
    queue = RunQueue(ConcurrentRuns(None))
    queue.give(cast("Instance", Idle()))
    instance = queue.take()
    assert instance is not None
    caller = asyncio.create_task(queue.wait(0.0))
    await asyncio.sleep(0)
    caller.cancel()
    # In the same turn of the loop.
    queue.give_back(instance)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert queue.quiet.is_set()


async def test_an_instance_that_is_replaced_while_it_is_given_out_has_one_run() -> None:
    queue = Queue(ConcurrentRuns(None), 1)
    queue.add("first")
    queue.add("second")
    # Its worker has died, and another one is warm.
    queue.queue.give(queue.busy[0])
    assert queue.began == ["first"]
    queue.end_one()
    assert queue.began == ["first", "second"]
    queue.end_one()
    assert queue.queue.take() is not None
    assert queue.queue.take() is None


async def test_paused_runs_wait_and_are_refused_when_told() -> None:
    queue = Queue(ConcurrentRuns(None), 1)
    queue.queue.pause()
    queue.add("durable")
    assert queue.began == []
    assert queue.queue.quiet.is_set()
    instance = queue.queue.take()
    assert instance is not None
    assert not queue.queue.quiet.is_set()
    queue.queue.give_back(instance)
    queue.queue.resume()
    assert queue.began == ["durable"]
    queue.add("refused")
    queue.queue.refuse_durable(ShuttingDown())
    assert queue.began == ["durable", "refused: ShuttingDown"]
    assert queue.queue.waiting == 0


async def test_deployments_take_turns_by_their_weights() -> None:
    slots = ConcurrentRuns(2)
    began: list[str] = []
    large, small = Queue(slots, 2, began), Queue(slots, 1, began)
    for _ in range(20):
        large.add("large")
    for _ in range(5):
        small.add("small")
    assert began == ["large", "large"]
    # Whose slot is free is the next one's: nobody has all of them because it came first.
    for _ in range(9):
        (large if large.busy else small).end_one()
        if small.busy:
            small.end_one()
    begun = began[2:]
    assert begun[:6].count("small") in (2, 3)
    assert begun.count("small") == 5
    while large.busy or small.busy:
        (large if large.busy else small).end_one()
    assert (began.count("large"), began.count("small")) == (20, 5)
    assert large.queue.running == small.queue.running == 0


async def test_runs_at_once_are_bounded_for_one_deployment() -> None:
    queue = RunQueue(ConcurrentRuns(None), 3, 2)
    for _ in range(3):
        queue.give(cast("Instance", Idle()))
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert queue.take() is None
    waiter = asyncio.create_task(queue.wait(0.0))
    await asyncio.sleep(0)
    assert not waiter.done()
    queue.give_back(first)
    await waiter
    assert queue.running == 2


def test_what_waits_has_so_much_memory() -> None:
    memory = WaitingBytes(100)
    memory.take(60, 1.0)
    with pytest.raises(WaitingRunsTooLarge) as caught:
        memory.take(41, 2.5)
    assert (caught.value.size, caught.value.limit, caught.value.retry_after) == (41, 100, 2.5)
    memory.give_back(60)
    memory.take(100, 1.0)


def test_nothing_is_concluded_from_too_little() -> None:
    times = Times(3)
    for seconds in (4.0, 2.0):
        times.add(seconds)
    assert times.least == 0.0
    assert times.mean == pytest.approx(3.6)
    times.add(3.0)
    assert times.least == 2.0
    # It was a long time ago that one took two.
    for _ in range(16):
        times.add(5.0)
    assert times.least == 5.0
