"""What is remembered of runs, and for how long."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest

from pipelined.core.errors import Failure, KeyReused, RunFailed, RunNotFound
from pipelined.core.ports import RunResult, StoredRun
from pipelined.core.printed import Journal, Printed
from pipelined.core.run import Delivery, Run, RunState
from pipelined.core.runs import RunLimits, Runs


class Remembering:
    """A registry on a clock that the test moves, and what it has said to the archive."""

    def __init__(self, limits: RunLimits | None = None) -> None:
        self.now = 1000.0
        self.journal = Journal(lambda: self.now)
        self.runs = Runs(self.journal, limits or RunLimits(), lambda: self.now, self)
        self.forgotten: list[str] = []
        self.dropped: list[str] = []
        self._numbers = itertools.count(1)

    def create(self, *, submitted: bool = True, key: str = "", digest: str = "") -> Run:
        run_id = f"run-{next(self._numbers)}"
        return self.runs.create(
            run_id, "d", 1, submitted=submitted, key=key, digest=digest, owner="me"
        )

    def succeeded(self, size: int = 1, *, submitted: bool = True) -> Run:
        run = self.create(submitted=submitted)
        self.runs.begun(run)
        self.runs.succeeded(run, RunResult(b"x" * size, 0.5))
        return run

    def forget(self, run_id: str) -> None:
        self.forgotten.append(run_id)

    def drop_response(self, run_id: str) -> None:
        self.dropped.append(run_id)

    def ids(self) -> list[str]:
        return [run.id for run in self.runs.list("", (), 1000)]


def failure(run: Run) -> RunFailed:
    return RunFailed(run.id, Failure("ValueError", "x"))


def test_the_life_of_a_run() -> None:
    remembering = Remembering()
    run = remembering.create()
    assert (run.state, run.created_at) == (RunState.QUEUED, 1000.0)
    remembering.now = 1001.0
    remembering.runs.begun(run)
    assert (run.state, run.started_at) == (RunState.RUNNING, 1001.0)
    assert not run.ended.is_set()
    remembering.now = 1002.0
    remembering.runs.succeeded(run, RunResult(b"outputs", 0.25))
    assert (run.state, run.ended_at, run.execution_seconds) == (RunState.SUCCEEDED, 1002.0, 0.25)
    assert run.ended.is_set()
    assert remembering.runs.get(run.id).response_bytes == len(b"outputs")
    assert run.attempts == 1


def test_outputs_are_kept_of_submitted_runs_only() -> None:
    assert Remembering().succeeded(submitted=False).response_bytes is None


def test_an_ended_run_is_forgotten_after_its_time() -> None:
    remembering = Remembering(RunLimits(ttl_seconds=60))
    running = remembering.create()
    ended = remembering.succeeded()
    remembering.now += 30
    later = remembering.succeeded(submitted=False)
    remembering.now += 30
    assert remembering.ids() == [later.id, running.id]
    with pytest.raises(RunNotFound):
        remembering.runs.get(ended.id)
    remembering.now += 30
    # One that has not ended is not forgotten, whatever its age.
    assert remembering.ids() == [running.id]
    remembering.runs.failed(running, failure(running))
    remembering.now += 59
    assert remembering.runs.get(running.id) is running
    remembering.now += 1
    assert remembering.ids() == []


def test_calls_do_not_displace_submitted_runs() -> None:
    remembering = Remembering(RunLimits(records=2))
    submitted = [remembering.succeeded().id for _ in range(3)]
    called = [remembering.succeeded(submitted=False).id for _ in range(3)]
    assert remembering.ids() == [called[2], called[1], submitted[2], submitted[1]]


def test_the_outputs_that_are_oldest_make_room() -> None:
    remembering = Remembering(RunLimits(store_bytes=100))
    first, second, third = (remembering.succeeded(40) for _ in range(3))
    assert [run.response_bytes is None for run in (first, second, third)] == [True, False, False]
    assert remembering.dropped == [first.id]
    assert remembering.runs.get(first.id).state is RunState.SUCCEEDED
    # What is forgotten gives back its room.
    remembering.runs.discard(second)
    assert remembering.forgotten == [second.id]
    fourth = remembering.succeeded(60)
    assert [run.response_bytes is None for run in (third, fourth)] == [False, False]
    # What has no room at all takes none from the others.
    assert remembering.succeeded(101).response_bytes is None
    assert [run.response_bytes is None for run in (third, fourth)] == [False, False]
    assert remembering.succeeded(100).response_bytes is not None
    assert [run.response_bytes is None for run in (third, fourth)] == [True, True]


def test_a_key_stands_for_a_run_as_long_as_that_is_remembered() -> None:
    remembering = Remembering(RunLimits(ttl_seconds=60))
    run = remembering.create(key="k", digest="a")
    assert remembering.runs.with_key("me", "k", "a") is run
    assert remembering.runs.with_key("me", "other", "a") is None
    # Another's key is another key.
    assert remembering.runs.with_key("you", "k", "b") is None
    with pytest.raises(KeyReused) as caught:
        remembering.runs.with_key("me", "k", "b")
    assert (caught.value.key, caught.value.run_id) == ("k", run.id)
    remembering.runs.cancelled(run, failure(run))
    assert remembering.runs.with_key("me", "k", "a") is run
    remembering.now += 60
    assert remembering.runs.with_key("me", "k", "b") is None


def test_list_filters_and_bounds() -> None:
    remembering = Remembering()
    queued = remembering.create()
    done = remembering.succeeded()
    other = remembering.runs.create("other-run", "e", 1)
    runs = remembering.runs
    assert runs.list("", (), 2) == [other, done]
    assert runs.list("d", (), 10) == [done, queued]
    assert runs.list("", [RunState.QUEUED], 10) == [other, queued]
    assert runs.list("d", [RunState.QUEUED, RunState.SUCCEEDED], 1) == [done]
    assert runs.list("none", (), 10) == []


async def test_lines_go_with_their_run() -> None:
    remembering = Remembering(RunLimits(ttl_seconds=60))
    run = remembering.create()
    remembering.journal.add(Printed("worker-1", ["one", "two"], "d", run.id))
    remembering.runs.begun(run)
    remembering.runs.succeeded(run, RunResult(b"", 0.0))
    assert [[line.text for line in lines] async for lines in run.lines.read(follow=True)] == [
        ["one", "two"]
    ]
    remembering.now += 60
    remembering.runs.sweep()
    # Nobody knows the run any more: nothing is kept, and nothing breaks.
    remembering.journal.add(Printed("worker-1", ["three"], "d", run.id))
    assert [len(lines) async for lines in run.lines.read()] == [2]
    kept = [
        [line.text for line in lines]
        async for lines in remembering.journal.of_deployment("d").read()
    ]
    assert kept == [["one", "two", "three"]]


def test_what_is_remembered_of_a_failure_keeps_no_request() -> None:
    class Request:
        """Large, perhaps."""

    def fail(request: Request) -> None:
        raise failure(run)

    remembering = Remembering()
    run = remembering.create()
    request = Request()
    left = weakref.ref(request)
    try:
        fail(request)
    except RunFailed as error:
        remembering.runs.failed(run, error)
    del request
    gc.collect()
    assert left() is None
    assert isinstance(run.error, RunFailed)
    assert (str(run.error), run.error.run_id) == (str(failure(run)), run.id)
    assert run.error.failure == failure(run).failure


def test_a_run_that_is_remembered_no_longer_can_be_forgotten_again() -> None:
    remembering = Remembering(RunLimits(records=0))
    run = remembering.create()
    remembering.runs.failed(run, failure(run))
    assert remembering.ids() == []
    # As one does whose submission has been refused.
    remembering.runs.discard(run)
    assert remembering.ids() == []


def test_runs_of_a_clock_that_was_ahead_have_come_and_ended_now() -> None:
    def stored(number: int, state: RunState, at: float, ended_at: float | None) -> StoredRun:
        return StoredRun(
            id=f"old-{number}",
            deployment="d",
            version=1,
            state=state.value,
            created_at=at,
            delivery=Delivery.AT_MOST_ONCE.value,
            started_at=None if ended_at is None else at,
            ended_at=ended_at,
        )

    remembering = Remembering(RunLimits(ttl_seconds=60.0))
    ended, waiting = remembering.runs.restore(
        [
            stored(1, RunState.SUCCEEDED, 90_000.0, 90_001.0),
            stored(2, RunState.QUEUED, 90_002.0, None),
        ]
    )
    assert waiting.place <= remembering.create().place
    assert (ended.started_at, ended.ended_at) == (1000.0, 1000.0)
    # Nor does it keep those that end after it.
    later = remembering.succeeded()
    remembering.now += 61.0
    remembering.runs.sweep()
    assert remembering.forgotten == [ended.id, later.id]
