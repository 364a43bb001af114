"""One version of a deployment at work: its instances, and the runs that wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelined.core.errors import (
    DomainError,
    Failure,
    QueueFull,
    ShuttingDown,
    WorkerDied,
)
from pipelined.core.files import StoredFile
from pipelined.core.free_instances import FreeInstances
from pipelined.core.instance import Instance
from pipelined.core.ports import RunResult, RunStream, Worker, WorkerLauncher
from pipelined.core.specification import Specification
from pipelined.core.stages import Stage, Timeline
from pipelined.core.states import State

# Runs that may wait for one deployment, before more are refused.
QUEUE_LIMIT = 1000
# Weight of the newest run in the moving average of run times.
RUN_TIME_WEIGHT = 0.2

# The state of the whole is the first of these that some instance is in.
_PRECEDENCE = (State.WARM, State.STARTING, State.ASLEEP, State.FAILED, State.COLD)


@dataclass(slots=True)
class _Life:
    """From one time that all workers are stopped to the next.

    Attributes:
        reason: Why they are to be stopped, once that is known.
        stopping: They are being stopped: that one dies now is no news.
    """

    reason: DomainError | None = None
    stopping: bool = False


class Deployment:
    """Runs a graph on its instances, one run at a time on each. Belongs to one event loop."""

    def __init__(
        self,
        specification: Specification,
        code_path: Path,
        launcher: WorkerLauncher,
        on_change: Callable[[Deployment], None],
    ) -> None:
        self.specification = specification
        self.runs_succeeded = 0
        self.runs_failed = 0
        self._on_change = on_change
        self._instances = [
            Instance(specification, code_path, launcher, self)
            for _ in range(specification.options.max_instances)
        ]
        self._free = FreeInstances()
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed: DomainError | None = None
        self._life = _Life()
        self._cooling: asyncio.Task[None] | None = None
        # Runs that came while the workers were being stopped.
        self._held_up = 0
        self._mean_seconds = 0.0

    @property
    def state(self) -> State:
        """The best state that an instance is in."""
        if self._closed is not None or self._cooling is not None:
            return State.DRAINING
        present = {instance.state for instance in self._instances}
        return next((state for state in _PRECEDENCE if state in present), State.COLD)

    @property
    def takes_runs(self) -> bool:
        """Whether a run sent now would be executed, be it after a startup."""
        return self._closed is None and self.state is not State.FAILED

    @property
    def failure(self) -> Failure | None:
        """What the last startup failed with, in state FAILED."""
        if self.state is not State.FAILED:
            return None
        return next((i.failure for i in self._instances if i.failure is not None), None)

    @property
    def timeline(self) -> Timeline | None:
        """Of the startup that was begun last."""
        timelines = [i.timeline for i in self._instances if i.timeline is not None]
        return max(timelines, key=lambda timeline: timeline.zero, default=None)

    @property
    def worker_pids(self) -> list[int]:
        """Of the live workers."""
        return [
            instance.worker.pid
            for instance in self._instances
            if instance.worker is not None and not instance.worker.exited.done()
        ]

    @property
    def startups(self) -> int:
        """Startups begun in the life of the daemon."""
        return sum(instance.startups for instance in self._instances)

    async def warm(
        self, on_stage: Callable[[Stage], None], seconds_left: float | None = None
    ) -> Timeline:
        """Start every instance that is not warm, reporting stages as they end.

        Raises:
            StartupFailed, WorkerDied, NurseryUnavailable: A startup failed.
            DeploymentCooled: It was cooled meanwhile.
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        life = await self._admitted()
        startups = [instance.begin_startup(seconds_left) for instance in self._instances]
        unsubscribe = [instance.listen(on_stage) for instance in self._instances]
        try:
            for startup in startups:
                await self._joined(startup, life)
        finally:
            for stop in unsubscribe:
                stop()
        timeline = self.timeline
        assert timeline is not None  # each startup has set one
        return timeline

    async def _joined(self, startup: asyncio.Task[None], life: _Life) -> None:
        try:
            await asyncio.shield(startup)
        except asyncio.CancelledError:
            # Cancelled is either the caller, or the startup by stop(): that one is an error.
            if startup.cancelled() and life.reason is not None:
                raise life.reason.with_traceback(None) from None
            raise

    async def run(
        self,
        run_id: str,
        request: bytes,
        seconds_left: float | None = None,
        files: Sequence[StoredFile] = (),
        on_begin: Callable[[], None] = lambda: None,
    ) -> RunResult:
        """Execute the graph once, on the first instance that is free; starts a cold one.

        A caller that is cancelled while it waits leaves the queue. One that is cancelled while its
        run is executed is released at once, and the worker is told; the instance takes the next run
        when this one is over. The files are those that the request refers to, held by the caller.
        ``on_begin`` is called when an instance has been found.

        Raises:
            QueueFull: Too many runs wait already.
            StartupFailed, WorkerDied, NurseryUnavailable: The instance could not be started.
            InvalidInput, RunFailed, OutputNotSendable, OutputTooLarge, WorkerDied: The run failed.
            DeploymentCooled: It was cooled, and the run did not end in time.
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        life = await self._admitted()
        workers: list[Worker] = []

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            workers.append(worker)
            on_begin()
            return worker.run(run_id, request, files)

        future = await self._begun(begin, seconds_left)
        try:
            with self._deaths_told(life):
                return await asyncio.shield(future)
        except asyncio.CancelledError:
            workers[0].cancel(run_id)
            raise

    async def stream(
        self,
        run_id: str,
        request: bytes,
        send: Callable[[bytes], Awaitable[None]],
        seconds_left: float | None = None,
        files: Sequence[StoredFile] = (),
        on_begin: Callable[[], None] = lambda: None,
    ) -> RunResult:
        """Execute the graph once, as ``run`` does, and send its messages as they come.

        Returns the last one, too. What ``send`` does not take holds up the run. When it fails, or
        the caller is cancelled, the run is called back; the instance takes the next one when the
        worker has heeded that.

        Raises:
            As ``run``, after the messages before the failure, and what ``send`` raises.
        """
        life = await self._admitted()
        streams: list[RunStream] = []

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            on_begin()
            streams.append(worker.stream(run_id, request, files))
            return streams[0].ended

        try:
            ended = await self._begun(begin, seconds_left)
            with self._deaths_told(life):
                while (message := await streams[0].next()) is not None:
                    await send(message)
                result = ended.result()
            await send(bytes(result.response))
            return result
        finally:
            for stream in streams:
                stream.cancel()

    async def _admitted(self) -> _Life:
        """Wait until no workers are being stopped that may be started again afterwards."""
        while self._cooling is not None and self._closed is None:
            if self._held_up >= QUEUE_LIMIT:
                raise self._queue_full(self._held_up)
            self._held_up += 1
            try:
                await asyncio.wait({self._cooling})
            finally:
                self._held_up -= 1
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        return self._life

    async def _begun(
        self,
        begin: Callable[[Worker], asyncio.Future[RunResult]],
        seconds_left: float | None,
    ) -> asyncio.Future[RunResult]:
        """Wait for a free instance and begin a run on it; returns what is done when it is over."""
        self._active += 1
        self._quiet.clear()
        try:
            instance = await self._claim(seconds_left)
            future = self._begin(instance, begin)
        except BaseException as error:
            self._run_over(error)
            raise
        started = time.monotonic()
        future.add_done_callback(lambda done: self._run_done(instance, started, done))
        return future

    @contextmanager
    def _deaths_told(self, life: _Life) -> Iterator[None]:
        try:
            yield
        except WorkerDied:
            if life.stopping and life.reason is not None:
                # By our hand, so that is no news; why it was is.
                raise life.reason.with_traceback(None) from None
            raise

    async def drain(self, reason: DomainError, grace_seconds: float) -> None:
        """Refuse new runs with the reason, let those in progress end, then stop the workers.

        Runs that still wait or are executed when the grace period is over fail with it, too, or
        with that of a cooling that began before.
        """
        if self._closed is None:
            self._closed = reason
            self._on_change(self)
        await self._stop_workers(reason, grace_seconds)
        if self._cooling is not None:
            await asyncio.wait({self._cooling})

    def begin_cooling(self, reason: DomainError, grace_seconds: float) -> asyncio.Task[None]:
        """Let runs in progress end, then stop the workers; or join the cooling in progress.

        Runs that still wait or are executed when the grace period is over fail with the reason, and
        so do callers of ``warm`` whose startup no run needs. What comes meanwhile waits until the
        workers are stopped, and starts them again. The task never fails; wait for it shielded.

        Raises:
            DeploymentDeleted, ShuttingDown: It is being stopped for good.
        """
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        if self._cooling is None:
            self._cooling = asyncio.create_task(self._cool(reason, grace_seconds), name="cooling")
            self._on_change(self)
        return self._cooling

    async def _cool(self, reason: DomainError, grace_seconds: float) -> None:
        try:
            await self._stop_workers(reason, grace_seconds)
        finally:
            self._life = _Life()
            self._cooling = None
            self._on_change(self)

    async def _stop_workers(self, reason: DomainError, grace_seconds: float) -> None:
        life = self._life
        if life.reason is None:
            life.reason = reason
        try:
            await asyncio.wait_for(self._quiet.wait(), grace_seconds)
        except asyncio.TimeoutError:
            self._free.fail_waiting(life.reason)
        life.stopping = True
        await asyncio.gather(*(instance.stop() for instance in self._instances))

    def instance_changed(self, instance: Instance) -> None:
        """See InstanceOwner."""
        if instance.state is not State.WARM:
            self._free.withdraw(instance)
        self._on_change(self)

    def instance_ready(self, instance: Instance) -> None:
        """See InstanceOwner: hands the instance to whoever waits longest."""
        self._free.give(instance)

    def instance_failed(self, instance: Instance, error: DomainError) -> None:
        """See InstanceOwner: unless another instance can serve them, those who wait are told."""
        if self.state not in (State.WARM, State.STARTING):
            self._free.fail_waiting(error)

    def _begin(
        self, instance: Instance, begin: Callable[[Worker], asyncio.Future[RunResult]]
    ) -> asyncio.Future[RunResult]:
        worker = instance.worker
        if worker is None or instance.state is State.DRAINING:
            # It was stopped in the turn of the loop in which it was handed over.
            reason = self._life.reason
            raise ShuttingDown() if reason is None else reason.with_traceback(None)
        try:
            return begin(worker)
        except BaseException:
            self._free.give_back(instance)
            raise

    async def _claim(self, seconds_left: float | None) -> Instance:
        if (instance := self._free.take()) is not None:
            return instance
        if self._free.waiting >= QUEUE_LIMIT:
            raise self._queue_full(self._free.waiting)
        self._start_more(seconds_left)
        return await self._free.wait()

    def _queue_full(self, waiting: int) -> QueueFull:
        wait = self._mean_seconds * waiting / len(self._instances)
        return QueueFull(self.specification.name, QUEUE_LIMIT, max(1.0, wait))

    def _start_more(self, seconds_left: float | None) -> None:
        """Start the instances that are not warm; fails only if none is left to wait for."""
        refusal: DomainError | None = None
        startable = 0
        for instance in self._instances:
            if instance.state is State.WARM:
                startable += 1
                continue
            try:
                instance.begin_startup(seconds_left)
                startable += 1
            except DomainError as error:
                refusal = error
        if refusal is not None and startable == 0:
            raise refusal

    def _run_done(
        self, instance: Instance, started: float, done: asyncio.Future[RunResult]
    ) -> None:
        ended = time.monotonic()
        error = done.exception()
        instance.run_ended(started, ended, well=not isinstance(error, WorkerDied))
        self._mean_seconds += RUN_TIME_WEIGHT * (ended - started - self._mean_seconds)
        self._run_over(error)
        self._free.give_back(instance)

    def _run_over(self, error: BaseException | None) -> None:
        if error is None:
            self.runs_succeeded += 1
        else:
            self.runs_failed += 1
        self._active -= 1
        if self._active == 0:
            self._quiet.set()
