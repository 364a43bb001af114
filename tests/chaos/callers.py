"""The threads that put the deployments under load, and what they see of their availability."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from pipeline import Client, errors
from tests.chaos.incidents import Incidents, told
from tests.chaos.loads import Load, WrongAnswer
from tests.chaos.served import Served

# Without a fault that excuses it, a deployment answers at least so often.
UNAVAILABLE_SECONDS = 20.0
# How many run times are kept for the percentiles.
_TIMES = 20_000


@dataclass
class Answers:
    """What callers of one deployment have got.

    Attributes:
        right: Answers.
        failed: Runs that gave none, for a reason that a fault excuses.
        longest_gap: Seconds without an answer that no fault excuses.
        seconds: Of the last runs.
    """

    right: int = 0
    failed: int = 0
    longest_gap: float = 0.0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES))


class Caller(threading.Thread):
    """Runs one load until it is told to stop."""

    def __init__(self, load: Load, served: Served, incidents: Incidents) -> None:
        super().__init__(name=f"load {load.name}", daemon=True)
        self.answers = Answers()
        self._load = load
        self._served = served
        self._incidents = incidents
        self._stop_asked = threading.Event()
        self._last_right = time.monotonic()

    def run(self) -> None:
        with self._served.client() as client:
            while not self._stop_asked.wait(self._load.pause):
                self._once(client)
        self._measure_gap(time.monotonic())

    def _once(self, client: Client) -> None:
        began = time.monotonic()
        if attempt(self._load, client, self._incidents, "unexcused error"):
            ended = time.monotonic()
            self.answers.right += 1
            self.answers.seconds.append(ended - began)
            self._measure_gap(ended)
            self._last_right = ended
        else:
            self.answers.failed += 1
            self._measure_gap(time.monotonic())

    def _measure_gap(self, now: float) -> None:
        excused = self._incidents.last_effect(self._load.name, self._last_right, now)
        gap = now - (self._last_right if excused is None else excused)
        if gap > self.answers.longest_gap:
            most = UNAVAILABLE_SECONDS + self._load.pause
            if gap > most >= self.answers.longest_gap:
                self._incidents.violation(
                    "unavailable", f"{self._load.name} gave no answer for {gap:.1f} s"
                )
            self.answers.longest_gap = gap

    def stop(self) -> None:
        """Ask it to stop, after the run that it is on."""
        self._stop_asked.set()


def attempt(load: Load, client: Client, incidents: Incidents, sort: str) -> bool:
    """Run a load once; whether it answered. What nothing excuses is a violation of that sort."""
    began = time.monotonic()
    try:
        load.once(client)
    except WrongAnswer as wrong:
        incidents.violation("wrong answer", str(wrong))
    except errors.PipelineError as error:
        if incidents.excuse(load.name, error, began) is None:
            incidents.violation(sort, f"{load.name}: {told(error)}")
    except Exception as error:
        incidents.violation("client broke", f"{load.name}: {told(error)}")
    else:
        return True
    return False
