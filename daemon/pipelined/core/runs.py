"""The runs that the daemon remembers: what became of each, and whose outputs are kept for a time.

What is here is in memory. Of runs that were submitted the store has it, too, with their requests
and their outputs, which are only there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from pipelined.core.errors import KeyReused, RunNotFound
from pipelined.core.observers import UNOBSERVED
from pipelined.core.ports import (
    UNTRACED,
    NodeTime,
    Observer,
    RunResult,
    StoredRun,
    TraceContext,
)
from pipelined.core.printed import Journal
from pipelined.core.run import Delivery, Run, RunState
from pipelined.core.stored_runs import restored


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What may be kept of runs that have ended.

    Attributes:
        ttl_seconds: How long a run is remembered after its end.
        store_bytes: The outputs of all of them together; the oldest go first.
        records: Submitted runs, and as many of those whose caller waited; the oldest go first.
        pending_bytes: The requests of all submitted runs that have not ended.
    """

    ttl_seconds: float = 3600.0
    store_bytes: int = 256 << 20
    records: int = 10_000
    pending_bytes: int = 4 << 30


class RunArchive(Protocol):
    """Has what is kept of submitted runs; see ``run_store.RunStore``. Neither waits."""

    def forget(self, run_id: str) -> None:
        """Keep nothing of a run any more."""

    def drop_response(self, run_id: str) -> None:
        """Keep the outputs of a run no longer."""


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
        archive: Is told what is not kept any more.
        observer: Is told of each.
    """

    def __init__(
        self,
        journal: Journal,
        limits: RunLimits,
        clock: Callable[[], float],
        archive: RunArchive,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._archive = archive
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
        self._make_room()
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
        priority: int = 0,
        delivery: Delivery = Delivery.AT_MOST_ONCE,
        timeout: float | None = None,
        files: Sequence[str] = (),
        trace: TraceContext = UNTRACED,
        cold: bool = False,
    ) -> Run:
        """Remember a run that is about to join the queue of its deployment."""
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
            priority=priority,
            delivery=delivery,
            timeout=timeout,
            files=files,
            trace=trace,
            cold=cold,
        )
        self._remember(run)
        self._observer.run_created(run)
        return run

    def restore(self, stored: Sequence[StoredRun]) -> Sequence[Run]:
        """Remember submitted runs of an earlier daemon, given in the order of their submission."""
        now = self._clock()
        runs = [restored(each, self._journal.open(each.id), now) for each in stored]
        for run in runs:
            self._remember(run)
        for run in sorted(runs, key=lambda run: run.ended_at or 0.0):
            if run.has_ended:
                run.ended.set()
                run.lines.close()
                self._ended[True][run.id] = run
                if run.response_bytes is not None:
                    self._with_outputs[run.id] = run
                    self._output_bytes += run.response_bytes
        self._make_room()
        self.sweep()
        for run in runs:
            if not run.has_ended:
                # Everything is cold after a restart.
                run.cold = True
                self._observer.run_created(run)
        return runs

    def _remember(self, run: Run) -> None:
        self._runs[run.id] = run
        if run.key:
            self._keys[run.owner, run.key] = run

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

    def with_key(self, owner: str, key: str, digest: str) -> Run | None:
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

    def begun(self, run: Run, *, at: float | None = None) -> None:
        """Take note that a worker is about to get it, now or at a time that has been written."""
        run.state = RunState.RUNNING
        run.started_at = self._clock() if at is None else at
        run.attempts += 1
        self._observer.run_begun(run)

    def queued_again(self, run: Run) -> None:
        """Take note that it waits for another attempt."""
        run.state = RunState.QUEUED
        self._observer.run_queued_again(run)

    def succeeded(self, run: Run, result: RunResult, ended_at: float | None = None) -> None:
        """Take note of its end, and that the outputs of a submitted one are kept."""
        run.execution_seconds = result.seconds
        if run.submitted and self.keeps(result):
            run.response_bytes = len(result.response)
            self._with_outputs[run.id] = run
            self._output_bytes += run.response_bytes
        self._end(run, RunState.SUCCEEDED, ended_at, result.nodes)
        self._make_room()

    def keeps(self, result: RunResult) -> bool:
        """Whether there is room for these outputs, if others make it."""
        return len(result.response) <= self._limits.store_bytes

    def failed(self, run: Run, error: Exception, ended_at: float | None = None) -> None:
        """Take note of its end."""
        run.error = detached(error)
        self._end(run, RunState.FAILED, ended_at)

    def cancelled(self, run: Run, error: Exception, ended_at: float | None = None) -> None:
        """Take note of its end."""
        run.error = detached(error)
        self._end(run, RunState.CANCELLED, ended_at)

    def discard(self, run: Run) -> None:
        """Forget a run, with all that is kept of it, unless it has been forgotten."""
        if self._runs.pop(run.id, None) is None:
            return
        self._ended[run.submitted].pop(run.id, None)
        if self._keys.get((run.owner, run.key)) is run:
            del self._keys[run.owner, run.key]
        self._forget_response(run)
        self._journal.forget(run.id)
        if run.submitted:
            self._archive.forget(run.id)

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

    def _end(
        self,
        run: Run,
        state: RunState,
        ended_at: float | None,
        nodes: Sequence[NodeTime] = (),
    ) -> None:
        run.state = state
        run.ended_at = self._clock() if ended_at is None else ended_at
        ended = self._ended[run.submitted]
        ended[run.id] = run
        run.ended.set()
        run.lines.close()
        self._observer.run_ended(run, nodes)
        # Those that are too old go when somebody looks, or in `keep_swept`.
        if len(ended) > self._limits.records:
            self.sweep()

    def _make_room(self) -> None:
        while self._output_bytes > self._limits.store_bytes:
            run = next(iter(self._with_outputs.values()))
            self._forget_response(run)
            self._archive.drop_response(run.id)

    def _forget_response(self, run: Run) -> None:
        if self._with_outputs.pop(run.id, None) is not None and run.response_bytes is not None:
            self._output_bytes -= run.response_bytes
            run.response_bytes = None
