"""The outputs of one run as they come: rows, with one item per output of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pipeline._arguments import without_schemas
from pipeline._graph.context import plain_calls
from pipeline._graph.nodes import GraphOutput, Node, ResultRef, fresh
from pipeline._graph.streams import ABSENT, Stream
from pipeline.errors import RunFailed
from pipelined_api.schema import SchemaViolation, validate_value

__all__ = ["Kept", "OpenStreams", "collected", "kept", "rows", "streaming_items"]


class Kept(tuple[Any, ...]):
    """The elements of a stream that a startup or run_once node has made, for any number of runs."""


class OpenStreams:
    """The streams that the nodes of one run have made, to be closed when it is over."""

    def __init__(self) -> None:
        self._streams: list[tuple[Node, Any]] = []

    def add(self, node: Node, result: Any) -> None:
        """Take the streams in a node's result.

        Raises:
            TypeError: what is annotated to stream is no iterator.

        """
        self._streams += [(node, stream) for stream in streaming_items(node, result)]

    def __enter__(self) -> OpenStreams:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all, the last one first, as it may read those before it.

        Raises:
            RunFailed: what a generator does when it is closed failed, and nothing had before that;
                the others are closed.

        """
        failure: RunFailed | None = None
        while self._streams:
            node, stream = self._streams.pop()
            close = getattr(stream, "close", None)
            if close is None:
                continue
            try:
                with plain_calls():
                    close()
            except Exception as error:
                failure = failure or _failure(node, error)
        if failure is not None and (exc_value is None or isinstance(exc_value, GeneratorExit)):
            raise failure


def streaming_items(node: Node, result: Any) -> list[Any]:
    """Return the streams in a node's result.

    Raises:
        TypeError: what is annotated to stream is no iterator.

    """
    items = [result] if node.items is None else list(result)
    streams = [item for item, streams in zip(items, node.streams, strict=False) if streams]
    for stream in streams:
        if not isinstance(stream, (Iterator, Stream)):
            raise TypeError(
                f"annotated to return a stream, returned {type(stream).__name__}, which is no "
                "generator, iterator or Stream"
            )
    return streams


def kept(node: Node, result: Any) -> Any:
    """Read the streams in a result that is kept: a later run could not read them again."""
    streaming_items(node, result)
    if not node.streams:
        return result
    with plain_calls():
        if node.items is None:
            return Kept(result)
        return tuple(
            Kept(item) if streams else item
            for item, streams in zip(result, node.streams, strict=True)
        )


def rows(
    nodes: Sequence[Node], outputs: Sequence[GraphOutput], values: Sequence[Any]
) -> Iterator[list[Any]]:
    """Yield the static outputs, if there are any; then, in turns, one element of each stream.

    What is not in a row is ABSENT there. If a stream fails, what the others gave in the same turn
    is yielded before the error is raised.

    Raises:
        RunFailed: a generator raised, or an element does not fit its annotation.

    """
    streams = {
        index: _Elements(nodes[output.reference.node], output, values[index])
        for index, output in enumerate(outputs)
        if output.parameter.stream and isinstance(output.reference, ResultRef)
    }
    if len(streams) < len(outputs):
        yield [ABSENT if index in streams else value for index, value in enumerate(values)]
    while streams:
        row: list[Any] = [ABSENT] * len(outputs)
        failure: RunFailed | None = None
        for index, elements in list(streams.items()):
            row[index] = elements.take()
            if elements.ended:
                del streams[index]
            if (failure := elements.failure) is not None:
                break
        if any(item is not ABSENT for item in row):
            yield row
        if failure is not None:
            raise failure


def collected(outputs: Sequence[GraphOutput], parts: Iterable[list[Any]]) -> list[Any]:
    """Put rows together: one value per output, a list for one that streams."""
    values: list[Any] = [[] if output.parameter.stream else None for output in outputs]
    for row in parts:
        for index, item in enumerate(row):
            if item is ABSENT:
                continue
            if outputs[index].parameter.stream:
                values[index].append(item)
            else:
                values[index] = item
    return values


class _Elements:
    """One stream that is an output.

    Attributes:
        ended: there are no more elements.
        failure: why not, unless it ended well.

    """

    def __init__(self, node: Node, output: GraphOutput, elements: Any) -> None:
        self._node = node
        self._type = output.parameter.type
        self._elements = elements
        self._taken = 0
        self.ended = False
        self.failure: RunFailed | None = None

    def take(self) -> Any:
        """Return the next element, or ABSENT once it has ended."""
        try:
            with plain_calls():
                element = next(self._elements)
            self._check(element)
        except StopIteration:
            self.ended = True
            return ABSENT
        except Exception as error:
            self.ended = True
            self.failure = _failure(self._node, error)
            return ABSENT
        self._taken += 1
        # A generator may yield one list again and again, and change it in between.
        return fresh(element)

    def _check(self, element: Any) -> None:
        try:
            validate_value(self._type, without_schemas(element), f"element {self._taken}")
        except SchemaViolation as violation:
            raise TypeError(f"yielded what its annotation excludes: {violation}") from None


def raised(node: Node, error: Exception) -> str:
    """Say what a node has raised, also if that cannot say it itself."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # It is the user's own __str__.
        text = "<its text cannot be made>"
    return f"{node.name} raised {type(error).__qualname__}: {text}"


def _failure(node: Node, error: Exception) -> RunFailed:
    failure = RunFailed(raised(node, error), node=node.name)
    failure.__cause__ = error
    return failure
