"""What is counted of runs, and the times of the last minute, by a clock of our own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelined.core.errors import RunCancelled
from pipelined.core.observers import Observers, Unobserved
from pipelined.core.ports import RunResult
from pipelined.core.printed import Journal
from pipelined.core.run import Run
from pipelined.core.runs import RunLimits, Runs
from pipelined.observe.activity import Activity, Histogram, Tally
from pipelined.observe.recent import GROWTH, SECONDS, SLOT_SECONDS, RecentTimes


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Nothing:
    """An archive of runs that has none."""

    def forget(self, run_id: str) -> None:
        pass

    def drop_response(self, run_id: str) -> None:
        pass


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_are_right_within_a_bin(times: list[float], part: float) -> None:
    recent = RecentTimes(Clock())
    for seconds in times:
        recent.add(seconds)
    exact = sorted(times)
    rank = part * len(times)
    wanted = next(value for index, value in enumerate(exact, 1) if index >= rank)
    [found] = recent.quantiles(part)
    assert wanted / GROWTH <= found <= wanted * GROWTH


def test_times_are_of_the_last_minute() -> None:
    clock = Clock()
    recent = RecentTimes(clock)
    assert recent.quantiles(0.5, 0.99) == [0.0, 0.0]
    assert recent.per_second() == 0.0
    clock.now += 10
    for _ in range(50):
        recent.add(1.0)
    # Of the ten seconds that there have been.
    assert recent.per_second() == pytest.approx(5.0)
    clock.now += SECONDS
    for _ in range(60):
        recent.add(4.0)
    [found] = recent.quantiles(0.01)
    assert found == pytest.approx(4.0, rel=GROWTH - 1)
    assert recent.per_second() == pytest.approx(1.0, rel=2 * SLOT_SECONDS / SECONDS)
    clock.now += SECONDS
    assert recent.per_second() == 0.0


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 10.0))
    for value in values:
        histogram.add(value)
    below = [sum(value <= bound for value in values) for bound in histogram.bounds]
    cumulative = [sum(histogram.counts[: index + 1]) for index in range(3)]
    assert cumulative == below
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


@pytest.fixture
def activity() -> Activity:
    found = Activity(Clock())
    found.deployment_changed("here", exists=True)
    return found


def counted(tally: Tally) -> tuple[int, int, int]:
    return tally.queued, tally.running, sum(tally.ended.values())


async def test_a_run_is_in_one_place_at_a_time(activity: Activity) -> None:
    runs = Runs(Journal(Clock()), RunLimits(), Clock(), Nothing(), activity)
    tally = activity.tallies["here"]
    first = runs.create("a", "here", 1)
    second = runs.create("b", "here", 1, submitted=True, cold=True)
    assert counted(tally) == (2, 0, 0)
    assert tally.submitted == 1
    runs.begun(first)
    runs.begun(second)
    assert counted(tally) == (0, 2, 0)
    assert (tally.warm_starts, tally.cold_starts, tally.submitted) == (1, 1, 0)
    runs.succeeded(first, RunResult(b"", 0.5))
    runs.cancelled(second, RunCancelled("b"))
    third = runs.create("c", "here", 1)
    runs.cancelled(third, RunCancelled("c"))
    assert counted(tally) == (0, 0, 3)
    assert sum(tally.run_seconds.counts) == 2
    assert not tally.open


async def test_a_run_that_is_tried_again_is_queued_again(activity: Activity) -> None:
    runs = Runs(Journal(Clock()), RunLimits(), Clock(), Nothing(), activity)
    run = runs.create("a", "here", 1, submitted=True)
    runs.begun(run)
    runs.queued_again(run)
    tally = activity.tallies["here"]
    assert counted(tally) == (1, 0, 0)
    assert tally.submitted == 1
    runs.cancelled(run, RunCancelled("a"))
    assert counted(tally) == (0, 0, 1)


async def test_runs_that_outlive_their_deployment_are_not_its_successors(
    activity: Activity,
) -> None:
    runs = Runs(Journal(Clock()), RunLimits(), Clock(), Nothing(), activity)
    queued, running = runs.create("a", "here", 1), runs.create("b", "here", 1)
    runs.begun(running)
    activity.deployment_changed("here", exists=False)
    assert activity.tallies == {}
    runs.create("c", "here", 1)
    assert activity.tallies == {}
    activity.deployment_changed("here", exists=True)
    runs.begun(queued)
    for run in (queued, running):
        runs.succeeded(run, RunResult(b"", 0.5))
    assert counted(activity.tallies["here"]) == (0, 0, 0)
    await asyncio.sleep(0)


async def test_an_observer_that_breaks_fails_no_run(activity: Activity) -> None:
    class Broken(Unobserved):
        def run_created(self, run: Run) -> None:
            raise ZeroDivisionError

    told: list[Exception] = []
    observers = Observers(Broken(), activity, broken=told.append)
    runs = Runs(Journal(Clock()), RunLimits(), Clock(), Nothing(), observers)
    run = runs.create("a", "here", 1)
    runs.begun(run)
    assert counted(activity.tallies["here"]) == (0, 1, 0)
    assert [type(error) for error in told] == [ZeroDivisionError]
