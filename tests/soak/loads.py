"""What callers do besides running: they cancel, give up, read logs, come and go, deploy."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from pipeline import Client, Graph, errors
from tests.chaos import graphs
from tests.chaos.loads import Echo, Load, WrongAnswer, expect, question


class Waiting(Load):
    """Base of those whose runs take long if nobody ends them."""

    pause = 0.5

    def __init__(self, folder: Path) -> None:
        self._notes = (str(folder / f"{self.name}-{number % 8}") for number in itertools.count())

    def graph(self) -> Graph:
        return graphs.graph_of(graphs.misbehave, str, str, int)

    def inputs(self) -> tuple[str, str, int]:
        """Of a run that allocates for ten seconds."""
        return "leak", next(self._notes), 2000


class Cancelling(Waiting):
    """Submitted runs that are cancelled."""

    name = "cancelled"

    def once(self, client: Client) -> None:
        run = client.submit(self.name, *self.inputs())
        state = run.cancel().state
        expect(state, "cancelled", self.name)


class Overrunning(Waiting):
    """Runs that take longer than their callers wait."""

    name = "overrun"

    def once(self, client: Client) -> None:
        try:
            client.run(self.name, *self.inputs(), timeout=0.2)
        except errors.DeadlineExceeded:
            return
        raise WrongAnswer("overrun: the run was in time")


class Abandoning(Load):
    """Streams that are closed after the first element."""

    name = "abandoned"
    pause = 0.4

    def graph(self) -> Graph:
        return graphs.parts_graph()

    def once(self, client: Client) -> None:
        asked = question()
        with client.stream(self.name, asked, 100_000, 4096) as rows:
            [first] = next(iter(rows))
        expect(first, graphs.answer_to(f"{asked}/0").ljust(4096, "."), self.name)


class Printing(Waiting):
    """Runs that print, and readers of their lines."""

    name = "printing"
    pause = 0.7

    def once(self, client: Client) -> None:
        note = next(self._notes)
        run = client.submit(self.name, "flood", note, 200)
        lines = sum(1 for _ in run.logs(follow=True))
        expect(lines >= 200, True, f"printing: {lines} lines")
        [answer] = run.result(30)
        expect(answer, graphs.answer_to(note), self.name)
        with client.logs(self.name, follow=True, tail=5) as followed:
            next(iter(followed))


class Visiting(Load):
    """Callers with a connection of their own, for one run."""

    name = "visited"
    pause = 0.3

    def graph(self) -> Graph:
        return graphs.echo_graph(0)

    def once(self, client: Client) -> None:
        asked = question()
        with Client(client.address) as visitor:
            visitor.info()
            [answer] = visitor.run(self.name, asked, timeout=60)
        expect(answer, graphs.answer_to(asked), self.name)


class Deploying(Echo):
    """The next version, and a run of it: workers come and go."""

    name = "deployed"
    pause = 10.0

    def once(self, client: Client) -> None:
        self.deploy(client)
        super().once(client)


class Crashing(Waiting):
    """A worker that dies now and then, and is replaced."""

    name = "crashed"
    pause = 20.0

    def once(self, client: Client) -> None:
        try:
            client.run(self.name, "segfault", next(self._notes), 0)
        except errors.WorkerDied:
            time.sleep(0.1)
            client.run(self.name, "nothing", next(self._notes), 0)
            return
        raise WrongAnswer("crashed: the run gave an answer")


def other_loads(folder: Path) -> dict[str, Load]:
    """One of each, by its name."""
    loads: list[Load] = [
        Cancelling(folder),
        Overrunning(folder),
        Abandoning(),
        Printing(folder),
        Visiting(),
        Deploying(),
        Crashing(folder),
    ]
    return {load.name: load for load in loads}
