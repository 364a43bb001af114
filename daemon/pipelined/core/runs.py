"""The runs that the daemon remembers: what became of each, and its outputs for a time.

All of it is in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from pipelined.core.errors import KeyReused, RunNotFound
from pipelined.core.observers import UNOBSERVED
from pipelined.core.ports import UNTRACED, NodeTime, Observer, RunResult, TraceContext
from pipelined.core.printed import Journal, LineBuffer


class RunState(Enum):
    """Where a run is in its life; the values are those of the wire."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What may be kept of runs that have ended.

    Attributes:
        ttl_seconds: How long a run is remembered after its end.
        store_bytes: The outputs of all of them together; the oldest go first.
        records: Submitted runs, and as many of those whose caller waited; the oldest go first.
    """

    ttl_seconds: float = 3600.0
    store_bytes: int = 256 << 20
    records: int = 10_000


@dataclass(slots=True, eq=False)
class Run:
    """One run. Times are seconds since the epoch.

    Attributes:
        id: Unique.
        deployment: Name.
        version: Of the deployment.
        submitted: Nobody waits for it, so its outputs are kept.
        created_at: When it was asked for.
        lines: What it printed.
        state: Where it is in its life.
        started_at: When a worker got it.
        ended_at: None until it has ended.
        execution_seconds: That the nodes took, if it succeeded.
        error: Why it did not succeed.
        response: A submitted one's, serialised, as long as it is kept.
        ended: Set when it has ended.
        interrupt: Ends the wait for it, while there is one.
        left: Set when the wait has been ended, and the worker told.
        key: Idempotency key, or empty.
        digest: Of what the key was given for.
        owner: Id of the caller that it belongs to.
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
    response: bytes | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    interrupt: Callable[[], object] | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    key: str = ""
    digest: str = ""
    owner: str = ""
    trace: TraceContext = UNTRACED
    cold: bool = False


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch, as they are now, that never jump."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def detached(error: Exception) -> Exception:
    """An equal error that was never raised: the traceback of one that was keeps whole requests."""
    copy = type(error).__new__(type(error))
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    return copy


class Runs:
    """The registry. Belongs to one event loop.

    Args:
        journal: Keeps the lines that they print.
        limits: What is kept.
        clock: Seconds since the epoch; does not go back.
        observer: Is told of each.
    """

    def __init__(
        self,
        journal: Journal,
        limits: RunLimits,
        clock: Callable[[], float],
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self._runs: dict[str, Run] = {}
        # By owner and key: nobody meets the keys of others.
        self._keys: dict[tuple[str, str], Run] = {}
        # By whether they were submitted, in the order of their ends.
        self._ended: dict[bool, OrderedDict[str, Run]] = {True: OrderedDict(), False: OrderedDict()}
        self._with_outputs: OrderedDict[str, Run] = OrderedDict()
        self._output_bytes = 0

    def limit(self, limits: RunLimits) -> None:
        """Keep what these allow from now on."""
        self._limits = limits
        self.sweep()

    def create(
        self,
        run_id: str,
        deployment: str,
        version: int,
        *,
        submitted: bool = False,
        key: str = "",
        digest: str = "",
        owner: str = "",
        trace: TraceContext = UNTRACED,
        cold: bool = False,
    ) -> Run:
        """Remember a run that is about to join the queue of its deployment."""
        self.sweep()
        run = Run(
            run_id,
            deployment,
            version,
            submitted,
            self._clock(),
            self._journal.open(run_id),
            key=key,
            digest=digest,
            owner=owner,
            trace=trace,
            cold=cold,
        )
        self._runs[run_id] = run
        if key:
            self._keys[owner, key] = run
        self._observer.run_created(run)
        return run

    def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunNotFound: There is none, or it is not remembered any more.
        """
        self.sweep()
        run = self._runs.get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    def with_key(self, key: str, digest: str, owner: str = "") -> Run | None:
        """Return the run that its owner submitted with this key, if it is remembered.

        Raises:
            KeyReused: The digest is not that of what it was submitted for.
        """
        self.sweep()
        run = self._keys.get((owner, key))
        if run is not None and run.digest != digest:
            raise KeyReused(key, run.id)
        return run

    def list(
        self,
        deployment: str,
        states: Collection[RunState],
        limit: int,
        owner: str | None = None,
    ) -> Sequence[Run]:
        """Return at most so many, the newest first; of any deployment and state where empty.

        Those of one owner, unless it is None.
        """
        self.sweep()
        fitting = (
            run
            for run in reversed(self._runs.values())
            if deployment in ("", run.deployment)
            and (not states or run.state in states)
            and owner in (None, run.owner)
        )
        return [*islice(fitting, limit)]

    def owner_of(self, run_id: str) -> str | None:
        """Whom a run belongs to; None if it is not remembered."""
        run = self._runs.get(run_id)
        return None if run is None else run.owner

    def begun(self, run: Run) -> None:
        """Take note that a worker is about to get it."""
        run.state = RunState.RUNNING
        run.started_at = self._clock()
        self._observer.run_begun(run)

    def succeeded(self, run: Run, result: RunResult) -> None:
        """Take note of its end, and keep the outputs of a submitted one."""
        run.execution_seconds = result.seconds
        if run.submitted and len(result.response) <= self._limits.store_bytes:
            run.response = bytes(result.response)
            self._with_outputs[run.id] = run
            self._output_bytes += len(run.response)
        self._end(run, RunState.SUCCEEDED, result.nodes)
        while self._output_bytes > self._limits.store_bytes:
            self._drop_response(next(iter(self._with_outputs.values())))

    def failed(self, run: Run, error: Exception) -> None:
        """Take note of its end."""
        run.error = detached(error)
        self._end(run, RunState.FAILED)

    def cancelled(self, run: Run, error: Exception) -> None:
        """Take note of its end."""
        run.error = detached(error)
        self._end(run, RunState.CANCELLED)

    def discard(self, run: Run) -> None:
        """Forget a run, with all that is kept of it, unless it has been forgotten."""
        if self._runs.pop(run.id, None) is None:
            return
        self._ended[run.submitted].pop(run.id, None)
        if self._keys.get((run.owner, run.key)) is run:
            del self._keys[run.owner, run.key]
        self._drop_response(run)
        self._journal.forget(run.id)

    def sweep(self) -> None:
        """Forget what is kept no longer."""
        oldest_end = self._clock() - self._limits.ttl_seconds
        for ended in self._ended.values():
            while ended:
                run = next(iter(ended.values()))
                assert run.ended_at is not None
                if len(ended) <= self._limits.records and run.ended_at > oldest_end:
                    break
                self.discard(run)

    async def keep_swept(self, interval_seconds: float = 30.0) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            self.sweep()

    def _end(self, run: Run, state: RunState, nodes: Sequence[NodeTime] = ()) -> None:
        run.state = state
        run.ended_at = self._clock()
        self._ended[run.submitted][run.id] = run
        run.ended.set()
        run.lines.close()
        self._observer.run_ended(run, nodes)
        self.sweep()

    def _drop_response(self, run: Run) -> None:
        if self._with_outputs.pop(run.id, None) is not None and run.response is not None:
            self._output_bytes -= len(run.response)
            run.response = None
