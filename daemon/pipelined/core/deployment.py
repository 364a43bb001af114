"""One version of a deployment at work: its instances, and the runs that wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipelined.core.admission import Admission
from pipelined.core.errors import (
    DomainError,
    Failure,
    NurseryUnavailable,
    ShuttingDown,
    StartupFailed,
    StorageFailed,
    WorkerDied,
)
from pipelined.core.files import StoredFile
from pipelined.core.instance import DEATHS_IN_A_ROW, Instance
from pipelined.core.instances import Instances
from pipelined.core.observers import UNOBSERVED
from pipelined.core.ports import Observer, RunResult, RunStream, Worker, WorkerLauncher
from pipelined.core.run_queue import RunQueue, Waiting
from pipelined.core.run_times import Times
from pipelined.core.scaler import IDLE_SECONDS, Scaler
from pipelined.core.shared_limits import SharedLimits
from pipelined.core.specification import Specification
from pipelined.core.stages import Stage, Timeline
from pipelined.core.states import State
from pipelined.core.stopping import Life, Stopping

# Of fewer runs, or startups, than these nothing is concluded on what the next ones take.
ENOUGH_RUNS = 8
ENOUGH_STARTUPS = 2


class Deployment:
    """Runs a graph on its instances, one run at a time on each. Belongs to one event loop."""

    def __init__(
        self,
        specification: Specification,
        code_path: Path,
        launcher: WorkerLauncher,
        on_change: Callable[[Deployment], None],
        shared: SharedLimits | None = None,
        idle_seconds: float = IDLE_SECONDS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.specification = specification
        self.runs_succeeded = 0
        self.runs_failed = 0
        # Seconds since the epoch; 0 if nobody has asked for it, or it has been cooled since.
        self.last_used_at = 0.0
        self._on_change = on_change
        self.instances = Instances(
            Instance(specification, code_path, launcher, self, observer=observer)
            for _ in range(specification.options.max_instances)
        )
        self._shared = shared or SharedLimits()
        options = specification.options
        self._queue = RunQueue(
            self._shared.concurrent_runs, options.max_instances, options.concurrent_runs
        )
        # Until durable runs are not left waiting any more.
        self._holding: asyncio.TimerHandle | None = None
        self._run_times = Times(ENOUGH_RUNS)
        self._startup_times = Times(ENOUGH_STARTUPS)
        self._scaler = Scaler(
            self.instances,
            self._queue,
            options,
            self._run_times,
            self._startup_times,
            idle_seconds,
        )
        self._admission = Admission(
            specification, self.instances, self._queue, self._scaler, self._shared
        )
        self._stopping = Stopping(
            self.instances,
            self._queue,
            self._scaler,
            self._admission,
            lambda: on_change(self),
            self._resume_durable,
        )

    @property
    def state(self) -> State:
        """The best state that an instance is in."""
        if self._stopping.closed is not None or self._stopping.cooling:
            return State.DRAINING
        return self.instances.state

    @property
    def takes_runs(self) -> bool:
        """Whether a run sent now would be executed, be it after a startup."""
        return (
            self._stopping.closed is None
            and self.state is not State.FAILED
            and (self._queue.idle or self._queue.waiting < self._admission.length)
            and self._stopping.holds_more_up
        )

    @property
    def active_runs(self) -> int:
        """Runs that wait for an instance or are being executed."""
        return self._queue.active + self._stopping.held_up

    @property
    def stalled(self) -> bool:
        """Whether runs wait though nothing that they wait for will come: a bug in the daemon."""
        if not self._queue.callers or self._stopping.life.stopping:
            return False
        return self._queue.mismatched or not self.instances.coming

    @property
    def failure(self) -> Failure | None:
        """What the last startup failed with, in state FAILED."""
        return self.instances.failure if self.state is State.FAILED else None

    @property
    def timeline(self) -> Timeline | None:
        """Of the startup that was begun last."""
        return self.instances.timeline

    async def warm(
        self,
        on_stage: Callable[[Stage], None],
        seconds_left: float | None = None,
        *,
        speculative: bool = False,
    ) -> Timeline:
        """Start as many instances as there have to be, reporting stages as they end.

        Args:
            on_stage: Gets the stages.
            seconds_left: Until the caller's deadline; None without one.
            speculative: Nobody has asked for it: it does not count as used.

        Raises:
            StartupFailed, StorageFailed, WorkerDied, NurseryUnavailable: A startup failed.
            DeploymentCooled: It was cooled meanwhile.
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        await self._stopping.over()
        life = self._stopping.life
        if not speculative:
            self.last_used_at = time.time()
        chosen = self._scaler.chosen()
        startups = [instance.begin_startup(seconds_left) for instance in chosen]
        unsubscribe = [instance.listen(on_stage) for instance in chosen]
        try:
            for startup in startups:
                await self._joined(startup, life)
        finally:
            for stop in unsubscribe:
                stop()
        timeline = self.timeline
        assert timeline is not None  # each startup has set one
        return timeline

    def fail(self, error: StorageFailed) -> None:
        """Be FAILED with this until somebody asks for it: it cannot be started."""
        for instance in self.instances:
            instance.fail(error)

    def keep_minimum(self) -> None:
        """Begin to start as many instances as are to be kept; how it goes its state tells."""
        if self.specification.options.min_instances and self._stopping.closed is None:
            with suppress(DomainError):
                self._scaler.start(None, 0)

    async def _joined(self, startup: asyncio.Task[None], life: Life) -> None:
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
        place: float = 0.0,
    ) -> RunResult:
        """Execute the graph once, on the first instance that is free; starts a cold one.

        A caller that is cancelled while it waits leaves the queue. One that is cancelled while its
        run is executed is released at once, and the worker is told; the instance takes the next run
        when this one is over, and gets another worker if that is not soon. The files are those that
        the request refers to, held by the caller. ``on_begin`` is called when an instance has been
        found. The place is that in the queue, see ``run_queue.rank``.

        Raises:
            QueueFull, WaitingRunsTooLarge: Too many runs wait already.
            WaitTooLong: Its turn would come after the caller's deadline.
            StartupFailed, StorageFailed, WorkerDied, NurseryUnavailable: The instance could not be
                started.
            InvalidInput, RunFailed, OutputNotSendable, OutputTooLarge, WorkerDied: The run failed.
            DeploymentCooled: It was cooled, and the run did not end in time.
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        await self._stopping.over()
        instance = await self._claim(seconds_left, len(request), place)
        return await self.run_on(instance, run_id, request, files, on_begin)

    async def run_on(
        self,
        instance: Instance,
        run_id: str,
        request: bytes,
        files: Sequence[StoredFile] = (),
        on_begin: Callable[[], None] = lambda: None,
    ) -> RunResult:
        """Execute the graph once, as ``run`` does, on an instance that the caller was given.

        The instance is given back when the worker is done with the run.
        """
        life = self._stopping.life

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            on_begin()
            return worker.run(run_id, request, files)

        worker, future = self._begin(instance, begin)
        # Not the future itself: it is done when the worker is, also if nobody waits any more.
        answer: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        future.add_done_callback(partial(_pass_on, answer))
        try:
            return await answer
        except WorkerDied as death:
            raise life.cause(death) from None
        except asyncio.CancelledError:
            worker.cancel(run_id)
            self._kill_unless_over(instance, worker, future)
            raise

    async def stream(
        self,
        run_id: str,
        request: bytes,
        send: Callable[[bytes], Awaitable[None]],
        seconds_left: float | None = None,
        files: Sequence[StoredFile] = (),
        on_begin: Callable[[], None] = lambda: None,
        place: float = 0.0,
    ) -> RunResult:
        """Execute the graph once, as ``run`` does, and send its messages as they come.

        Returns the last one, too. What ``send`` does not take holds up the run. When it fails, or
        the caller is cancelled, the run is called back; the instance takes the next one when the
        worker has heeded that, or another worker has taken its place.

        Raises:
            As ``run``, after the messages before the failure, and what ``send`` raises.
        """
        await self._stopping.over()
        instance = await self._claim(seconds_left, len(request), place)
        life = self._stopping.life
        streams: list[RunStream] = []

        def begin(worker: Worker) -> asyncio.Future[RunResult]:
            on_begin()
            streams.append(worker.stream(run_id, request, files))
            return streams[0].ended

        worker, ended = self._begin(instance, begin)
        try:
            while (message := await streams[0].next()) is not None:
                await send(message)
            result = ended.result()
            await send(bytes(result.response))
            return result
        except WorkerDied as death:
            raise life.cause(death) from None
        finally:
            streams[0].cancel()
            self._kill_unless_over(instance, worker, ended)

    def reserve(self) -> None:
        """Take a place in the queue for a durable run, for ``enqueue`` or ``unreserve``.

        Raises:
            QueueFull: Too many runs wait already.
            DeploymentDeleted, ShuttingDown: It is being stopped.
        """
        self._stopping.check_open()
        if not self._queue.idle:
            self._admission.check_length()
        self._queue.reserve()

    def unreserve(self) -> None:
        """Give up a place that was taken."""
        self._queue.unreserve()

    def enqueue(self, waiting: Waiting) -> None:
        """Let a durable run wait for an instance, and see to it that there will be one.

        It outlasts a cooling, and is refused when a startup fails, or when the deployment goes.
        When the daemon stops nobody is told: it will be asked for again after the next start.
        """
        closed = self._stopping.closed
        if closed is not None:
            if not isinstance(closed, ShuttingDown):
                waiting.refuse(closed)
            return
        self.last_used_at = time.time()
        self._queue.add(waiting)
        self._start_for_durable()

    def hold_durable(self, seconds: float) -> None:
        """Leave durable runs waiting for so long from now at least."""
        self._queue.pause()
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._holding is None or self._holding.when() < until:
            if self._holding is not None:
                self._holding.cancel()
            self._holding = loop.call_at(until, self._resume_durable)

    def leave(self, waiting: Waiting) -> None:
        """Let a durable run wait no longer."""
        self._queue.remove(waiting)

    def give_back(self, instance: Instance) -> None:
        """Give back an instance on which nothing has been begun."""
        self._queue.give_back(instance)

    async def _claim(self, seconds_left: float | None, size: int, place: float) -> Instance:
        """Wait for a free instance; the size is that of what waits in memory."""
        self.last_used_at = time.time()
        if (instance := self._queue.take()) is not None:
            return instance
        try:
            self._admission.check_length()
            self._scaler.start(seconds_left, self._queue.waiting + 1)
            self._admission.check_deadline(seconds_left, place, self.state)
            with self._admission.room(size):
                return await self._queue.wait(place)
        except BaseException:
            self.runs_failed += 1
            raise

    def _begin(
        self, instance: Instance, begin: Callable[[Worker], asyncio.Future[RunResult]]
    ) -> tuple[Worker, asyncio.Future[RunResult]]:
        """Begin a run on an instance that was given out; the future is done when it is over."""
        worker = instance.worker
        try:
            if worker is None or instance.state is not State.WARM:
                # It was stopped, or died, after it was handed over.
                reason = self._stopping.life.reason
                if reason is None:
                    raise NurseryUnavailable("the worker ended before the run began")
                raise reason.with_traceback(None)
            future = begin(worker)
        except BaseException:
            self.runs_failed += 1
            self._queue.give_back(instance)
            raise
        started = time.monotonic()
        future.add_done_callback(lambda done: self._run_done(instance, started, done))
        return worker, future

    def _kill_unless_over(
        self, instance: Instance, worker: Worker, run: asyncio.Future[RunResult]
    ) -> None:
        """Have a worker that was told to end a run replaced, unless it heeds that soon."""
        if run.done():
            return
        grace = self._shared.limits.kill_grace_seconds
        kill = asyncio.get_running_loop().call_later(grace, instance.kill, worker)
        run.add_done_callback(lambda _: kill.cancel())

    async def drain(self, reason: DomainError, grace_seconds: float) -> None:
        """Refuse new runs with the reason, let those in progress end, then stop the workers.

        Runs that still wait or are executed when the grace period is over fail with it, too, or
        with that of a cooling that began before. Durable runs that wait are left alone if the
        daemon stops.
        """
        await self._stopping.drain(reason, grace_seconds)

    def begin_cooling(self, reason: DomainError, grace_seconds: float) -> asyncio.Task[None]:
        """Let runs in progress end, then stop the workers; or join the cooling in progress.

        Runs that still wait or are executed when the grace period is over fail with the reason, and
        so do callers of ``warm`` whose startup no run needs. What comes meanwhile waits until the
        workers are stopped, and starts them again. The task never fails; wait for it shielded.

        Raises:
            DeploymentDeleted, ShuttingDown: It is being stopped for good.
        """
        return self._stopping.begin_cooling(reason, grace_seconds)

    def instance_changed(self, instance: Instance) -> None:
        """See InstanceOwner."""
        if instance.state is not State.WARM:
            self._queue.withdraw(instance)
        self._on_change(self)

    def instance_ready(self, instance: Instance) -> None:
        """See InstanceOwner: hands the instance to whoever is the next."""
        if instance.timeline is not None:
            self._startup_times.add(time.monotonic() - instance.timeline.zero)
        self._queue.give(instance)
        self._scaler.freed(instance)

    def instance_failed(self, instance: Instance, error: DomainError) -> None:
        """See InstanceOwner: unless another instance can serve them, those who wait are told."""
        if self.state in (State.WARM, State.STARTING):
            return
        self._queue.refuse_callers(error)
        its_code = isinstance(error, WorkerDied) and instance.failures_in_a_row >= DEATHS_IN_A_ROW
        if its_code or isinstance(error, StartupFailed):
            self._queue.refuse_durable(error)
            return
        # Nothing says that the code is to blame.
        delay = error.retry_after if isinstance(error, NurseryUnavailable) else 0.0
        asyncio.get_running_loop().call_later(delay, self._start_again)

    def _resume_durable(self) -> None:
        if self._stopping.closed is None and not self._stopping.cooling:
            self._queue.resume()
            self._start_for_durable()

    def _start_for_durable(self) -> None:
        """Start instances for durable runs that wait, unless the workers are being stopped."""
        if self._queue.durable and not self._queue.paused and self._stopping.closed is None:
            self._scaler.start(None, self._queue.waiting)

    def _start_again(self) -> None:
        """Start what durable runs wait for, or what is to be kept."""
        if not self._stopping.cooling and not self._stopping.life.stopping:
            self.keep_minimum()
            self._start_for_durable()

    def _run_done(
        self, instance: Instance, started: float, done: asyncio.Future[RunResult]
    ) -> None:
        ended = time.monotonic()
        error = done.exception()
        instance.run_ended(started, ended, well=not isinstance(error, WorkerDied))
        self._run_times.add(ended - started)
        if error is None:
            self.runs_succeeded += 1
        else:
            self.runs_failed += 1
        self._queue.give_back(instance)
        self._scaler.freed(instance)


def _pass_on(answer: asyncio.Future[RunResult], done: asyncio.Future[RunResult]) -> None:
    """Answer whoever still waits."""
    if answer.done():
        return
    if done.cancelled():
        answer.cancel()
    elif (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
