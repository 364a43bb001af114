"""What was done to the daemon, what is excused by it, and what is not.

An error of a run is excused by a fault that was going on while the run was under way, that hits its
deployment, and whose kind brings about errors of that class. All others are violations.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline import errors

EVERYBODY = "*"
NOBODY = ""
# Of each sort, so that one that goes wrong at every turn does not hide the others.
_KEPT = 12

# What callers may be told while something is done, by what it is done to.
WORKER_GONE = (errors.WorkerDied, errors.StartupFailed)
DAEMON_GONE = (errors.Unavailable, errors.Cancelled, errors.WorkerDied, errors.StartupFailed)
DELETED = (errors.NotFound,)
NO_ROOM = (errors.PipelineError,)
NOTHING = ()


@dataclass(eq=False)
class Fault:
    """Something that was done to the daemon. Times are those of ``time.monotonic``.

    Attributes:
        kind: Which, as the schedule names it.
        target: The deployment that it hits, EVERYBODY or NOBODY.
        excuses: Classes of errors that its target may answer with.
        began: When it was begun.
        ended: When its effects were over; None as long as they are not.
    """

    kind: str
    target: str
    excuses: tuple[type[errors.PipelineError], ...]
    began: float
    ended: float | None = None

    def hits(self, deployment: str, since: float, until: float) -> bool:
        """Whether the deployment was affected some time in between."""
        return (
            self.target in (EVERYBODY, deployment)
            and self.began <= until
            and (self.ended is None or self.ended >= since)
        )


@dataclass
class Tally:
    """How often a fault of one kind was injected and survived."""

    injected: int = 0
    survived: int = 0
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    seconds: float
    sort: str
    text: str


class Incidents:
    """The record of one storm. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.began = time.monotonic()
        self.tallies: dict[str, Tally] = {}
        self.violations: list[Violation] = []
        self.violated: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()

    @contextmanager
    def fault(
        self, kind: str, target: str, excuses: tuple[type[errors.PipelineError], ...] = NOTHING
    ) -> Iterator[Fault]:
        """A fault from its beginning until its effects are over: when the block ends."""
        fault = Fault(kind, target, excuses, time.monotonic())
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            fault.ended = time.monotonic()

    def excuse(self, deployment: str, error: errors.PipelineError, since: float) -> Fault | None:
        """Return a fault that an error which has just come is excused by."""
        now = time.monotonic()
        with self._lock:
            for fault in reversed(self._faults):
                if fault.hits(deployment, since, now) and isinstance(error, fault.excuses):
                    self.excused[fault.kind] += 1
                    return fault
        return None

    def last_effect(self, deployment: str, since: float, until: float) -> float | None:
        """When the last of the faults in between was over for the deployment; None if none was.

        One that is still going on is over at ``until``.
        """
        with self._lock:
            ends = [
                until if fault.ended is None else min(fault.ended, until)
                for fault in self._faults
                if fault.excuses and fault.hits(deployment, since, until)
            ]
        return max(ends, default=None)

    def tally(self, kind: str) -> Tally:
        """The counts of one kind."""
        with self._lock:
            return self.tallies.setdefault(kind, Tally())

    def injected(self, kind: str, survived: bool, note: str = "") -> None:
        """Count a fault."""
        tally = self.tally(kind)
        with self._lock:
            tally.injected += 1
            tally.survived += survived
            if note:
                tally.notes[note] += 1

    def violation(self, sort: str, text: str) -> None:
        """Something is not as it must be."""
        seconds = time.monotonic() - self.began
        with self._lock:
            self.violated[sort] += 1
            if self.violated[sort] <= _KEPT:
                self.violations.append(Violation(seconds, sort, text))


def told(error: BaseException) -> str:
    """An error in one line."""
    reason = getattr(error, "reason", "")
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f' [{reason}]' if reason else ''}: {text[:300]}"
