"""Carries out runs and remembers them, for callers that wait and for those that come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

from pipelined.core.current_run import current_run
from pipelined.core.deployment import Deployment
from pipelined.core.errors import DomainError, RunCancelled, RunTimedOut
from pipelined.core.files import StoredFile
from pipelined.core.ports import RunResult
from pipelined.core.runs import Run, Runs, detached


class RunExecution:
    """Brings runs to deployments and their ends to the registry. Belongs to one event loop.

    Args:
        runs: Remembers them.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._tasks: set[asyncio.Task[RunResult]] = set()

    async def run(
        self,
        run: Run,
        deployment: Deployment,
        request: bytes,
        seconds_left: float | None,
        files: Sequence[StoredFile],
    ) -> RunResult:
        """Carry out a run (see ``Deployment.run``) for a caller that waits.

        Raises:
            RunCancelled, RunTimedOut: It was ended from outside.
            DomainError: As ``Deployment.run``.
        """
        with self._recorded(run):
            result = await deployment.run(
                run.id, request, seconds_left, files, lambda: self._runs.begun(run)
            )
            self._runs.succeeded(run, result)
            return result

    async def stream(
        self,
        run: Run,
        deployment: Deployment,
        request: bytes,
        send: Callable[[bytes], Awaitable[None]],
        seconds_left: float | None,
        files: Sequence[StoredFile],
    ) -> None:
        """Carry out a run that streams (see ``Deployment.stream``).

        Raises:
            RunCancelled: It was ended from outside.
            DomainError: As ``Deployment.stream``, and what ``send`` raises.
        """
        with self._recorded(run):
            result = await deployment.stream(
                run.id, request, send, seconds_left, files, lambda: self._runs.begun(run)
            )
            # Unless what ended it was lost in ``send``.
            _check(run)
            self._runs.succeeded(run, result)

    async def submit(
        self,
        run: Run,
        deployment: Deployment,
        request: bytes,
        timeout: float | None,
        files: Sequence[StoredFile],
        held: contextlib.ExitStack,
    ) -> None:
        """Begin a run that goes on by itself.

        Args:
            run: It; forgotten if it is refused.
            deployment: What to run.
            request: Serialised.
            timeout: Seconds after which it fails; None if it may take any time.
            files: That the request refers to.
            held: Closed when it is over, or has been refused.

        Raises:
            QueueFull, StartupFailed, WorkerDied, DeploymentDeleted, ShuttingDown: It could not join
                the queue.
        """
        task = asyncio.create_task(
            self.run(run, deployment, request, timeout, files), name=f"run {run.id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: held.close())
        task.add_done_callback(_report)
        if timeout is not None:
            expired = asyncio.get_running_loop().call_later(timeout, self._expire, run, timeout)
            task.add_done_callback(lambda _: expired.cancel())
        # Tasks take their turns in order: when it is this one's again, the run has joined the queue
        # or has been refused.
        await asyncio.sleep(0)
        if task.done() and run.started_at is None and isinstance(run.error, DomainError):
            self._runs.discard(run)
            raise detached(run.error)

    async def cancel(self, run_id: str) -> Run:
        """End a run, unless it has ended; whoever waits for it is told, and so is its worker.

        Raises:
            RunNotFound: It is not remembered.
        """
        run = self._runs.get(run_id)
        if not run.ended.is_set():
            self._runs.cancelled(run, RunCancelled(run_id))
            if self._interrupt(run):
                # What the caller does next comes after what the worker has been told.
                await run.left.wait()
        return run

    def _expire(self, run: Run, timeout: float) -> None:
        if not run.ended.is_set():
            self._runs.failed(run, RunTimedOut(run.id, timeout))
            self._interrupt(run)

    @staticmethod
    def _interrupt(run: Run) -> bool:
        """Whether there was a wait to end."""
        interrupt, run.interrupt = run.interrupt, None
        if interrupt is None:
            return False
        interrupt()
        return True

    @contextlib.contextmanager
    def _recorded(self, run: Run) -> Iterator[None]:
        """Take note of how the run fails; one that has been ended from outside fails with that."""
        task = asyncio.current_task()
        assert task is not None
        _check(run)
        run.interrupt = task.cancel
        token = current_run.set(run)
        try:
            yield
        except asyncio.CancelledError:
            _check(run)
            self._runs.cancelled(run, RunCancelled(run.id, "its caller has gone"))
            raise
        except Exception as error:
            _check(run)
            self._runs.failed(run, error)
            raise
        finally:
            current_run.reset(token)
            run.interrupt = None
            run.left.set()


def _check(run: Run) -> None:
    """Raise what the run has been ended with, if it has."""
    if run.error is not None:
        raise detached(run.error) from None


def _report(task: asyncio.Task[RunResult]) -> None:
    """Take note of the error of a run that nobody waits for, and tell of a bug of ours."""
    if task.cancelled() or (error := task.exception()) is None or isinstance(error, DomainError):
        return
    task.get_loop().call_exception_handler(
        {"message": "a submitted run broke", "exception": error, "task": task}
    )
