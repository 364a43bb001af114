"""What the daemon has done, as plain numbers: the one account that all reports are made from.

Counting is a few additions for each run; what reports want beyond that is worked out when they are
asked for.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelined.core.errors import StartupFailed
from pipelined.core.observers import Unobserved
from pipelined.core.ports import NodeTime, Worker
from pipelined.core.run import Run, RunState
from pipelined.core.specification import Specification
from pipelined.core.stages import Stage, StageKind, Timeline
from pipelined.observe.recent import RecentTimes

# Upper bounds in seconds. Runs take from half a millisecond (an echo) to minutes (video).
RUN_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
# A run that finds a free instance waits for some ten microseconds.
QUEUE_BOUNDS = (0.0001, *RUN_BOUNDS)
STAGE_BOUNDS = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Histogram:
    """Values counted by upper bounds.

    Attributes:
        bounds: In increasing order.
        counts: Values up to each bound and above the one before; last, those above all.
        sum: Of the values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Histogram:
        """Return another one with the same numbers."""
        other = Histogram(self.bounds)
        other.counts = [*self.counts]
        other.sum = self.sum
        return other


@dataclass(slots=True)
class Tally:
    """What has happened to one deployment, all its versions together, since it has been here.

    Attributes:
        queued: Runs that wait.
        submitted: Of those, the ones that nobody waits for.
        running: Runs that workers have.
        open: The ids of both, and whether they are the latter. A deployment of the same name may
            have been here before this one, and runs of it may end now.
        ended: Runs by the state that they ended in.
        cold_starts: Runs that waited for a startup because no instance was warm.
        warm_starts: The other runs that have begun.
        queue_seconds: From the call to the beginning, of runs that have begun.
        run_seconds: From the beginning to the end.
        startups: By "succeeded", or by the cause of the failure.
        stages: Seconds by kind of stage.
        deaths: Warm workers that ended unasked, by the signal, or "exit".
        recent: Of runs that succeeded, seconds from the call to the end.
    """

    clock: Callable[[], float] = time.monotonic
    queued: int = 0
    submitted: int = 0
    running: int = 0
    open: dict[str, bool] = field(default_factory=dict)
    ended: Counter[RunState] = field(default_factory=Counter)
    cold_starts: int = 0
    warm_starts: int = 0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_BOUNDS))
    run_seconds: Histogram = field(default_factory=lambda: Histogram(RUN_BOUNDS))
    startups: Counter[str] = field(default_factory=Counter)
    stages: dict[StageKind, Histogram] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    recent: RecentTimes = field(init=False)

    def __post_init__(self) -> None:
        self.recent = RecentTimes(self.clock)

    @property
    def restarts(self) -> int:
        """Warm workers that had to be replaced."""
        return sum(self.deaths.values())


class Activity(Unobserved):
    """Counts by deployment. Belongs to one event loop.

    What still happens to a deployment once it has been deleted is not counted, so that there are
    never more names here than deployments.

    Attributes:
        tallies: By name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.tallies: dict[str, Tally] = {}

    def deployment_changed(self, name: str, *, exists: bool) -> None:
        """See Observer."""
        if not exists:
            self.tallies.pop(name, None)
        elif name not in self.tallies:
            self.tallies[name] = Tally(self._clock)

    def run_created(self, run: Run) -> None:
        """See Observer."""
        if (tally := self.tallies.get(run.deployment)) is not None:
            tally.open[run.id] = False
            tally.queued += 1
            tally.submitted += run.submitted

    def run_begun(self, run: Run) -> None:
        """See Observer."""
        tally = self.tallies.get(run.deployment)
        if tally is None or run.id not in tally.open or run.started_at is None:
            return
        tally.open[run.id] = True
        tally.queued -= 1
        tally.submitted -= run.submitted
        tally.running += 1
        tally.queue_seconds.add(run.started_at - run.created_at)
        if run.cold:
            tally.cold_starts += 1
        else:
            tally.warm_starts += 1

    def run_queued_again(self, run: Run) -> None:
        """See Observer."""
        tally = self.tallies.get(run.deployment)
        if tally is not None and tally.open.get(run.id):
            tally.open[run.id] = False
            tally.running -= 1
            tally.queued += 1
            tally.submitted += run.submitted

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """See Observer."""
        tally = self.tallies.get(run.deployment)
        if tally is None or run.id not in tally.open or run.ended_at is None:
            return
        begun = tally.open.pop(run.id)
        tally.ended[run.state] += 1
        if not begun or run.started_at is None:
            tally.queued -= 1
            tally.submitted -= run.submitted
            return
        tally.running -= 1
        tally.run_seconds.add(run.ended_at - run.started_at)
        if run.state is RunState.SUCCEEDED:
            tally.recent.add(run.ended_at - run.created_at)

    def stage_ended(self, name: str, stage: Stage) -> None:
        """See Observer."""
        # READY is a moment.
        if stage.kind is StageKind.READY or (tally := self.tallies.get(name)) is None:
            return
        if (times := tally.stages.get(stage.kind)) is None:
            times = tally.stages[stage.kind] = Histogram(STAGE_BOUNDS)
        times.add(stage.seconds)

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """See Observer."""
        if (tally := self.tallies.get(timeline.deployment)) is not None:
            tally.startups[_outcome(error)] += 1

    def worker_died(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""
        if (tally := self.tallies.get(specification.name)) is not None:
            exit_ = worker.exited.result()
            cause = exit_.signal or "exit" if exit_.excess is None else exit_.excess.value
            tally.deaths[cause] += 1


def _outcome(error: Exception | None) -> str:
    if error is None:
        return "succeeded"
    # One of few words, whatever failed.
    return error.cause if isinstance(error, StartupFailed) else type(error).__name__
