"""What the daemon says about runs, and the handles of those that were submitted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pipeline._graph.streams import Stream
from pipeline._transport import drive, iterate
from pipeline.async_stream import AsyncStream

if TYPE_CHECKING:
    from pipeline._operations import Operations
    from pipeline._responses import Row
    from pipelined_api.v1 import runs_pb2

# What becomes of a run whose process ends: see ``Client.submit``.
Delivery = Literal["at_most_once", "at_least_once"]
Decoded = Callable[["runs_pb2.RunResponse"], Coroutine[None, None, "Row"]]

__all__ = ["AsyncRun", "LogLine", "Run", "RunInfo"]


@dataclass(frozen=True)
class RunInfo:
    """A run as it was when the daemon was asked.

    Attributes:
        id: unique.
        deployment: its name.
        version: of the deployment.
        state: ``"queued"``, ``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
        created_at: when it was asked for, in UTC.
        started_at: when a worker got it; None if none has.
        ended_at: when it ended; None if it has not.
        execution_seconds: that its nodes took in the worker; 0 unless it succeeded.
        reason: of its failure, such as ``"RUN_FAILED"``; empty if it has not failed.
        message: of its failure.
        submitted: by ``submit``, so that its outputs are kept.
        attempts: how often a worker got it.
        priority: as it was given.
        delivery: ``"at_most_once"`` or ``"at_least_once"``; empty unless it was submitted.

    """

    id: str
    deployment: str
    version: int
    state: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    execution_seconds: float = 0.0
    reason: str = ""
    message: str = ""
    submitted: bool = False
    attempts: int = 0
    priority: int = 0
    delivery: str = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended, however that was."""
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class LogLine:
    """One line that a worker printed; ``str()`` gives its text.

    Attributes:
        time: when the daemon read it, in UTC.
        text: without its end.
        run_id: the run during which it was printed; empty for one of a startup.
        worker: which one printed it.
        note: it was not printed: the daemon's word on lines that are not here.

    """

    time: datetime
    text: str
    run_id: str = ""
    worker: str = ""
    note: bool = False

    def __str__(self) -> str:
        return self.text


class Run:
    """A run that goes on by itself; made by ``Client.submit`` and ``Client.get_run``.

    Attributes:
        id: what ``Client.get_run`` takes, also from another process.
        deployment: its name.

    """

    def __init__(self, operations: Operations, decoded: Decoded, run_id: str, name: str) -> None:
        self.id = run_id
        self.deployment = name
        self._operations = operations
        self._decoded = decoded

    def __repr__(self) -> str:
        return f"Run({self.id!r}, deployment={self.deployment!r})"

    def info(self) -> RunInfo:
        """Ask how it is.

        Raises:
            errors.NotFound: the daemon does not remember it.

        """
        return drive(self._operations.run_info(self.id))

    def status(self) -> str:
        """Ask for its state; see :class:`RunInfo`."""
        return self.info().state

    def result(self, timeout: float | None = None) -> Row:
        """Wait for its outputs, one item per output of the graph.

        Args:
            timeout: seconds to wait; None for no limit. The run goes on without us.

        Raises:
            errors.DeadlineExceeded: it has not ended by then, or not within its own timeout.
            errors.Cancelled: it was cancelled.
            errors.PipelineError: what ``Client.run`` would have raised. The outputs of a run that
                succeeded may not be kept any more (reason ``"OUTPUTS_NOT_KEPT"``).

        """
        return drive(self._decoded(drive(self._operations.result(self.id, timeout))))

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Stream[LogLine]:
        """Give what it printed, line by line.

        Args:
            follow: until it has ended; else what is there.
            tail: of the lines that are there, only so many of the newest.

        """
        return Stream(iterate(self._operations.logs(run_id=self.id, follow=follow, tail=tail)))

    def cancel(self) -> RunInfo:
        """End it; one that has ended stays as it is. Returns it as it is after that."""
        return drive(self._operations.cancel(self.id))


class AsyncRun:
    """A run that goes on by itself; as :class:`Run`, awaited."""

    def __init__(self, operations: Operations, decoded: Decoded, run_id: str, name: str) -> None:
        self.id = run_id
        self.deployment = name
        self._operations = operations
        self._decoded = decoded

    def __repr__(self) -> str:
        return f"AsyncRun({self.id!r}, deployment={self.deployment!r})"

    async def info(self) -> RunInfo:
        """Ask how it is; see :meth:`Run.info`."""
        return await self._operations.run_info(self.id)

    async def status(self) -> str:
        """Ask for its state; see :class:`RunInfo`."""
        return (await self.info()).state

    async def result(self, timeout: float | None = None) -> Row:
        """Wait for its outputs; see :meth:`Run.result`."""
        response = await self._operations.result(self.id, timeout)
        return await self._decoded(response)

    def logs(self, *, follow: bool = False, tail: int | None = None) -> AsyncStream[LogLine]:
        """Give what it printed, line by line; see :meth:`Run.logs`."""
        return AsyncStream(self._operations.logs(run_id=self.id, follow=follow, tail=tail))

    async def cancel(self) -> RunInfo:
        """End it; see :meth:`Run.cancel`."""
        return await self._operations.cancel(self.id)
