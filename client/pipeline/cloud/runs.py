"""Look up runs, and wait for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline.cloud._connection import connected
from pipeline.cloud.schemas.runs import Run, RunError, RunResult, RunState

if TYPE_CHECKING:
    from pipeline.runs import Run as Handle
    from pipeline.runs import RunInfo

__all__ = ["RunNotFinished", "get_run", "poll_for_run_completion"]

_STATES = {
    "queued": RunState.queued,
    "running": RunState.running,
    "succeeded": RunState.completed,
    "failed": RunState.failed,
    "cancelled": RunState.cancelled,
}


class RunNotFinished(errors.DeadlineExceeded, TimeoutError):
    """The run goes on; it had not ended in the time that it was waited for."""


def get_run(run_id: str) -> Run:
    """Look up a run, with its outputs or its error if it has ended.

    The daemon remembers a run for a time after its end (``pipelined serve --run-ttl``).

    Raises:
        errors.NotFound: the daemon does not remember it.

    """
    return look_up(connected().get_run(run_id))


def poll_for_run_completion(
    run_id: str,
    timeout: float | None = None,
    interval: float = 5.0,
    *,
    timeout_secs: float | None = None,
    interval_secs: float | None = None,
) -> Run:
    """Wait until a run has ended, and return it; also one that failed, with its error.

    Args:
        run_id: of the run.
        timeout: seconds; None for no limit.
        interval: seconds that one question waits for its answer; the end of the run is told at
            once, whatever this is.
        timeout_secs: the same as ``timeout``.
        interval_secs: the same as ``interval``.

    Raises:
        RunNotFinished: it had not ended by then. It is a ``TimeoutError``, too.
        errors.NotFound: the daemon does not remember it.
        errors.InvalidInput: one is no number of seconds.

    """
    return wait(
        run_id,
        timeout if timeout_secs is None else timeout_secs,
        interval if interval_secs is None else interval_secs,
    )


def wait(
    run_id: str,
    timeout: float | None,
    interval: float,
    on_change: Callable[[Run], None] | None = None,
    on_poll: Callable[[Run], None] | None = None,
) -> Run:
    """Wait for a run; see ``poll_for_run_completion``.

    Args:
        run_id: of the run.
        timeout: seconds; None for no limit.
        interval: seconds that one question waits for its answer.
        on_change: called with the run whenever its state is another than before.
        on_poll: called with the run whenever the daemon was asked for it.

    """
    if not (math.isfinite(interval) and interval > 0):
        raise errors.InvalidInput(
            f"interval: {interval} is no positive number of seconds", field="interval", bound="gt=0"
        )
    if timeout is not None and not timeout >= 0:
        raise errors.InvalidInput(
            f"timeout: {timeout} is no number of seconds", field="timeout", bound="ge=0"
        )
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    handle = connected().get_run(run_id)
    before: RunState | None = None
    run = look_up(handle)
    while True:
        if on_poll is not None:
            on_poll(run)
        if on_change is not None and run.state is not before:
            on_change(run)
        before = run.state
        if RunState.is_terminal(run.state):
            return run
        left = deadline - time.monotonic()
        if left <= 0:
            raise RunNotFinished(f"run {run_id} has not ended within {timeout} s")
        run = look_up(handle, min(interval, left))


def look_up(handle: Handle, seconds: float = 0.0) -> Run:
    """Ask for a run; the answer comes when it has ended, or so many seconds later."""
    try:
        values = handle.result(seconds)
    except errors.PipelineError as error:
        info = handle.info()
        if isinstance(error, errors.DeadlineExceeded) and not error.reason:
            # Only the wait is over, and the run may have ended just now.
            return look_up(handle) if info.ended else made(info)
        if not info.ended or (info.state == "succeeded" and error.reason != "OUTPUTS_NOT_KEPT"):
            # This is no error of the run.
            raise
        return made(info, error=error)
    return made(handle.info(), values)


def made(
    info: RunInfo, values: list[object] | None = None, error: errors.PipelineError | None = None
) -> Run:
    """Make the hosted form of what the daemon says of a run."""
    failed = None
    # A run that ended well did so whether its outputs can be had or not.
    if info.ended and info.state != "succeeded":
        failed = RunError(
            exception=str(error) if error is not None else info.message,
            traceback=getattr(error, "remote_traceback", "") or None,
            type=info.reason,
        )
    return Run(
        id=info.id,
        pipeline_id=f"{info.deployment}:v{info.version}",
        state=_STATES.get(info.state, RunState.unknown),
        created_at=info.created_at,
        updated_at=info.ended_at or info.started_at or info.created_at,
        result=None if values is None else RunResult(info.id, values),
        error=failed,
    )
