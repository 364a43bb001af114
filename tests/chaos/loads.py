"""The eight deployments under load. Each asks what nobody asked before, and checks the answer."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline import Client, File, Graph, errors
from tests.chaos import graphs

RUN_SECONDS = 60.0
_numbers = itertools.count(1)
_session = secrets.token_hex(4)


class WrongAnswer(Exception):
    """A run gave back what it must not."""


def question() -> str:
    """One that was never asked."""
    return f"{_session}-{next(_numbers)}"


def expect(given: object, expected: object, what: str) -> None:
    """Raise WrongAnswer unless they are equal."""
    if given != expected:
        raise WrongAnswer(f"{what}: {str(given)[:200]!r} is not {str(expected)[:200]!r}")


class Load(ABC):
    """Runs of one deployment.

    Attributes:
        name: Of the deployment.
        pause: Seconds between two runs of one caller.
        instances: Workers.
    """

    name: str
    pause = 0.15
    instances = 1

    @abstractmethod
    def graph(self) -> Graph:
        """What is deployed."""

    @abstractmethod
    def once(self, client: Client) -> None:
        """Run it, and check the answer. Any thread may call this.

        Raises:
            WrongAnswer: It was wrong.
            errors.PipelineError: There was none.
        """

    def deploy(self, client: Client) -> None:
        """Make it so."""
        client.deploy(self.graph(), self.name, instances=self.instances)


class Echo(Load):
    """Small runs of a deployment that is deployed anew all the time."""

    name = "echo"

    def __init__(self) -> None:
        self.builds = itertools.count(1)

    def graph(self) -> Graph:
        return graphs.echo_graph(next(self.builds))

    def once(self, client: Client) -> None:
        asked = question()
        [answer] = client.run(self.name, asked, timeout=RUN_SECONDS)
        expect(answer, graphs.answer_to(asked), self.name)


class Steady(Load):
    """The bystander: nothing is ever done to it, so that it has to answer, whatever happens."""

    name = "steady"
    pause = 0.05
    instances = 2

    def graph(self) -> Graph:
        return graphs.echo_graph(0)

    def once(self, client: Client) -> None:
        asked = question()
        [answer] = client.run(self.name, asked, timeout=RUN_SECONDS)
        expect(answer, graphs.answer_to(asked), self.name)


class Counter(Load):
    """A state: no count of one worker's life is given twice."""

    name = "counter"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[tuple[str, int]] = set()

    def graph(self) -> Graph:
        return graphs.counter_graph()

    def once(self, client: Client) -> None:
        asked = question()
        [row] = client.run(self.name, asked, timeout=RUN_SECONDS)
        life, count, answer = cast("list[Any]", row)
        expect(answer, graphs.answer_to(asked), self.name)
        with self._lock:
            if (life, count) in self._seen:
                raise WrongAnswer(f"counter: {count} was given twice by one worker")
            self._seen.add((life, count))


class Streaming(Load):
    """Streams: every element, in its place."""

    name = "stream"
    elements = 6

    def graph(self) -> Graph:
        return graphs.parts_graph()

    def once(self, client: Client) -> None:
        asked = question()
        with client.stream(self.name, asked, self.elements, 64, timeout=RUN_SECONDS) as rows:
            given = [row[0] for row in rows]
        expected = [graphs.answer_to(f"{asked}/{number}") for number in range(self.elements)]
        expect(given, expected, self.name)


class Large(Load):
    """Values of some megabytes, which travel in shared memory."""

    name = "large"
    pause = 0.5
    elements = 750_000

    def graph(self) -> Graph:
        return graphs.graph_of(graphs.doubled, np.ndarray)

    def once(self, client: Client) -> None:
        array = graphs.array_of(next(_numbers), self.elements)
        [answer] = client.run(self.name, array, timeout=RUN_SECONDS)
        if not isinstance(answer, np.ndarray) or not np.array_equal(answer, array * 2 + 1):
            raise WrongAnswer("large: another array came back")


class Schema(Load):
    """Named inputs with bounds; one in four is out of them."""

    name = "schema"

    def graph(self) -> Graph:
        return graphs.schema_graph()

    def once(self, client: Client) -> None:
        number = next(_numbers)
        order: dict[str, Any] = {"name": f"order {number}", "amount": number % 1000 + 1}
        if number % 4 == 0:
            order["amount"] += 1000
            try:
                client.run(self.name, order, timeout=RUN_SECONDS)
            except errors.InvalidInput:
                return
            raise WrongAnswer("schema: an amount above its bound was taken")
        [answer] = client.run(self.name, order, timeout=RUN_SECONDS)
        expect(answer, graphs.answer_to(f"{order['name']}/{order['amount']}"), self.name)


class Files(Load):
    """Files beyond what fits into a message: up, through a run, and down again."""

    name = "files"
    pause = 0.8
    size = 1_200_000

    def graph(self) -> Graph:
        return graphs.graph_of(graphs.reversed_file, File)

    def once(self, client: Client) -> None:
        content = os.urandom(self.size)
        sent = File.from_bytes(content, name="in.bin")
        [back] = client.run(self.name, sent, timeout=RUN_SECONDS)
        if not isinstance(back, File):
            raise WrongAnswer(f"files: {type(back).__name__} came back")
        if back.read() != content[::-1]:
            raise WrongAnswer("files: another content came back")


class Durable(Load):
    """Submitted runs; `submitted.Ledger` keeps book of them, this only waits for one.

    Args:
        notes: Where each run notes its key when it is executed.
    """

    name = "durable"
    instances = 2

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def graph(self) -> Graph:
        return graphs.graph_of(graphs.executed, str, str, float)

    def once(self, client: Client) -> None:
        asked = question()
        run = client.submit(
            self.name, str(self.notes), asked, 0.0, timeout=RUN_SECONDS, idempotency_key=asked
        )
        [answer] = run.result(RUN_SECONDS)
        expect(answer, graphs.answer_to(asked), self.name)


def all_loads(notes: Path) -> dict[str, Load]:
    """One of each, by its name."""
    loads = (
        Echo(),
        Steady(),
        Counter(),
        Streaming(),
        Large(),
        Schema(),
        Files(),
        Durable(notes),
    )
    return {load.name: load for load in loads}
