"""One version of a deployment at work: its instances, and the runs that wait for them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelined.core.errors import (
    DomainError,
    Failure,
    QueueFull,
    ShuttingDown,
    WorkerDied,
)
from pipelined.core.files import StoredFile
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
            for _ in range(specification.instances)
        ]
        self._idle: deque[Instance] = deque()
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed: DomainError | None = None
        # The workers are being stopped.
        self._stopping = False
        self._mean_seconds = 0.0

    @property
    def state(self) -> State:
        """The best state that an instance is in."""
        if self._closed is not None:
            return State.DRAINING
        present = {instance.state for instance in self._instances}
        return next((state for state in _PRECEDENCE if state in present), State.COLD)

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
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        if self._closed is not None:
            raise self._closed.with_traceback(None)
        startups = [instance.begin_startup(seconds_left) for instance in self._instances]
        unsubscribe = [instance.listen(on_stage) for instance in self._instances]
        try:
            for startup in startups:
                await self._joined(startup)
        finally:
            for stop in unsubscribe:
                stop()
        timeline = self.timeline
        assert timeline is not None  # each startup has set one
        return timeline

    async def _joined(self, startup: asyncio.Task[None]) -> None:
        try:
            await asyncio.shield(startup)
        except asyncio.CancelledError:
            # Cancelled is either the caller, or the startup by stop(): that one is an error.
            if startup.cancelled() and self._closed is not None:
                raise self._closed.with_traceback(None) from None
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
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        workers: list[Worker] = []

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            workers.append(worker)
            on_begin()
            return worker.run(run_id, request, files)

        future = await self._begun(begin, seconds_left)
        try:
            with self._deaths_told():
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
        streams: list[RunStream] = []

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            on_begin()
            streams.append(worker.stream(run_id, request, files))
            return streams[0].ended

        try:
            ended = await self._begun(begin, seconds_left)
            with self._deaths_told():
                while (message := await streams[0].next()) is not None:
                    await send(message)
                result = ended.result()
            await send(bytes(result.response))
            return result
        finally:
            for stream in streams:
                stream.cancel()

    async def _begun(
        self,
        begin: Callable[[Worker], asyncio.Future[RunResult]],
        seconds_left: float | None,
    ) -> asyncio.Future[RunResult]:
        """Wait for a free instance and begin a run on it; returns what is done when it is over."""
        if self._closed is not None:
            raise self._closed.with_traceback(None)
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
    def _deaths_told(self) -> Iterator[None]:
        try:
            yield
        except WorkerDied:
            if self._stopping:
                # By our hand, so that is no news; why it was is.
                raise self._refusal() from None
            raise

    async def drain(self, reason: DomainError, grace_seconds: float) -> None:
        """Refuse new runs with the reason, let those in progress end, then stop the workers.

        Runs that still wait or are executed when the grace period is over fail with it, too.
        """
        if self._closed is None:
            self._closed = reason
            self._on_change(self)
        try:
            await asyncio.wait_for(self._quiet.wait(), grace_seconds)
        except asyncio.TimeoutError:
            self._fail_waiting(reason)
        self._stopping = True
        await asyncio.gather(*(instance.stop() for instance in self._instances))

    def instance_changed(self, instance: Instance) -> None:
        """See InstanceOwner."""
        if instance.state is not State.WARM and instance in self._idle:
            self._idle.remove(instance)
        self._on_change(self)

    def instance_ready(self, instance: Instance) -> None:
        """See InstanceOwner: hands the instance to whoever waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(instance)
                return
        self._idle.append(instance)

    def instance_failed(self, instance: Instance, error: DomainError) -> None:
        """See InstanceOwner: unless another instance can serve them, those who wait are told."""
        if self.state not in (State.WARM, State.STARTING):
            self._fail_waiting(error)

    def _begin(
        self, instance: Instance, begin: Callable[[Worker], asyncio.Future[RunResult]]
    ) -> asyncio.Future[RunResult]:
        worker = instance.worker
        if worker is None:
            # It was stopped in the turn of the loop in which it was handed over.
            raise self._refusal()
        try:
            return begin(worker)
        except BaseException:
            self._pass_on(instance)
            raise

    def _refusal(self) -> DomainError:
        return ShuttingDown() if self._closed is None else self._closed.with_traceback(None)

    async def _claim(self, seconds_left: float | None) -> Instance:
        if self._idle:
            return self._idle.popleft()
        if len(self._waiting) >= QUEUE_LIMIT:
            wait = self._mean_seconds * len(self._waiting) / len(self._instances)
            raise QueueFull(self.specification.name, QUEUE_LIMIT, max(1.0, wait))
        self._start_more(seconds_left)
        waiter: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                # It does not count as one that waits any more.
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                # The instance was handed over in the same turn of the loop: pass it on.
                self._pass_on(waiter.result())
            raise

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

    def _pass_on(self, instance: Instance) -> None:
        worker = instance.worker
        if instance.state is State.WARM and worker is not None and not worker.exited.done():
            self.instance_ready(instance)

    def _run_done(
        self, instance: Instance, started: float, done: asyncio.Future[RunResult]
    ) -> None:
        ended = time.monotonic()
        error = done.exception()
        instance.run_ended(started, ended, well=not isinstance(error, WorkerDied))
        self._mean_seconds += RUN_TIME_WEIGHT * (ended - started - self._mean_seconds)
        self._run_over(error)
        self._pass_on(instance)

    def _run_over(self, error: BaseException | None) -> None:
        if error is None:
            self.runs_succeeded += 1
        else:
            self.runs_failed += 1
        self._active -= 1
        if self._active == 0:
            self._quiet.set()

    def _fail_waiting(self, error: DomainError) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)
