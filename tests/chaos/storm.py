"""What faults are done to, and the table of their kinds."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import Client, errors
from tests.chaos import graphs
from tests.chaos.clock import Clock
from tests.chaos.incidents import Incidents, told
from tests.chaos.loads import Load, WrongAnswer
from tests.chaos.place import Place
from tests.chaos.served import Served

# After a fault things have to be well again within this.
RECOVERY_SECONDS = 30.0
# What the deployments that only faults use are called, by what they are used for.
MISFITS = ("spin", "segfault", "exit", "leak", "fork", "flood", "cancel", "deadline", "fresh")
READER = "reader"
FRAGILE = "fragile"
# More than a worker has at its beginning, less than one takes that leaks.
MEMORY = "400MiB"
LEAKED_MIB = 700


class NotSurvived(Exception):
    """What had to be after a fault is not."""


class NotPossible(Exception):
    """The fault cannot be injected here; says why."""


@dataclass
class Storm:
    """Everything that a fault gets hold of.

    Attributes:
        served: The daemon.
        place: Its folders.
        clock: Its time of day.
        incidents: Where faults are recorded.
        loads: The deployments under load, by name.
        held: Locks of deployments that a fault is done to, so that it knows what becomes of it.
    """

    served: Served
    place: Place
    clock: Clock
    incidents: Incidents
    loads: dict[str, Load]
    held: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _notes: Iterator[int] = field(default_factory=itertools.count)

    def deploy_all(self, client: Client) -> None:
        """Deploy the loads, and what faults use."""
        for load in self.loads.values():
            load.deploy(client)
        for name in MISFITS:
            deploy_misfit(client, name)
        client.deploy(graphs.parts_graph(), READER)
        client.deploy(graphs.fragile_graph(str(self.flag)), FRAGILE)

    @property
    def flag(self) -> Path:
        """The file that makes startups of FRAGILE fail."""
        return self.place.notes / "fragile"

    def note(self) -> str:
        """The path of a new file."""
        return str(self.place.notes / f"note-{next(self._notes)}")

    def misbehave(
        self, client: Client, name: str, how: str, *, size: int = 0, timeout: float = 60.0
    ) -> str:
        """A run that does what it is told, and whose answer is checked. Returns its note's path.

        Raises:
            WrongAnswer: It is another one.
            errors.PipelineError: There is none.
        """
        note = self.note()
        [answer] = client.run(name, how, note, size, timeout=timeout)
        if answer != graphs.answer_to(note):
            raise WrongAnswer(f"{name}: {answer!r}")
        return note

    def well_again(self, name: str, seconds: float = RECOVERY_SECONDS) -> None:
        """Return when a deployment gives a right answer.

        Raises:
            NotSurvived: It does not in time.
        """
        with self.served.client() as client:
            until(lambda: self._answers(client, name), seconds, f"{name} does not answer")

    def _answers(self, client: Client, name: str) -> str:
        try:
            if name in self.loads:
                self.loads[name].once(client)
            elif name == FRAGILE:
                client.run(FRAGILE, "again", timeout=10)
            elif name == READER:
                with client.stream(READER, "again", 2, 64, timeout=10) as rows:
                    list(rows)
            else:
                self.misbehave(client, name, "nothing", timeout=10)
        except WrongAnswer as wrong:
            self.incidents.violation("wrong answer", str(wrong))
            return told(wrong)
        except errors.PipelineError as error:
            return told(error)
        return ""


def deploy_misfit(client: Client, name: str) -> None:
    """A deployment that does what its input says."""
    graph = graphs.graph_of(graphs.misbehave, str, str, int)
    if name == "leak":
        client.deploy(graph, name, memory=MEMORY)
    else:
        client.deploy(graph, name)


def until(trouble: Callable[[], str], seconds: float, what: str) -> None:
    """Return when there is no trouble any more.

    Raises:
        NotSurvived: There still is after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while found := trouble():
        if time.monotonic() > deadline:
            raise NotSurvived(f"{what} within {seconds:g} s: {found}")
        time.sleep(0.1)


Inject = Callable[[Storm, random.Random], str]


@dataclass(frozen=True)
class Kind:
    """A kind of faults.

    Attributes:
        name: For people.
        inject: Injects one and returns when things are well again, with a note for the table.
        alone: No other fault is injected meanwhile.
    """

    name: str
    inject: Inject
    alone: bool = False


KINDS: dict[str, Kind] = {}


def kind(name: str, *, alone: bool = False) -> Callable[[Inject], Inject]:
    """Enter a fault into the table."""

    def enter(inject: Inject) -> Inject:
        KINDS[name] = Kind(name, inject, alone)
        return inject

    return enter
