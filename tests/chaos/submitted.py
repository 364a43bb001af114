"""Keeps book of submitted runs: what was accepted ends once, in one state, executed as promised."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline import Client, errors
from pipeline.runs import Delivery
from tests.chaos import graphs
from tests.chaos.incidents import Incidents, told
from tests.chaos.loads import Durable, question
from tests.chaos.served import Served

PAUSE = 0.25
RUN_SECONDS = 0.12
# At each turn, so that some wait and some are executed whenever the daemon dies.
SUBMITS = 2
# After the last fault, accepted runs have to end within this.
END_SECONDS = 60.0
# How long a submit that was not answered is tried again with its key.
ACCEPT_SECONDS = 60.0
# What becomes of a run that was being executed when its process ended.
AT_MOST_ONCE: Delivery = "at_most_once"
AT_LEAST_ONCE: Delivery = "at_least_once"
_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(eq=False)
class Entry:
    """One submitted run.

    Attributes:
        key: What it notes when it is executed; its idempotency key, too.
        delivery: AT_MOST_ONCE or AT_LEAST_ONCE.
        life: The daemon that accepted it.
        asked_at: When, as ``time.monotonic`` has it.
        run_id: That it was accepted as.
        state: How it ended; empty as long as it has not.
        ended_at: That the daemon told with it.
    """

    key: str
    delivery: Delivery
    life: int = 0
    asked_at: float = 0.0
    run_id: str = ""
    state: str = ""
    ended_at: object = None


class Ledger(threading.Thread):
    """Submits runs, and follows each to its end.

    Args:
        load: Whose runs they are.
        served: The daemon.
        incidents: Told of what must not be.
    """

    def __init__(self, load: Durable, served: Served, incidents: Incidents) -> None:
        super().__init__(name="ledger", daemon=True)
        self.entries: list[Entry] = []
        self._load = load
        self._served = served
        self._incidents = incidents
        self._stop_asked = threading.Event()
        self._open: list[Entry] = []
        self._deliveries = itertools.cycle((AT_MOST_ONCE, AT_LEAST_ONCE))

    def counts(self) -> Counter[str]:
        """How many have ended in which state."""
        return Counter(entry.state or "open" for entry in self.entries)

    def run(self) -> None:
        with self._served.client() as client:
            while not self._stop_asked.wait(PAUSE):
                for _ in range(SUBMITS):
                    self._submit(client)
                self._follow(client)
            deadline = time.monotonic() + END_SECONDS
            while self._open and time.monotonic() < deadline:
                self._follow(client)
                time.sleep(PAUSE)
            for entry in self._open:
                self._incidents.violation(
                    "never ended",
                    f"run {entry.run_id} ({entry.key}), accepted in life {entry.life}",
                )
            self._look_again(client)
        self._count_executions()

    def stop(self) -> None:
        """Submit no more; the thread ends when all have ended."""
        self._stop_asked.set()

    def _submit(self, client: Client) -> None:
        entry = Entry(question(), next(self._deliveries))
        deadline = time.monotonic() + ACCEPT_SECONDS
        while not self._accepted(client, entry):
            if time.monotonic() > deadline or self._stop_asked.wait(PAUSE):
                return
        self.entries.append(entry)
        self._open.append(entry)

    def _accepted(self, client: Client, entry: Entry) -> bool:
        """Whether the run has been accepted; tried again with its key, it is no other one."""
        entry.asked_at = time.monotonic()
        # Read before: a daemon that dies right after its answer is the one that gave it.
        entry.life = self._served.life
        load = self._load
        try:
            run = client.submit(
                load.name,
                str(load.notes),
                entry.key,
                RUN_SECONDS,
                idempotency_key=entry.key,
                delivery=entry.delivery,
            )
        except errors.PipelineError as error:
            if self._incidents.excuse(load.name, error, entry.asked_at) is None:
                self._incidents.violation("submit refused", told(error))
            return False
        entry.run_id = run.id
        return True

    def _follow(self, client: Client) -> None:
        for entry in list(self._open):
            began = time.monotonic()
            try:
                info = client.get_run(entry.run_id).info()
                if info.state not in _ENDED:
                    continue
                entry.state, entry.ended_at = info.state, info.ended_at
                if info.state == "succeeded":
                    [answer] = client.get_run(entry.run_id).result(10)
                    if answer != graphs.answer_to(entry.key):
                        self._incidents.violation("wrong answer", f"submitted {entry.run_id}")
                elif info.state == "failed":
                    client.get_run(entry.run_id).result(10)
                    self._incidents.violation("wrong answer", f"{entry.run_id} failed and has one")
                self._open.remove(entry)
            except errors.NotFound as error:
                self._not_found(entry, error)
            except errors.PipelineError as error:
                if entry.state == "failed" and error.reason:
                    self._open.remove(entry)
                # Of one that failed it is the reason why, else that it could not be asked for.
                failed = entry.state == "failed"
                since = entry.asked_at if failed else began
                excused = self._incidents.excuse(self._load.name, error, since) is not None
                # Executed again until it ends: no single fault makes one of these fail.
                if not excused or (failed and entry.delivery == AT_LEAST_ONCE):
                    sort = "submitted run failed" if failed else "run not told"
                    self._incidents.violation(sort, f"{entry.run_id}: {told(error)}")
                if entry in self._open:
                    entry.state = ""

    def _not_found(self, entry: Entry, error: errors.NotFound) -> None:
        self._open.remove(entry)
        entry.state = "lost"
        self._incidents.violation(
            "run lost",
            f"{entry.run_id}, accepted in life {entry.life}, asked in life {self._served.life}: "
            f"{told(error)}",
        )

    def _look_again(self, client: Client) -> None:
        """An end is the end: neither the state nor its time is another one later."""
        for entry in self.entries[-500:]:
            if entry.state not in _ENDED:
                continue
            try:
                info = client.get_run(entry.run_id).info()
            except errors.PipelineError as error:
                self._incidents.violation("run lost", f"{entry.run_id}: {told(error)}")
                continue
            if (info.state, info.ended_at) != (entry.state, entry.ended_at):
                self._incidents.violation(
                    "ended twice", f"{entry.run_id}: {entry.state}, and then {info.state}"
                )

    def _count_executions(self) -> None:
        notes = Path(self._load.notes)
        times = Counter(notes.read_text().split() if notes.exists() else [])
        for entry in self.entries:
            executed = times[entry.key]
            if entry.state == "succeeded" and executed == 0:
                self._incidents.violation("never executed", f"{entry.run_id} succeeded")
            if executed > 1 and entry.delivery == AT_MOST_ONCE:
                self._incidents.violation("executed twice", f"{entry.run_id}: {executed} times")
