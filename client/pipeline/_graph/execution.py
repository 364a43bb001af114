"""Executes a graph in this process: one startup, kept results, any number of runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from pipeline._graph.context import plain_calls
from pipeline._graph.nodes import (
    EntityRef,
    GraphOutput,
    InputRef,
    Node,
    ResultRef,
    fresh,
)
from pipeline._graph.observer import Observer
from pipeline._graph.rows import Kept, OpenStreams, collected, kept, raised, rows
from pipeline._graph.state import copies
from pipeline.errors import RunFailed, StartupFailed

__all__ = ["Execution"]

Resolver: TypeAlias = Callable[[Sequence[Any], Mapping[int, Any]], Any]


class _Call(NamedTuple):
    """How a node is called: its function, and what gives the arguments."""

    name: str
    function: Callable[..., Any]
    args: Sequence[Resolver]
    kwargs: Sequence[tuple[str, Resolver]]


class Execution:
    """What a graph has become in this process: the state of its entities and the results it keeps.

    Thread-safe. Any number of first callers share one startup; after a failed one the next caller
    tries again from the node that failed.

    Attributes:
        streams: whether any node or output does.

    """

    def __init__(
        self, nodes: Sequence[Node], outputs: Sequence[GraphOutput], entities: Sequence[Any]
    ) -> None:
        self._nodes = nodes
        self._outputs = outputs
        self._initial = entities
        self._entities: list[Any] | None = None
        self._kept: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._startup: Future[None] | None = None
        self._started = False
        self._once = {index: threading.Lock() for index, node in enumerate(nodes) if node.run_once}
        self.streams = any(node.streams for node in nodes) or any(
            each.parameter.stream for each in outputs
        )
        self._results = [self._resolver(each.reference) for each in outputs]

    @cached_property
    def _calls(self) -> list[_Call]:
        """How to call each node. Not sooner: a function may refer to the graph that it is in."""
        return [self._call_of(node) for node in self._nodes]

    def startup(self, observer: Observer | None) -> None:
        """Execute the startup nodes that have not been, or wait for whoever does.

        Raises:
            StartupFailed: a node raised, here or in the startup that was waited for.

        """
        if self._started:
            return
        with self._lock:
            attempt = self._startup
            leads = attempt is None
            if attempt is None:
                attempt = self._startup = Future()
        if not leads:
            self._follow(attempt)
            return
        try:
            self._execute_startup(observer)
        except BaseException as error:
            with self._lock:
                self._startup = None
            attempt.set_exception(error)
            raise
        self._started = True
        attempt.set_result(None)

    @staticmethod
    def _follow(attempt: Future[None]) -> None:
        error = attempt.exception()
        if isinstance(error, StartupFailed):
            # An exception object belongs to the thread that raised it: its traceback grows.
            raise StartupFailed(error.message, node=error.node) from error.__cause__
        if error is not None:
            raise StartupFailed(f"the startup was interrupted by {type(error).__name__}") from error

    def _execute_startup(self, observer: Observer | None) -> None:
        if self._entities is None:
            self._entities = copies(self._initial)
        for index, node in enumerate(self._nodes):
            if not node.on_startup or index in self._kept:
                continue
            before = [dict(vars(entity)) for entity in self._with_state()]
            try:
                results = {number: _replayed(result) for number, result in self._kept.items()}
                self._kept[index] = _replayed(self._call(index, node, [], results, observer))
            except BaseException:
                for entity, state in zip(self._with_state(), before, strict=True):
                    vars(entity).clear()
                    vars(entity).update(state)
                raise

    def _with_state(self) -> list[Any]:
        return [entity for entity in self._entities or () if hasattr(entity, "__dict__")]

    def run(self, values: Sequence[Any], observer: Observer | None) -> list[Any]:
        """Execute the nodes that belong to a run and return the outputs; streams as lists.

        Raises:
            RunFailed: a node raised.

        """
        if not self.streams:
            return self._executed(values, observer, None)
        with closing(self.stream(values, observer)) as parts:
            return collected(self._outputs, parts)

    def stream(
        self, values: Sequence[Any], observer: Observer | None
    ) -> Generator[list[Any], None, None]:
        """Execute the nodes that belong to a run and yield the outputs as they come; see ``rows``.

        Closing it closes the streams of its nodes.

        Raises:
            RunFailed: a node raised.

        """
        with OpenStreams() as opened:
            yield from rows(self._nodes, self._outputs, self._executed(values, observer, opened))

    def _executed(
        self, values: Sequence[Any], observer: Observer | None, opened: OpenStreams | None
    ) -> list[Any]:
        """Execute the nodes and return the outputs, those that stream unread."""
        results: dict[int, Any] = {}
        for index, node in enumerate(self._nodes):
            if not node.is_kept:
                results[index] = self._call(index, node, values, results, observer, opened)
            elif node.on_startup:
                results[index] = _replayed(self._kept[index])
            else:
                results[index] = self._call_once(index, node, values, results, observer)
        # Copies, as entities may go on changing lists that the caller has by then.
        return [fresh(resolve(values, results)) for resolve in self._results]

    def _call_once(
        self,
        index: int,
        node: Node,
        values: Sequence[Any],
        results: Mapping[int, Any],
        observer: Observer | None,
    ) -> Any:
        with self._once[index]:
            if index not in self._kept:
                # A copy, as the node may hold on to what it returned, and change it later.
                self._kept[index] = _replayed(self._call(index, node, values, results, observer))
            return _replayed(self._kept[index])

    def _call(
        self,
        index: int,
        node: Node,
        values: Sequence[Any],
        results: Mapping[int, Any],
        observer: Observer | None,
        opened: OpenStreams | None = None,
    ) -> Any:
        call = self._calls[index]
        args = [resolve(values, results) for resolve in call.args]
        kwargs = {key: resolve(values, results) for key, resolve in call.kwargs}
        if observer is not None:
            observer.node_started(call.name)
        started = time.perf_counter()
        try:
            with plain_calls():
                result = call.function(*args, **kwargs)
            if node.items is not None:
                _check_items(node, result)
            if not node.streams:
                pass
            elif opened is not None:
                opened.add(node, result)
            else:
                result = kept(node, result)
        except Exception as error:
            raise _failure(node, error) from error
        if observer is not None:
            observer.node_finished(call.name, time.perf_counter() - started)
        return result

    def _call_of(self, node: Node) -> _Call:
        return _Call(
            node.name,
            node.pipe.function,
            [self._resolver(value) for value in node.args],
            [(key, self._resolver(value)) for key, value in node.kwargs.items()],
        )

    def _resolver(self, value: Any) -> Resolver:
        """Make what gives the value of an argument in a run, from its inputs and results.

        The containers are always new ones: what a pipe does to a literal stays in that call.
        """
        if isinstance(value, InputRef):
            position = value.index
            return lambda values, _: values[position]
        if isinstance(value, EntityRef):
            return lambda *_: self._entity(value.index)
        if isinstance(value, ResultRef):
            return _result_resolver(value)
        if type(value) in (list, tuple):
            parts = [self._resolver(item) for item in value]
            made = type(value)
            return lambda values, results: made([part(values, results) for part in parts])
        if type(value) is dict:
            items = {key: self._resolver(item) for key, item in value.items()}
            return lambda values, results: {
                key: item(values, results) for key, item in items.items()
            }
        return lambda *_: fresh(value)

    def _entity(self, index: int) -> Any:
        assert self._entities is not None
        return self._entities[index]


def _result_resolver(reference: ResultRef) -> Resolver:
    def resolve(_: Sequence[Any], results: Mapping[int, Any]) -> Any:
        result = results[reference.node]
        result = result if reference.item is None else result[reference.item]
        return iter(result) if type(result) is Kept else result

    return resolve


def _replayed(result: Any) -> Any:
    """Copy the containers of a kept result, also those that are elements of a stream."""
    if type(result) is Kept:
        return Kept(map(fresh, result))
    if type(result) is tuple:
        return tuple(map(_replayed, result))
    return fresh(result)


def _check_items(node: Node, result: Any) -> None:
    if not isinstance(result, (tuple, list)) or len(result) != node.items:
        count = f" of {len(result)}" if isinstance(result, (tuple, list)) else ""
        raise TypeError(
            f"annotated to return a tuple of {node.items}, returned {type(result).__name__}{count}"
        )


def _failure(node: Node, error: Exception) -> StartupFailed | RunFailed:
    message = raised(node, error)
    if node.on_startup:
        return StartupFailed(message, node=node.name)
    return RunFailed(message, node=node.name)
