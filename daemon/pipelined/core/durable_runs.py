"""Submitted runs: accepted once they are on disk, and brought to exactly one end, whatever happens.

What is on disk after each step, and what the next start makes of a crash before the following one::

    asked for                      nothing      never accepted; nobody was told that it was
    written, then accepted         QUEUED       queued again, at its place
    given to an instance           QUEUED       the same
    written, then sent to its      RUNNING, n   at most once: FAILED, RUN_INTERRUPTED
    worker for the n-th time                    at least once: queued again if n < ATTEMPTS, else
                                                FAILED, RUN_INTERRUPTED
    answered by the worker         RUNNING, n   the same: nobody was told of the answer
    written, then told             its end      ended, and stays as it is

Nobody is told of an end before it is on disk, and in the store a run that has ended does not end
again. Requests are read when their turn comes: of those that wait only the rows are in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence

from pipelined.core.current_run import current_run
from pipelined.core.deployment import Deployment
from pipelined.core.errors import (
    DeploymentCooled,
    DeploymentDeleted,
    DeploymentNotFound,
    DomainError,
    FileMissing,
    NurseryUnavailable,
    RunCancelled,
    RunInterrupted,
    RunTimedOut,
    ShuttingDown,
    StorageFailed,
    VersionNotFound,
    WorkerDied,
)
from pipelined.core.files import FileStore, StoredFile
from pipelined.core.instance import Instance
from pipelined.core.pending_runs import Claim, Pending
from pipelined.core.ports import RunResult, RunStore
from pipelined.core.run import Delivery, Run, RunState
from pipelined.core.run_ends import RunEnds
from pipelined.core.run_queue import Waiting
from pipelined.core.runs import RunLimits, Runs
from pipelined.core.shared_limits import WaitingBytes
from pipelined.core.stored_runs import stored
from pipelined.core.versions import Catalogue

# How often a run is executed whose process does not survive that.
ATTEMPTS = 3
# Until durable runs are begun again, when the disk took nothing.
HOLD_SECONDS = 5.0
# For what is being written when the daemon stops.
CLOSE_SECONDS = 5.0
# What a refused caller waits at least: that so many bytes are executed cannot be foretold.
_RETRY_AFTER_SECONDS = 1.0

_NOT_ITS_FAULT = (WorkerDied, DeploymentCooled, DeploymentDeleted, ShuttingDown, NurseryUnavailable)


class DurableRuns:
    """Carries out submitted runs. Belongs to one event loop.

    Args:
        runs: Remembers them.
        store: Keeps them.
        deployments: What there is to run.
        files: What they may refer to.
        limits: What may be kept.
        clock: That of ``runs``.
        told: How an error is told to the caller of a run with this id: a serialised status.
    """

    def __init__(
        self,
        runs: Runs,
        store: RunStore,
        deployments: Catalogue,
        files: FileStore,
        limits: RunLimits,
        clock: Callable[[], float],
        told: Callable[[Exception, str], bytes],
    ) -> None:
        self._runs = runs
        self._store = store
        self._deployments = deployments
        self._files = files
        self._clock = clock
        self._ends = RunEnds(runs, store, clock, told)
        self._bytes = WaitingBytes(limits.pending_bytes)
        self._pending: dict[str, Pending] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def limit(self, limits: RunLimits) -> None:
        """Accept by these limits from now on."""
        self._bytes.limit = limits.pending_bytes

    async def recover(self) -> int:
        """Bring back the runs of earlier daemons; returns how many had not ended.

        Raises:
            StorageFailed: They cannot be read.
        """
        kept = await self._store.runs()
        sizes = {each.id: each.request_bytes for each in kept}
        pending = [run for run in self._runs.restore(kept) if not run.has_ended]
        for run in sorted(pending, key=lambda run: run.place):
            self._recover(run, sizes[run.id])
        return len(pending)

    async def submit(
        self,
        run: Run,
        deployment: Deployment,
        request: bytes,
        files: Sequence[StoredFile],
        held: contextlib.ExitStack,
    ) -> None:
        """Accept a run: it is on disk when this returns.

        Args:
            run: It; forgotten if it is refused.
            deployment: What to run.
            request: Serialised.
            files: That the request refers to.
            held: Closed when it is over, or has been refused.

        Raises:
            QueueFull, WaitingRunsTooLarge: There is no room for it.
            DeploymentDeleted, ShuttingDown: The deployment is being stopped.
            StorageFailed: It cannot be written.
        """
        pending = Pending(run, deployment, len(request), held, files)
        try:
            deployment.reserve()
            try:
                self._bytes.take(len(request), _RETRY_AFTER_SECONDS)
            except DomainError:
                deployment.unreserve()
                raise
        except DomainError:
            held.close()
            self._runs.discard(run)
            raise
        self._pending[run.id] = pending
        # To its end, also if the caller leaves: it may be on disk by then.
        pending.accepted = self._task(self._accept(pending, request), f"accept run {run.id}")
        await self.accepted(run)

    async def accepted(self, run: Run) -> None:
        """Wait until a run is on disk, if it is not yet.

        Raises:
            StorageFailed: It cannot be written.
        """
        pending = self._pending.get(run.id)
        if pending is not None and pending.accepted is not None:
            await asyncio.shield(pending.accepted)

    async def cancel(self, run: Run) -> None:
        """End a run, unless it has ended."""
        if (pending := self._pending.get(run.id)) is not None:
            await self.accepted(run)
            await self._interrupt(pending, RunCancelled(run.id))

    async def response(self, run: Run) -> bytes | None:
        """The outputs of a run, as long as they are kept.

        Raises:
            StorageFailed: They cannot be read.
        """
        return None if run.response_bytes is None else await self._store.response(run.id)

    async def close(self) -> None:
        """Let what is being written end, and leave the rest to the next daemon."""
        for pending in self._pending.values():
            if pending.expiry is not None:
                pending.expiry.cancel()
            if pending.attempt is not None and not pending.ending:
                pending.attempt.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _recover(self, run: Run, request_bytes: int) -> None:
        held = contextlib.ExitStack()
        error: DomainError | None = None
        files: list[StoredFile] = []
        try:
            deployment = self._deployments.get(f"{run.deployment}:v{run.version}")
        except (DeploymentNotFound, VersionNotFound):
            self._end_at_start(run, DeploymentDeleted(run.deployment, version=run.version))
            return
        try:
            files.extend(
                held.enter_context(self._files.hold(sha256, expired_too=True))
                for sha256 in run.files
            )
        except FileMissing as missing:
            error = missing
        if run.state is RunState.RUNNING:
            if run.delivery is Delivery.AT_MOST_ONCE or run.attempts >= ATTEMPTS:
                error = RunInterrupted(run.id, run.attempts)
            self._runs.queued_again(run)
        if error is not None:
            held.close()
            self._end_at_start(run, error)
            return
        pending = Pending(run, deployment, request_bytes, held, files)
        self._bytes.force(request_bytes)
        self._pending[run.id] = pending
        self._wait(pending)
        self._watch(pending)

    def _end_at_start(self, run: Run, error: DomainError) -> None:
        self._task(self._ends.write(run, error, None), f"end run {run.id}")

    async def _accept(self, pending: Pending, request: bytes) -> None:
        run = pending.run
        try:
            await self._store.add(stored(run), request)
        except BaseException:
            pending.deployment.unreserve()
            self._drop(pending)
            self._runs.discard(run)
            raise
        pending.accepted = None
        pending.deployment.unreserve()
        self._wait(pending)
        self._watch(pending)

    def _watch(self, pending: Pending) -> None:
        """End the run when its time is over."""
        run = pending.run
        if run.timeout is not None:
            left = run.created_at + run.timeout - self._clock()
            error = RunTimedOut(run.id, run.timeout)
            pending.expiry = asyncio.get_running_loop().call_later(
                max(0.0, left), self._expire, pending, error
            )

    def _expire(self, pending: Pending, error: RunTimedOut) -> None:
        self._task(self._interrupt(pending, error), f"expire run {pending.run.id}")

    def _wait(self, pending: Pending) -> None:
        """Let it wait for an instance."""

        def grant(instance: Instance) -> None:
            claim = Claim(pending.deployment, instance)
            attempt = self._task(self._execute(pending, claim), f"run {pending.run.id}")
            # One that is cancelled before its first step never takes it.
            attempt.add_done_callback(lambda _: claim.release())
            pending.attempt = attempt

        def refuse(error: DomainError) -> None:
            self._task(self._end(pending, error, None), f"refuse run {pending.run.id}")

        pending.waiting = Waiting(pending.run.place, grant, refuse)
        pending.deployment.enqueue(pending.waiting)

    async def _execute(self, pending: Pending, claim: Claim) -> None:
        """One attempt, on an instance that it was given."""
        run, deployment = pending.run, pending.deployment
        # Of this task, which is made where another run has given its instance back.
        current_run.set(run)
        now = self._clock()

        def begun() -> None:
            claim.begun = True
            self._runs.begun(run, at=now)

        try:
            request = await self._store.begin(run.id, run.attempts + 1, now)
        except StorageFailed:
            # It stays queued, and so do the others: nothing is executed that is not noted.
            claim.release()
            deployment.hold_durable(HOLD_SECONDS)
            self._wait(pending)
            return
        if request is None:
            claim.release()
            await self._end(pending, StorageFailed("read the request", "it is not there"), None)
            return
        try:
            result = await deployment.run_on(claim.use(), run.id, request, pending.files, begun)
        except DomainError as error:
            await self._failed(pending, error, begun=claim.begun)
        except Exception as error:
            await self._end(pending, error, None)
            raise
        else:
            await self._end(pending, None, result)

    async def _failed(self, pending: Pending, error: DomainError, *, begun: bool) -> None:
        run = pending.run
        again = not begun or (run.delivery is Delivery.AT_LEAST_ONCE and run.attempts < ATTEMPTS)
        if again and isinstance(error, _NOT_ITS_FAULT) and not pending.ending:
            self._runs.queued_again(run)
            self._wait(pending)
        elif isinstance(error, ShuttingDown):
            await self._end(pending, RunInterrupted(run.id, run.attempts), None)
        else:
            await self._end(pending, error, None)

    async def _interrupt(self, pending: Pending, error: DomainError) -> None:
        """End it from outside."""
        run = pending.run
        if pending.ending:
            await run.ended.wait()
            return
        attempt, pending.attempt = pending.attempt, None
        if pending.waiting is not None:
            pending.deployment.leave(pending.waiting)
        if attempt is not None:
            attempt.cancel()
        await self._end(pending, error, None)

    async def _end(
        self, pending: Pending, error: Exception | None, result: RunResult | None
    ) -> None:
        """Write an end, unless there is one."""
        if pending.ending:
            return
        pending.ending = True
        # To its end, also if what has brought it about is cancelled.
        written = self._ends.write(
            pending.run,
            error,
            result,
            on_written=lambda: self._drop(pending),
            # Answers that the disk does not take stay in memory: no more of them.
            on_refused=lambda delay: pending.deployment.hold_durable(2 * delay),
        )
        task = self._task(written, "end of run")
        await asyncio.shield(task)

    def _drop(self, pending: Pending) -> None:
        del self._pending[pending.run.id]
        self._bytes.give_back(pending.request_bytes)
        pending.held.close()
        if pending.expiry is not None:
            pending.expiry.cancel()

    def _task(self, coroutine: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, DomainError):
            task.get_loop().call_exception_handler(
                {"message": "a submitted run broke", "exception": error, "task": task}
            )
