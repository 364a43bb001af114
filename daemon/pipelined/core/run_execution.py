"""Carries out runs for callers that wait, and ends those of any kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from pipelined.core.current_run import current_run
from pipelined.core.deployment import Deployment
from pipelined.core.durable_runs import DurableRuns
from pipelined.core.errors import RunCancelled
from pipelined.core.files import StoredFile
from pipelined.core.ports import RunResult
from pipelined.core.run import Run
from pipelined.core.runs import Runs, detached


class RunExecution:
    """Brings runs to deployments and their ends to the registry. Belongs to one event loop.

    Args:
        runs: Remembers them.
        durable: Carries out those that were submitted.
    """

    def __init__(self, runs: Runs, durable: DurableRuns) -> None:
        self._runs = runs
        self._durable = durable

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
            RunCancelled: It was ended from outside.
            DomainError: As ``Deployment.run``.
        """
        with self._recorded(run):
            result = await deployment.run(
                run.id, request, seconds_left, files, lambda: self._runs.begun(run), run.place
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
                run.id,
                request,
                send,
                seconds_left,
                files,
                lambda: self._runs.begun(run),
                run.place,
            )
            # Unless what ended it was lost in ``send``.
            _check(run)
            self._runs.succeeded(run, result)

    async def cancel(self, run_id: str) -> Run:
        """End a run, unless it has ended; whoever waits for it is told, and so is its worker.

        Raises:
            RunNotFound: It is not remembered.
        """
        run = self._runs.get(run_id)
        if run.submitted:
            await self._durable.cancel(run)
        elif not run.ended.is_set():
            self._runs.cancelled(run, RunCancelled(run_id))
            if self._interrupt(run):
                # What the caller does next comes after what the worker has been told.
                await run.left.wait()
        return run

    @staticmethod
    def _interrupt(run: Run) -> bool:
        """Whether there was a wait to end."""
        interrupt, run.interrupt = run.interrupt, None
        if interrupt is None:
            return False
        interrupt()
        return True

    def _recorded(self, run: Run) -> _Recorded:
        return _Recorded(self._runs, run)


class _Recorded:
    """Takes note of how a run fails; one that has been ended from outside fails with that."""

    __slots__ = ("_run", "_runs", "_token")

    def __init__(self, runs: Runs, run: Run) -> None:
        self._runs = runs
        self._run = run

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        _check(self._run)
        self._run.interrupt = task.cancel
        self._token = current_run.set(self._run)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run = self._run
        try:
            if isinstance(error, asyncio.CancelledError):
                _check(run)
                self._runs.cancelled(run, RunCancelled(run.id, "its caller has gone"))
            elif isinstance(error, Exception):
                _check(run)
                self._runs.failed(run, error)
        finally:
            current_run.reset(self._token)
            run.interrupt = None
            run.left.set()


def _check(run: Run) -> None:
    """Raise what the run has been ended with, if it has."""
    if run.error is not None:
        raise detached(run.error) from None
