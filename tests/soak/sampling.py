"""What the daemon takes of the machine, once a second."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import Client
from tests.chaos.processes import descriptors, marked, resident_bytes, status_of
from tests.chaos.served import Served

MIB = 1 << 20
# The log of changes of SQLite is used again from its beginning once it has some thousand pages, and
# may keep this much of the disk (store/runs.py).
LOG_MIB = 64.0


@dataclass(frozen=True)
class Quantity:
    """Something that is to stay flat.

    Attributes:
        name: For people.
        unit: Of its values.
        most_per_hour: By how much it may rise in an hour.
        slack: A rise of so little in the whole time is none: one thread more of a pool that has a
            bound shows as a steep slope in a short soak.
        measure: Its value now; of the daemon's pid and the nursery's.
    """

    name: str
    unit: str
    most_per_hour: float
    slack: float
    measure: Callable[[int, int], float]


def quantities(served: Served, state: Path) -> list[Quantity]:
    """All that is measured."""
    return [
        Quantity("daemon, resident", "MiB", 1.0, 0.25, lambda daemon, _: _resident(daemon)),
        Quantity("daemon, descriptors", "", 0.0, 2.0, lambda daemon, _: len(descriptors(daemon))),
        Quantity("daemon, threads", "", 0.0, 2.0, lambda daemon, _: _threads(daemon)),
        Quantity("nursery, resident", "MiB", 1.0, 0.25, lambda _, nursery: _resident(nursery)),
        Quantity(
            "nursery, descriptors", "", 0.0, 2.0, lambda _, nursery: len(descriptors(nursery))
        ),
        Quantity("processes", "", 0.0, 2.0, lambda *_: len(marked(served.storm))),
        Quantity("database", "MiB", 1.0, 0.25, lambda *_: _size(state, "pipelined.db") / MIB),
        Quantity("its log", "MiB", 1.0, LOG_MIB, lambda *_: _size(state, "pipelined.db-wal") / MIB),
        Quantity("files and code", "MiB", 8.0, 2.0, lambda *_: _size(state, "*/**/*") / MIB),
    ]


def _resident(pid: int) -> float:
    return resident_bytes(pid) / MIB


def _threads(pid: int) -> int:
    return int(status_of(pid).get("Threads", "0"))


def _size(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        # What it takes of the disk: a file may have holes.
        total += status.st_blocks * 512
    return total


class Sampler(threading.Thread):
    """Samples every quantity until it is told to stop.

    Attributes:
        times: Of the samples, as ``time.monotonic`` has it.
        series: The values, by the names of the quantities.
    """

    def __init__(self, served: Served, measured: list[Quantity]) -> None:
        super().__init__(name="sampler", daemon=True)
        self.times: list[float] = []
        self.series: dict[str, list[float]] = defaultdict(list)
        self._served = served
        self._measured = measured
        self._stop_asked = threading.Event()
        with served.client() as client:
            self._nursery = _nursery_of(client)

    def run(self) -> None:
        while not self._stop_asked.wait(1.0):
            self.times.append(time.monotonic())
            for quantity in self._measured:
                value = quantity.measure(self._served.pid, self._nursery)
                self.series[quantity.name].append(value)

    def stop(self) -> None:
        """Sample no more."""
        self._stop_asked.set()


def _nursery_of(client: Client) -> int:
    pid = client.info().nursery.pid
    os.kill(pid, 0)
    return pid
