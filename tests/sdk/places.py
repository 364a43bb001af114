"""Runs graphs in this process or in a daemon, behind one interface."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pipeline import Client, Graph, Pipeline, Stream

_numbers = itertools.count()


class Started(Protocol):
    """A graph that can be run, any number of times."""

    def run(self, *inputs: Any, **named: Any) -> list[Any]: ...
    def stream(self, *inputs: Any, **named: Any) -> Stream[list[Any]]: ...
    def warm(self) -> None: ...


class Place(Protocol):
    """Where graphs run."""

    def start(self, graph: Graph) -> Started: ...


class Here:
    """In this process."""

    def start(self, graph: Graph) -> Started:
        return _Here(graph)


class _Here:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def run(self, *inputs: Any, **named: Any) -> list[Any]:
        return self._graph.run(*inputs, **named)

    def stream(self, *inputs: Any, **named: Any) -> Stream[list[Any]]:
        return self._graph.stream(*inputs, **named)

    def warm(self) -> None:
        self._graph.startup()


class InDaemon:
    """In a worker of a daemon, each graph as a deployment of its own."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._names: list[str] = []

    def start(self, graph: Graph) -> Deployed:
        name = f"graph-{next(_numbers)}"
        self.client.deploy(graph, name)
        self._names.append(name)
        return Deployed(self.client, name)

    def clear(self) -> None:
        for name in self._names:
            self.client.delete(name)
        self._names.clear()


class Deployed:
    """A graph in a daemon."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def run(self, *inputs: Any, **named: Any) -> list[Any]:
        return self._client.run(self.name, *inputs, **named)

    def stream(self, *inputs: Any, **named: Any) -> Stream[list[Any]]:
        return self._client.stream(self.name, *inputs, **named)

    def warm(self) -> None:
        self._client.warm(self.name)


def graph_of(make: Callable[[], Any]) -> Graph:
    """Build a graph of what ``make`` returns: one output, or a tuple of them."""
    with Pipeline() as builder:
        made = make()
        builder.output(*made if type(made) is tuple else (made,))
    return builder.get_pipeline()


def in_threads(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Call from several threads at once; results in no order. An exception is a result too."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            results.append(call(number))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def note(path: str, text: str) -> None:
    """Append a line to a file, which is how pipes in workers tell what they did."""
    with Path(path).open("a") as stream:
        stream.write(f"{text}\n")


def notes(path: Path) -> list[str]:
    """The lines that pipes have written."""
    return path.read_text().splitlines() if path.exists() else []
