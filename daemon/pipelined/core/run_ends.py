"""Writes the ends of submitted runs, and tells of each when it is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipelined.core.errors import RunCancelled, StorageFailed
from pipelined.core.ports import RunResult, RunStore
from pipelined.core.run import Run, RunState
from pipelined.core.runs import Runs
from pipelined.core.stored_runs import stored

# Between tries to write, while the disk takes nothing.
RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0


class RunEnds:
    """Belongs to one event loop.

    Args:
        runs: Is told of the ends.
        store: Keeps them.
        clock: That of ``runs``.
        told: How an error is told to the caller of a run with this id: a serialised status.
    """

    def __init__(
        self,
        runs: Runs,
        store: RunStore,
        clock: Callable[[], float],
        told: Callable[[Exception, str], bytes],
    ) -> None:
        self._runs = runs
        self._store = store
        self._clock = clock
        self._told = told

    async def write(
        self,
        run: Run,
        error: Exception | None,
        result: RunResult | None,
        on_written: Callable[[], None] = lambda: None,
        on_refused: Callable[[float], None] = lambda delay: None,
    ) -> None:
        """Write an end, however long the disk takes nothing, then tell of it.

        Args:
            run: What has ended.
            error: Why it did not succeed.
            result: What it gave, if it succeeded.
            on_written: Called before anybody is told.
            on_refused: Called when the disk takes nothing, with the seconds until the next try.
        """
        state = _state_after(error)
        end = stored(
            run,
            state=state,
            ended_at=self._clock(),
            status=b"" if error is None else self._told(error, run.id),
            execution_seconds=0.0 if result is None else result.seconds,
        )
        response = result.response if result is not None and self._runs.keeps(result) else None
        delay = RETRY_SECONDS
        while True:
            try:
                await self._store.end(end, response)
                break
            except StorageFailed:
                on_refused(delay)
                # It is not told before it is noted. A crash now is one in the middle of the run.
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)
        on_written()
        run.status = end.status
        if result is not None:
            self._runs.succeeded(run, result, end.ended_at)
        elif error is not None and state is RunState.CANCELLED:
            self._runs.cancelled(run, error, end.ended_at)
        elif error is not None:
            self._runs.failed(run, error, end.ended_at)


def _state_after(error: Exception | None) -> RunState:
    if error is None:
        return RunState.SUCCEEDED
    return RunState.CANCELLED if isinstance(error, RunCancelled) else RunState.FAILED
