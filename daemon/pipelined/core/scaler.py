"""Starts and stops the instances of a deployment, as ``scaling`` says and where they idle."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from pipelined.core.errors import DomainError, ShuttingDown
from pipelined.core.instance import Instance
from pipelined.core.options import Options
from pipelined.core.run_queue import RunQueue
from pipelined.core.run_times import Times
from pipelined.core.scaling import Load, wanted
from pipelined.core.states import State

# Where no startup has been measured.
_LOOK_AGAIN_SECONDS = 1.0
IDLE_SECONDS = 300.0


class Scaler:
    """Belongs to one event loop.

    Of several instances that are free the one that was used last gets the next run: its memory and
    what its libraries keep are in the caches, and the others come to idle long enough to be
    stopped.

    Args:
        instances: All that there may be.
        queue: What waits for them.
        options: How many there have to be, and may be.
        idle_seconds: After which one that is more than needed is stopped.

    Attributes:
        run_times: Of the runs.
        startup_times: Of the startups.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        queue: RunQueue,
        options: Options,
        run_times: Times,
        startup_times: Times,
        idle_seconds: float,
    ) -> None:
        self.run_times = run_times
        self.startup_times = startup_times
        self._instances = instances
        self._queue = queue
        self._options = options
        self._idle_seconds = idle_seconds
        self._idle_since: dict[Instance, float] = {}
        self._busy_since: float | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._stops: set[asyncio.Task[None]] = set()

    @property
    def live(self) -> int:
        """How many are warm or being started."""
        return len(self._live())

    def chosen(self) -> list[Instance]:
        """Those that are warm or being started, and others up to what there has to be."""
        live = self._live()
        missing = max(self._options.min_instances, 1) - len(live)
        return live + self._startable()[: max(missing, 0)]

    def start(self, seconds_left: float | None, waiting: int) -> None:
        """Start what so many runs that wait call for.

        Raises:
            DomainError: None can be started, and there is none to wait for.
        """
        if waiting and self._busy_since is None:
            self._busy_since = time.monotonic()
        live = self._live()
        missing = self._wanted(waiting, live) - len(live)
        refusal: DomainError | None = None
        for instance in self._startable():
            if missing <= 0:
                break
            try:
                instance.begin_startup(seconds_left)
                missing -= 1
            except DomainError as error:
                refusal = error
        if not self._live():
            raise refusal or ShuttingDown()
        self._look_again(waiting)

    def freed(self, instance: Instance) -> None:
        """Take note that an instance is done with its run, or its startup."""
        self._idle_since[instance] = time.monotonic()
        waiting = self._queue.waiting
        if waiting == 0:
            self._busy_since = None
            self._tidy_later()
            return
        if not self._queue.paused:
            with contextlib.suppress(DomainError):
                self.start(None, waiting)

    def close(self) -> None:
        """Start and stop nothing any more by itself, until the next call of ``start``."""
        for timer in (self._looking, self._tidying):
            if timer is not None:
                timer.cancel()
        self._looking = self._tidying = self._busy_since = None

    def _live(self) -> list[Instance]:
        return [i for i in self._instances if i.state is State.WARM or i.is_starting]

    def _startable(self) -> list[Instance]:
        return [
            instance
            for instance in self._instances
            if instance.state in (State.COLD, State.FAILED) and not instance.is_starting
        ]

    def _wanted(self, waiting: int, live: Sequence[Instance]) -> int:
        busy = 0.0 if self._busy_since is None else time.monotonic() - self._busy_since
        load = Load(
            waiting=waiting,
            live=len(live),
            starting=any(instance.is_starting for instance in live),
            busy_seconds=busy,
            run_seconds=self.run_times.mean,
            startup_seconds=self.startup_times.mean,
        )
        options = self._options
        # More than may be busy at once would only take memory.
        most = max(
            options.min_instances,
            min(options.max_instances, options.concurrent_runs or options.max_instances),
        )
        return wanted(load, options.min_instances, most)

    def _look_again(self, waiting: int) -> None:
        """See to it that runs which take long do not hold up others for longer than a startup."""
        if not waiting or self._looking is not None or self.live == len(self._instances):
            return
        delay = self.startup_times.mean or _LOOK_AGAIN_SECONDS
        self._looking = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._queue.waiting:
            with contextlib.suppress(DomainError):
                self.start(None, self._queue.waiting)

    def _tidy_later(self) -> None:
        if self._tidying is None and self._surplus():
            loop = asyncio.get_running_loop()
            self._tidying = loop.call_later(self._idle_seconds, self._tidy)

    def _surplus(self) -> int:
        warm = sum(instance.state is State.WARM for instance in self._instances)
        return warm - max(self._options.min_instances, 1)

    def _tidy(self) -> None:
        """Stop what has idled for long, the longest first."""
        self._tidying = None
        before = time.monotonic() - self._idle_seconds
        since = self._idle_since
        idle = [i for i in self._instances if i.state is State.WARM and since.get(i, 0.0) <= before]
        surplus = self._surplus()
        for instance in sorted(idle, key=lambda instance: since.get(instance, 0.0)):
            if surplus > 0 and self._queue.withdraw(instance):
                surplus -= 1
                stop = asyncio.create_task(instance.stop(), name="scaling down")
                self._stops.add(stop)
                stop.add_done_callback(self._stops.discard)
        self._tidy_later()
