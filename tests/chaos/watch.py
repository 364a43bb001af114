"""Watches what the daemon takes of the machine, and looks for what it leaves behind."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pipelined.store.code import INCOMING
from tests.chaos.incidents import DAEMON_GONE, EVERYBODY, Incidents
from tests.chaos.place import Place
from tests.chaos.process_faults import GONE_SECONDS
from tests.chaos.processes import descriptors, marked, memory_files, resident_bytes
from tests.chaos.served import DidNotStart, Served
from tests.chaos.storm import NotSurvived, until

MIB = 1 << 20
# Of resident memory above what a life has some seconds after its beginning.
MOST_GROWTH = 160 * MIB
SETTLED_SECONDS = 5.0
# Descriptors that may be open then: sockets, the nursery, the databases, the log, what is imported.
MOST_DESCRIPTORS_IDLE = 64


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
            self._restart_if_dead()
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

    def _restart_if_dead(self) -> None:
        """Stand in for the service manager where nobody meant the daemon to end."""
        served = self._served
        if served.pid or not served.changing.acquire(blocking=False):
            return
        try:
            if not served.pid and not self._stop_asked.is_set():
                self._incidents.violation("daemon died", served.log_tail())
                with self._incidents.fault("daemon died", EVERYBODY, DAEMON_GONE):
                    served.start()
        except DidNotStart as error:
            self._incidents.violation("daemon died", str(error))
        finally:
            served.changing.release()

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
    """Without callers and workers the daemon has no shared memory open, and few descriptors."""
    # Each worker may have some, for its next payload.
    with served.client() as client:
        for deployment in client.list():
            client.cool(deployment.name)

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
    # Contents that were on their way when it was killed were removed by the next one.
    for path in place.state.rglob(f"{INCOMING}*"):
        incidents.violation("left behind", str(path))
    with closing(sqlite3.connect(place.state / "pipelined.db")) as database:
        verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        count = database.execute("SELECT count(*) FROM versions").fetchone()[0]
    if verdict != "ok" or not count:
        incidents.violation("database", f"{verdict}, with {count} versions")


def check_log(served: Served, incidents: Incidents) -> None:
    """The daemon took nothing of this for a bug of its own."""
    with served.log_path.open(errors="replace") as log:
        for line in log:
            if '"event": "output"' in line:
                continue
            if "rpc.internal_error" in line or "Traceback" in line or '"critical"' in line:
                incidents.violation("internal error", _in_short(line))


def _in_short(line: str) -> str:
    try:
        entry = json.loads(line)
        [exception, *_] = entry["exception"]
    except (ValueError, KeyError):
        return line.strip()[:300]
    frame = exception["frames"][-1]
    return (
        f"{entry.get('method', entry['event'])}: {exception['exc_type']}: "
        f"{exception['exc_value'][:200]} ({Path(frame['filename']).name}:{frame['lineno']})"
    )
