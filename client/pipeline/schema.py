"""What a deployment takes and gives, for people and for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipeline._json_schema import document, type_text
from pipeline._values import decode
from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type
from pipelined_api.wire_values import plain

__all__ = ["DeploymentSchema", "ParameterSchema"]

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTHS = ("min_length", "max_length")


class ParameterSchema:
    """An input or an output of a deployment."""

    def __init__(self, wire: Parameter) -> None:
        self._wire = wire

    @property
    def name(self) -> str:
        """By which a run can give it."""
        return self._wire.name

    @property
    def type(self) -> str:
        """As Python writes it, such as ``"list[int]"``; of a stream, that of its elements."""
        return type_text(self._wire.type)

    @property
    def required(self) -> bool:
        """Whether a run has to give it."""
        return not (self._wire.optional or self.has_default)

    @property
    def has_default(self) -> bool:
        """Whether it has a default other than None."""
        return self._wire.HasField("default_value")

    @property
    def default(self) -> object:
        """The value of a run that gives none; None too if there is no default."""
        return decode(self._wire.default_value, self.name) if self.has_default else None

    @property
    def title(self) -> str:
        """Its title; empty if it has none."""
        return self._wire.title

    @property
    def description(self) -> str:
        """What it is for; empty if that is not said."""
        return self._wire.description

    @property
    def stream(self) -> bool:
        """Whether it is an output that comes one element at a time."""
        return self._wire.stream

    @property
    def constraints(self) -> Mapping[str, object]:
        """The bounds on it, by the names that ``Variable`` takes, such as ``{"ge": 1}``."""
        return MappingProxyType(_constraints(self._wire.type))

    def __eq__(self, other: object) -> bool:
        return self._wire == other._wire if isinstance(other, ParameterSchema) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of everything that protobuf makes

    def __repr__(self) -> str:
        default = f" = {plain(self._wire.default_value)!r}" if self.has_default else ""
        stream = " (stream)" if self.stream else ""
        bounds = "".join(f", {name}={bound!r}" for name, bound in self.constraints.items())
        return f"<{self.name}: {self.type}{default}{stream}{bounds}>"


class DeploymentSchema:
    """What a deployment takes and gives; call it for the JSON Schema of that."""

    def __init__(self, wire: Schema) -> None:
        self._wire = wire

    @property
    def inputs(self) -> tuple[ParameterSchema, ...]:
        """The inputs, in the order of positional ones."""
        return tuple(map(ParameterSchema, self._wire.inputs))

    @property
    def outputs(self) -> tuple[ParameterSchema, ...]:
        """The outputs, in the order in which a run returns them."""
        return tuple(map(ParameterSchema, self._wire.outputs))

    def __call__(self) -> dict[str, Any]:
        """Return inputs and outputs as JSON Schema (draft 2020-12), in plain JSON data.

        ``"inputs"`` is the schema of an object with one property per input; ``"x-order"`` in it
        lists their names in the order of positional inputs, as it does in nested objects.
        ``"outputs"`` is a list of objects with the ``"name"`` of an output, whether it is a
        ``"stream"``, and the ``"schema"`` of its value, or of each element of the stream.

        What JSON has no value for is annotated with ``"x-pipelined-kind"``:

        * ``"bytes"``: a string in base64; bounds on the number of bytes are
          ``"x-pipelined-min-length"`` and ``"x-pipelined-max-length"``.
        * ``"tuple"``: an array.
        * ``"numpy"``, ``"torch"``, ``"image"``: an object with the fields of the wire's Tensor:
          ``dtype``, such as ``"float32"``, ``shape``, and ``data``, the little-endian elements in
          row-major order, in base64. An image is ``uint8`` of height, width and up to 4 channels.
        * ``"file"``: an object with ``name``, ``media_type`` and ``data`` in base64.

        JSON does not tell 1.0 from 1: where an integer is expected, the daemon wants the latter.
        """
        return document(self._wire)

    def wire(self) -> Schema:
        """Return the message that the daemon sent, which is the caller's to change."""
        copy = Schema()
        copy.CopyFrom(self._wire)
        return copy

    def __eq__(self, other: object) -> bool:
        return self._wire == other._wire if isinstance(other, DeploymentSchema) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of everything that protobuf makes

    def __repr__(self) -> str:
        inputs = ", ".join(map(repr, self.inputs))
        return f"<schema ({inputs}) -> ({', '.join(map(repr, self.outputs))})>"


def _constraints(type_: Type) -> dict[str, object]:
    some = [each for each in type_.arguments if each.kind != Type.KIND_NULL]
    inner = type_.kind == Type.KIND_UNION and len(some) == 1
    result = _constraints(some[0]) if inner else {}
    wire = type_.constraints
    for name in _NUMBERS:
        if wire.HasField(name):  # type: ignore[arg-type]  # the stub wants literals
            result[name] = plain(getattr(wire, name))
    for name in _LENGTHS:
        if wire.HasField(name):  # type: ignore[arg-type]  # the stub wants literals
            result[name] = getattr(wire, name)
    if wire.pattern:
        result["pattern"] = wire.pattern
    if wire.choices:
        result["choices"] = [plain(choice) for choice in wire.choices]
    return result
