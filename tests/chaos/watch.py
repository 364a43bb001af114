"""Watches what the daemon takes of the machine, and looks for what it leaves behind."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

from tests.chaos.incidents import Incidents
from tests.chaos.place import Place
from tests.chaos.process_faults import GONE_SECONDS
from tests.chaos.processes import descriptors, marked, memory_files, resident_bytes
from tests.chaos.served import Served
from tests.chaos.storm import NotSurvived, until

MIB = 1 << 20
# Of resident memory above what a life has some seconds after its beginning.
MOST_GROWTH = 160 * MIB
SETTLED_SECONDS = 5.0
# Descriptors that may be open for no caller: sockets and pipes of workers, the database, the log.
MOST_DESCRIPTORS_IDLE = 300


@dataclass
class Life:
    """One daemon's resident memory, in bytes."""

    began: float = field(default_factory=time.monotonic)
    first: int = 0
    most: int = 0


class Watch(threading.Thread):
    """Samples the daemon.

    Attributes:
        lives: By their number.
        most_descriptors: That any of them had open.
    """

    def __init__(self, served: Served, incidents: Incidents) -> None:
        super().__init__(name="watch", daemon=True)
        self.lives: dict[int, Life] = {}
        self.most_descriptors = 0
        self._served = served
        self._incidents = incidents
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(0.5):
            number, pid = self._served.life, self._served.pid
            resident = resident_bytes(pid) if pid else 0
            if not resident or number != self._served.life:
                continue
            self.most_descriptors = max(self.most_descriptors, len(descriptors(pid)))
            life = self.lives.setdefault(number, Life())
            if time.monotonic() - life.began < SETTLED_SECONDS:
                continue
            life.first = life.first or resident
            grown = resident - life.first
            if grown > MOST_GROWTH >= life.most - life.first:
                self._incidents.violation(
                    "memory", f"life {number} has grown by {grown >> 20} MiB, to {resident >> 20}"
                )
            life.most = max(life.most, resident)

    def stop(self) -> None:
        """Sample no more."""
        self._stop_asked.set()

    @property
    def most_resident(self) -> int:
        """Of all lives, in bytes."""
        return max((life.most for life in self.lives.values()), default=0)

    @property
    def most_growth(self) -> int:
        """Of one life, in bytes."""
        return max((life.most - life.first for life in self.lives.values()), default=0)


def check_idle(served: Served, incidents: Incidents) -> None:
    """Without callers the daemon has no shared memory open, and few descriptors."""

    def trouble() -> str:
        memory = memory_files(served.pid)
        count = len(descriptors(served.pid))
        if memory:
            return f"{memory} memfds are open"
        return f"{count} descriptors are open" if count > MOST_DESCRIPTORS_IDLE else ""

    try:
        until(trouble, GONE_SECONDS, "the daemon is not idle")
    except NotSurvived as found:
        incidents.violation("left behind", str(found))


def check_left(served: Served, place: Place, incidents: Incidents) -> None:
    """After the daemon's end nothing of it is there but its state, which is sound."""

    def processes() -> str:
        return "; ".join(f"{p.pid}: {p.command}" for p in marked(served.storm))

    try:
        until(processes, GONE_SECONDS, "processes outlive the daemon")
    except NotSurvived as found:
        incidents.violation("left behind", str(found))
    left = [str(path) for path in place.temporary.iterdir()]
    if served.socket_path.exists():
        left.append(str(served.socket_path))
    if place.shared_memory is not None:
        left += [str(path) for path in place.shared_memory.iterdir()]
    for name in left:
        incidents.violation("left behind", name)
    for path in place.state.glob("*.sqlite*"):
        if path.name.endswith(("-wal", "-shm")):
            continue
        with closing(sqlite3.connect(path)) as database:
            verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            incidents.violation("database", f"{path.name}: {verdict}")
