"""A graph's topology in lines: equal for graphs that connect the same pipes in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import errors
from pipeline._graph.nodes import EntityRef, InputRef, Node, ResultRef
from pipelined_api.v1.schema_pb2 import Parameter, Schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline._graph.graph import Graph

__all__ = ["check_announced", "topology"]


def topology(graph: Graph) -> list[str]:
    """Describe each node, then each output. Constants are told by their types alone."""
    lines = [f"node {index}: {_call(graph, node)}" for index, node in enumerate(graph.nodes)]
    return lines + [
        f"output {index}: {_shown(graph, output.reference)}"
        for index, output in enumerate(graph.outputs)
    ]


def check_announced(graph: Graph, schema: Schema, lines: Sequence[str]) -> None:
    """Make sure that a graph is the one that its schema and its topology were announced for.

    Raises:
        errors.GraphError: it is another; names the first difference.

    """
    ours = graph.schema()
    if ours != schema:
        difference = _difference(
            [*_described("input", schema.inputs), *_described("output", schema.outputs)],
            [*_described("input", ours.inputs), *_described("output", ours.outputs)],
        )
    elif list(lines) != topology(graph):
        difference = _difference(lines, topology(graph))
    else:
        return
    raise errors.GraphError(
        "the graph that the folder makes here is not the one that was announced when it was "
        f"deployed: {difference}. What a module builds must not depend on where it is imported"
    )


def _difference(announced: Sequence[str], found: Sequence[str]) -> str:
    for before, now in zip(announced, found, strict=False):
        if before != now:
            return f"announced was {before!r}, here is {now!r}"
    extra = "missing" if len(announced) > len(found) else "not announced"
    line = max(announced, found, key=len)[min(len(announced), len(found))]
    return f"{line!r} is {extra}"


def _described(kind: str, parameters: Iterable[Parameter]) -> list[str]:
    return [f"{kind} {each.name}: {' '.join(str(each).split())}" for each in parameters]


def _call(graph: Graph, node: Node) -> str:
    arguments = [_shown(graph, value) for value in node.args]
    arguments += [f"{name}={_shown(graph, value)}" for name, value in node.kwargs.items()]
    marks = [
        mark
        for mark, holds in (
            ("on_startup", node.on_startup),
            ("run_once", node.pipe.run_once),
            (f"{node.items} values", node.items is not None),
            (f"streams {node.streams}", any(node.streams)),
        )
        if holds
    ]
    return f"{node.name}({', '.join(arguments)}){''.join(f', {mark}' for mark in marks)}"


def _shown(graph: Graph, value: Any) -> str:
    if isinstance(value, InputRef):
        return f"input {value.index}"
    if isinstance(value, ResultRef):
        return f"node {value.node}" + ("" if value.item is None else f"[{value.item}]")
    if isinstance(value, EntityRef):
        return f"{type(graph.entities[value.index]).__qualname__} {value.index}"
    if type(value) in (list, tuple):
        return f"[{', '.join(_shown(graph, item) for item in value)}]"
    if type(value) is dict:
        items = ", ".join(f"{key!r}: {_shown(graph, item)}" for key, item in value.items())
        return f"{{{items}}}"
    return type(value).__qualname__
