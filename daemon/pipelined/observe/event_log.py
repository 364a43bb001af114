"""Logs what happens to runs, startups and workers. docs/observability.md lists the events."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from pipelined.core.observers import Unobserved
from pipelined.core.ports import NodeTime, Worker
from pipelined.core.run import Run, RunState
from pipelined.core.specification import Specification
from pipelined.core.stages import Timeline

log = structlog.get_logger()


class EventLog(Unobserved):
    """Successes of runs only where debug lines are wanted: there may be thousands a second.

    Args:
        debug: Whether they are.
    """

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    def run_begun(self, run: Run) -> None:
        """See Observer."""
        if self._debug and run.started_at is not None:
            seconds = round(run.started_at - run.created_at, 6)
            log.debug("run begun", **_ids(run), queued_seconds=seconds, cold=run.cold)

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """See Observer."""
        if run.state is RunState.SUCCEEDED:
            if self._debug:
                log.debug("run succeeded", **_ids(run), seconds=_seconds(run))
        elif run.state is RunState.CANCELLED:
            log.info("run cancelled", **_ids(run), seconds=_seconds(run))
        else:
            # Not its text: it may have what the caller sent.
            kind = type(run.error).__name__
            log.info("run failed", **_ids(run), seconds=_seconds(run), error=kind)

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """See Observer."""
        ids = {"deployment": timeline.deployment, "version": timeline.version}
        startup, pid = timeline.startup, timeline.worker_pid
        if error is None:
            stages = timeline.stages
            seconds = round(max((s.start_seconds + s.seconds for s in stages), default=0.0), 6)
            log.info("started", **ids, startup=startup, pid=pid, seconds=seconds)
        else:
            log.warning("startup failed", **ids, startup=startup, pid=pid, error=str(error))

    def worker_died(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""
        exit_ = worker.exited.result()
        log.warning(
            "worker died",
            deployment=specification.name,
            version=specification.version,
            worker=worker.id,
            pid=worker.pid,
            how=exit_.describe(),
            cause=exit_.cause,
        )

    def worker_replaced(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""
        log.warning(
            "worker killed: it did not end its run",
            deployment=specification.name,
            version=specification.version,
            worker=worker.id,
            pid=worker.pid,
        )


def _ids(run: Run) -> dict[str, object]:
    ids: dict[str, object] = {
        "run_id": run.id,
        "deployment": run.deployment,
        "version": run.version,
    }
    if run.trace.parent:
        ids["trace_id"] = run.trace.parent.split("-")[1]
    return ids


def _seconds(run: Run) -> float:
    return round((run.ended_at or run.created_at) - run.created_at, 6)
