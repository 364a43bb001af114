"""What a graph is made of: inputs, nodes, and what the arguments of nodes refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline._graph import pickled
from pipeline._graph.decorators import Pipe
from pipeline._graph.input_schema import InputSchema
from pipelined_api.v1.schema_pb2 import Parameter

__all__ = [
    "EntityRef",
    "GraphInput",
    "GraphOutput",
    "InputRef",
    "Node",
    "Reference",
    "ResultRef",
    "fresh",
    "references",
    "replace",
]


@dataclass(frozen=True)
class InputRef:
    """The value of an input."""

    index: int

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.input_ref, (self.index,)


@dataclass(frozen=True)
class ResultRef:
    """What a node returned, or one item of the tuple that it returned."""

    node: int
    item: int | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.result_ref, (self.node, self.item)


@dataclass(frozen=True)
class EntityRef:
    """The graph's own copy of an entity."""

    index: int

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.entity_ref, (self.index,)


Reference = InputRef | ResultRef | EntityRef


@dataclass(frozen=True)
class GraphInput:
    """An input of a graph.

    Attributes:
        parameter: how it is described to callers.
        annotation: the type that pipes get it as.

    """

    parameter: Parameter
    annotation: Any = field(compare=False)

    @property
    def name(self) -> str:
        """By which it can be given."""
        return self.parameter.name

    def __reduce__(self) -> tuple[object, ...]:
        parameter = self.parameter.SerializeToString(deterministic=True)
        return pickled.graph_input, (parameter, self.annotation)


@dataclass(frozen=True)
class GraphOutput:
    """An output of a graph.

    Attributes:
        parameter: how it is described to callers.
        reference: whose value it is.

    """

    parameter: Parameter
    reference: InputRef | ResultRef

    @property
    def name(self) -> str:
        """What it is called in the source, or ``"output_0"`` and so on."""
        return self.parameter.name

    def __reduce__(self) -> tuple[object, ...]:
        parameter = self.parameter.SerializeToString(deterministic=True)
        return pickled.graph_output, (parameter, self.reference)


@dataclass(frozen=True)
class Node:
    """One call of a pipe.

    Attributes:
        pipe: what is called.
        args: positional arguments: values with references in them, at any depth of lists, tuples
            and dicts. A method's first is a reference to its entity.
        kwargs: keyword arguments, likewise.
        items: into how many values its result is taken apart; None if it stays one.
        streams: which of these values stream, one bool for each; empty if none does.
        line: where in the user's source it was called; not part of what it is.

    """

    pipe: Pipe
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    items: int | None = None
    line: str = field(default="", compare=False)
    streams: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        """``"Model.load"`` or ``"function"``."""
        return self.pipe.name

    @property
    def on_startup(self) -> bool:
        """Executed once, before the first run."""
        return self.pipe.on_startup

    @property
    def run_once(self) -> bool:
        """Executed in the first run that reaches it."""
        return self.pipe.run_once and not self.pipe.on_startup

    @property
    def is_kept(self) -> bool:
        """Executed once, for all runs."""
        return self.pipe.run_once or self.pipe.on_startup

    def __reduce__(self) -> tuple[object, ...]:
        # The line stays here: it means nothing elsewhere and would change with every edit above it.
        state = (self.pipe, self.args, dict(self.kwargs), self.items)
        # Nor does what older daemons do not know, where they need not.
        return pickled.node, (*state, self.streams) if self.streams else state


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """Rebuild lists, tuples and dicts with each other value in them put through ``change``.

    The containers are always new ones: what a pipe does to a literal stays in that call.
    """
    if type(value) in (list, tuple):
        return type(value)(replace(item, change) for item in value)
    if type(value) is dict:
        return {key: replace(item, change) for key, item in value.items()}
    return change(value)


def references(value: Any) -> Iterator[Reference]:
    """Yield the references in an argument."""
    if type(value) in (list, tuple):
        for item in value:
            yield from references(item)
    elif type(value) is dict:
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (InputRef, ResultRef, EntityRef)):
        yield value


def fresh(value: Any) -> Any:
    """Copy the containers of a value that outlives a run, but not what is in them.

    What a run does to a list, dict, set, bytearray or InputSchema stays in that run. Everything
    else is shared: a model, an array or an object of the user's own may be too large to be copied
    for each run.
    """
    return replace(value, _fresh_leaf)


def _fresh_leaf(value: Any) -> Any:
    if type(value) in (set, bytearray):
        return type(value)(value)
    if isinstance(value, InputSchema):
        copy = value.model_copy()
        # Not by assignment, which would make fields of those that were left out.
        vars(copy).update({name: fresh(item) for name, item in vars(copy).items()})
        return copy
    return value
