"""One run, and where it is in its life.

::

    Run, Stream   QUEUED → RUNNING → SUCCEEDED | FAILED | CANCELLED
                  QUEUED → FAILED | CANCELLED
    Submit        the same, and RUNNING → QUEUED: it is to be executed again
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pipelined.core.flag import Flag
from pipelined.core.ports import UNTRACED, TraceContext
from pipelined.core.printed import LineBuffer
from pipelined.core.run_queue import rank


class Delivery(Enum):
    """What becomes of a run when the process that executes it ends; the values are the wire's."""

    AT_MOST_ONCE = 1
    AT_LEAST_ONCE = 2


class RunState(Enum):
    """Where a run is in its life; the values are those of the wire."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


@dataclass(slots=True, eq=False)
class Run:
    """One run. Times are seconds since the epoch.

    Attributes:
        id: Unique.
        deployment: Name.
        version: Of the deployment.
        submitted: It is durable: nobody waits for it, and its outputs are kept.
        created_at: When it was asked for.
        lines: What it printed.
        state: Where it is in its life.
        started_at: When a worker got it.
        ended_at: None until it has ended.
        execution_seconds: That the nodes took, if it succeeded.
        error: Why it did not succeed, if it ended in the life of this daemon.
        status: How a submitted one is told that did not succeed: a serialised google.rpc.Status.
        response_bytes: Of the outputs of a submitted one in the store; None if they are not kept.
        ended: Set when it has ended.
        interrupt: Ends the wait for it, while there is one.
        left: Set when the wait has been ended, and the worker told.
        key: Idempotency key, or empty.
        digest: Of what the key was given for.
        owner: Id of the caller that it belongs to; empty for one that is nobody in particular.
        priority: See ``run_queue.rank``.
        delivery: Of a submitted one.
        attempts: How often a worker got it.
        timeout: Seconds that a submitted one may take; None if it may take any time.
        files: Digests of the files that a submitted one's request refers to.
        trace: Where in a trace it is: as its caller says, later as its worker is to know.
        cold: No instance was warm when it came, so it waits for a startup.
    """

    id: str
    deployment: str
    version: int
    submitted: bool
    created_at: float
    lines: LineBuffer
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    execution_seconds: float = 0.0
    error: Exception | None = None
    status: bytes = b""
    response_bytes: int | None = None
    ended: Flag = field(default_factory=Flag)
    interrupt: Callable[[], object] | None = None
    left: Flag = field(default_factory=Flag)
    key: str = ""
    digest: str = ""
    owner: str = ""
    priority: int = 0
    delivery: Delivery = Delivery.AT_MOST_ONCE
    attempts: int = 0
    timeout: float | None = None
    files: Sequence[str] = ()
    trace: TraceContext = UNTRACED
    cold: bool = False

    @property
    def place(self) -> float:
        """In the queue of its deployment."""
        return rank(self.created_at, self.priority)

    @property
    def has_ended(self) -> bool:
        """Whether it is in a terminal state."""
        return self.ended_at is not None
