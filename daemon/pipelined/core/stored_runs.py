"""Submitted runs as the store has them."""

from __future__ import annotations

from pipelined.core.ports import StoredRun
from pipelined.core.printed import LineBuffer
from pipelined.core.run import Delivery, Run, RunState


def stored(
    run: Run,
    *,
    state: RunState = RunState.QUEUED,
    ended_at: float | None = None,
    status: bytes = b"",
    execution_seconds: float = 0.0,
) -> StoredRun:
    """What is to be kept of a run that is in this state, or has ended so."""
    return StoredRun(
        id=run.id,
        deployment=run.deployment,
        version=run.version,
        state=state.value,
        created_at=run.created_at,
        delivery=run.delivery.value,
        owner=run.owner,
        key=run.key,
        digest=run.digest,
        priority=run.priority,
        timeout=run.timeout,
        files=run.files,
        attempts=run.attempts,
        ended_at=ended_at,
        status=status,
        execution_seconds=execution_seconds,
    )


def restored(stored: StoredRun, lines: LineBuffer, now: float) -> Run:
    """The run that has been kept so; the lines are what it prints from now on.

    The clock may have been set back since. What lies ahead would be kept until then, and what waits
    would let all that come until then go first.
    """
    state = RunState(stored.state)
    return Run(
        stored.id,
        stored.deployment,
        stored.version,
        True,
        min(stored.created_at, now),
        lines,
        state=state,
        started_at=None if stored.started_at is None else min(stored.started_at, now),
        ended_at=None if stored.ended_at is None else min(stored.ended_at, now),
        execution_seconds=stored.execution_seconds,
        status=stored.status,
        response_bytes=stored.response_bytes,
        key=stored.key,
        digest=stored.digest,
        owner=stored.owner,
        priority=stored.priority,
        delivery=Delivery(stored.delivery),
        attempts=stored.attempts,
        timeout=stored.timeout,
        files=stored.files,
    )
