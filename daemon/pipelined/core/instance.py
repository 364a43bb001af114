"""One instance of a deployment: a worker that is started once, and replaced when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pipelined.core import states
from pipelined.core.backoff import Backoff
from pipelined.core.current_run import outside_runs
from pipelined.core.errors import (
    DomainError,
    Exit,
    Failure,
    NurseryUnavailable,
    ShuttingDown,
    StartupFailed,
    StorageFailed,
    WorkerDied,
)
from pipelined.core.observers import UNOBSERVED
from pipelined.core.ports import Observer, StartSpec, Worker, WorkerLauncher
from pipelined.core.specification import Specification
from pipelined.core.stages import Stage, StageKind, Timeline
from pipelined.core.states import State

# Workers of one instance that may die in a row, without a run in between that ended well, before
# the instance is left in state FAILED until somebody asks for it again.
DEATHS_IN_A_ROW = 5
STOP_GRACE_SECONDS = 5.0


class InstanceOwner(Protocol):
    """Who is told what becomes of an instance."""

    def instance_changed(self, instance: Instance) -> None:
        """Its state is another one now."""

    def instance_ready(self, instance: Instance) -> None:
        """It is warm and idle."""

    def instance_failed(self, instance: Instance, error: DomainError) -> None:
        """Its startup failed."""


class Instance:
    """A worker from cold to warm and back. Belongs to one event loop.

    Attributes:
        state: COLD, STARTING, WARM, FAILED or DRAINING.
        worker: The live worker, if there is one.
        timeline: Of the last startup; None before the first.
        failure: Of the last startup, in state FAILED.
        startups: Begun so far.
    """

    def __init__(
        self,
        specification: Specification,
        code_path: Path,
        launcher: WorkerLauncher,
        owner: InstanceOwner,
        *,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._specification = specification
        self._code_path = code_path
        self._launcher = launcher
        self._owner = owner
        self._observer = observer
        self._startup: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._last_error: StartupFailed | WorkerDied | StorageFailed | None = None
        self._listeners: list[Callable[[Stage], None]] = []
        self._first_run_is_due = False
        self._killed: Worker | None = None
        self.state = State.COLD
        self.worker: Worker | None = None
        self.timeline: Timeline | None = None
        self.failure: Failure | None = None
        self.startups = 0

    @property
    def starting(self) -> bool:
        """Whether a startup is in progress, or is about to be tried again."""
        return self._startup is not None and not self._startup.done()

    @property
    def failures_in_a_row(self) -> int:
        """Startups that failed and workers that died since a run, or a stop, ended well."""
        return self._backoff.failures

    @property
    def is_starting(self) -> bool:
        """Whether a startup is in progress, or is going to be when the back-off is over."""
        return self._startup is not None and not self._startup.done()

    def begin_startup(self, seconds_left: float | None = None) -> asyncio.Task[None]:
        """Start the instance, or join the startup that is in progress: single flight.

        The task ends when the instance is warm, and fails with the startup's error. Whoever waits
        for it has to shield it.

        Args:
            seconds_left: Until the caller's deadline; None without one.

        Raises:
            StartupFailed, WorkerDied, StorageFailed: The last startup failed so recently that the
                next one will not be made within the caller's deadline.
            ShuttingDown: The instance is being stopped.
        """
        if self.state is State.DRAINING:
            raise ShuttingDown
        if self._startup is None or (self._startup.done() and self.state is not State.WARM):
            delay = self._backoff.remaining()
            if self._last_error is not None and seconds_left is not None and delay > seconds_left:
                if isinstance(self._last_error, StartupFailed):
                    self._last_error.retry_after = delay
                raise self._last_error.with_traceback(None)
            # It is nobody's in particular, and outlives the run that has asked for it.
            self._startup = outside_runs(self._start(delay), name="startup")
            # A startup that nobody waits for must not complain about its exception.
            self._startup.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._startup

    def listen(self, listener: Callable[[Stage], None]) -> Callable[[], None]:
        """Report the stages of the startup in progress, past ones first; returns how to stop."""
        if self.state is State.STARTING and self.timeline is not None:
            for stage in self.timeline.stages:
                listener(stage)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def run_ended(self, started: float, ended: float, *, well: bool) -> None:
        """Note a run: its times as CLOCK_MONOTONIC, and whether the worker answered it."""
        if well:
            self._backoff.succeeded()
        if self._first_run_is_due and self.timeline is not None:
            self._first_run_is_due = False
            start = started - self.timeline.zero
            self.timeline.stages.append(
                Stage(StageKind.FIRST_RUN, start_seconds=start, seconds=ended - started)
            )

    def kill(self, worker: Worker) -> None:
        """Replace a worker that does not heed what it is told; nothing is held against the code."""
        if self.worker is worker:
            self._killed = worker
            self._observer.worker_replaced(self._specification, worker)
            worker.kill()

    def fail(self, error: StorageFailed) -> None:
        """Be FAILED before anybody has asked for it: a startup now would fail with this."""
        self.failure = Failure(type(error).__name__, str(error))
        self._become(State.STARTING)
        self._become(State.FAILED)

    async def stop(self) -> None:
        """End the worker, also in the middle of a startup; what failed before is forgotten.

        It may be called again before it has ended. No startup may be begun until it has.
        """
        self._become(State.DRAINING)
        if self._startup is not None and not self._startup.done():
            self._startup.cancel()
            await asyncio.wait({self._startup})
        await self._stop_worker()
        self._startup = None
        self._backoff = Backoff()
        self._last_error = None
        self.failure = None
        self._become(State.COLD)

    def _become(self, state: State) -> None:
        if state is self.state:
            return
        states.check(self.state, state)
        self.state = state
        self._owner.instance_changed(self)

    async def _start(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if self.worker is not None and self.worker.exited.done():
            self.worker = None
        self.startups += 1
        specification = self._specification
        self.timeline = Timeline(specification.name, specification.version, self.startups)
        self._become(State.STARTING)
        try:
            await self._start_worker(self.timeline)
        except (StartupFailed, WorkerDied, StorageFailed) as error:
            self._observer.startup_ended(self.timeline, error)
            await self._startup_failed(error)
            raise
        except DomainError as error:
            # Not the pipeline's fault, so nothing is held against it.
            self._observer.startup_ended(self.timeline, error)
            await self._startup_abandoned(error)
            raise
        except Exception as error:
            reason = NurseryUnavailable(f"internal error of the daemon ({type(error).__name__})")
            self._observer.startup_ended(self.timeline, reason)
            await self._startup_abandoned(reason)
            raise reason from error
        except BaseException:
            await self._stop_worker()
            raise
        self.failure = None
        self._last_error = None
        self._first_run_is_due = True
        self._observer.startup_ended(self.timeline, None)
        self._become(State.WARM)
        self._owner.instance_ready(self)

    async def _start_worker(self, timeline: Timeline) -> None:
        def on_stage(stage: Stage) -> None:
            timeline.stages.append(stage)
            self._observer.stage_ended(timeline.deployment, stage)
            for listener in list(self._listeners):
                listener(stage)

        specification = self._specification
        environment = {**specification.environment, **specification.secrets}
        # A worker whose startup node failed is still there, and resumes at that node.
        if self.worker is None:
            self.worker = await self._launcher.launch(environment, timeline.zero, on_stage)
            self.worker.exited.add_done_callback(self._worker_exited)
        worker = self.worker
        timeline.worker_pid = worker.pid
        spec = StartSpec(
            deployment=specification.name,
            version=specification.version,
            code_path=self._code_path,
            code_size=specification.code.size,
            environment=environment,
            zero=timeline.zero,
            code_format=specification.code.format,
            target=specification.code.target,
            schema=specification.schema,
            topology=specification.code.topology,
            options=specification.options,
        )
        await worker.start(spec, on_stage)
        if worker.exited.done():
            raise WorkerDied.of(worker.exited.result())

    async def _startup_failed(self, error: StartupFailed | WorkerDied | StorageFailed) -> None:
        self._backoff.failed()
        self._last_error = error
        if isinstance(error, StartupFailed):
            self.failure = error.failure
            error.retry_after = self._backoff.remaining() or None
        elif isinstance(error, WorkerDied):
            self.failure = error.failure()
        else:
            self.failure = Failure(type(error).__name__, str(error))
        if not (isinstance(error, StartupFailed) and error.cause == "node"):
            await self._stop_worker()
        self._become(State.FAILED)
        self._owner.instance_failed(self, error)

    async def _startup_abandoned(self, error: DomainError) -> None:
        await self._stop_worker()
        self._become(State.COLD)
        self._owner.instance_failed(self, error)

    async def _stop_worker(self) -> None:
        worker = self.worker
        if worker is not None:
            await worker.stop(STOP_GRACE_SECONDS)
            # Only now: who is cancelled before leaves it for stop() to end.
            self.worker = None

    def _worker_exited(self, exited: asyncio.Future[Exit]) -> None:
        if self.worker is None or self.worker.exited is not exited or self.state is not State.WARM:
            return
        killed = self._killed is self.worker
        if not killed:
            self._observer.worker_died(self._specification, self.worker)
        self.worker = self._killed = None
        self._startup = None
        self._become(State.COLD)
        if killed:
            self.begin_startup()
            return
        self._backoff.failed()
        if self._backoff.failures < DEATHS_IN_A_ROW:
            self.begin_startup()
            return
        error = WorkerDied.of(exited.result())
        self._last_error = error
        self.failure = replace(
            error.failure(),
            message=f"{self._backoff.failures} workers in a row died without a run that ended "
            f"well; the last one was {exited.result().describe()}",
        )
        self._become(State.STARTING)
        self._become(State.FAILED)
        self._owner.instance_failed(self, error)
