"""Bounds on values: from keyword arguments and pydantic's metadata to the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline._values import encode
from pipeline.errors import SerialisationError
from pipelined_api.schema import SchemaViolation, check_type, validate_value
from pipelined_api.v1.schema_pb2 import Constraints, Type
from pipelined_api.v1.values_pb2 import Value

__all__ = ["NAMES", "constrain", "given", "literal_constraints"]

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTHS = ("min_length", "max_length")
NAMES = (*_NUMBERS, *_LENGTHS, "pattern", "choices")

_NUMBER_KINDS = (Type.KIND_INT, Type.KIND_FLOAT)
_SIZED_KINDS = (Type.KIND_STRING, Type.KIND_BYTES, Type.KIND_LIST, Type.KIND_MAP)


def given(constraints: Mapping[str, object]) -> dict[str, object]:
    """Leave out the constraints that are None."""
    return {name: value for name, value in constraints.items() if value is not None}


def literal_constraints(metadata: Iterable[Any]) -> dict[str, object]:
    """Collect the constraints in the metadata of ``Annotated`` or of a pydantic field."""
    result: dict[str, object] = {}
    for item in metadata:
        for name in NAMES:
            value = getattr(item, name, None)
            if value is not None and not callable(value):
                result[name] = value
    return result


def constrain(type_: Type, constraints: Mapping[str, object]) -> None:
    """Put bounds on a type; in a union, on the alternatives that they apply to.

    Raises:
        ValueError: one applies to no part of the type, or makes no sense.

    """
    for name, value in constraints.items():
        targets = [target for target in _alternatives(type_) if _applies(name, target)]
        if not targets:
            raise ValueError(f"{name}={value!r} does not apply to this type")
        if name == "choices" and len(targets) > 1:
            targets = [type_]
        for target in targets:
            _set(target, name, value)
    try:
        check_type(type_)
    except SchemaViolation as violation:
        raise ValueError(violation.message) from None


def _alternatives(type_: Type) -> list[Type]:
    if type_.kind != Type.KIND_UNION:
        return [type_]
    return [argument for argument in type_.arguments if argument.kind != Type.KIND_NULL]


def _applies(name: str, type_: Type) -> bool:
    if name == "choices":
        return True
    if name in _NUMBERS:
        return type_.kind in _NUMBER_KINDS
    if name == "pattern":
        return type_.kind == Type.KIND_STRING
    return type_.kind in _SIZED_KINDS or (type_.kind == Type.KIND_TUPLE and type_.variadic)


def _set(type_: Type, name: str, value: Any) -> None:
    wire: Constraints = type_.constraints
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name}={value!r} is no number")
        getattr(wire, name).CopyFrom(encode(value, name))
    elif name in _LENGTHS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name}={value!r} is no length")
        setattr(wire, name, value)
    elif name == "pattern":
        wire.pattern = value if isinstance(value, str) else value.pattern
    else:
        _set_choices(type_, value)


def _set_choices(type_: Type, choices: Any) -> None:
    if isinstance(choices, (str, bytes)) or not list(choices):
        raise ValueError(f"choices={choices!r} is no list of values")
    del type_.constraints.choices[:]
    # Only a union can be made of more than one type; None is then no choice, but no value at all.
    nullable = any(argument.kind == Type.KIND_NULL for argument in type_.arguments)
    every = [*choices, None] if type_.kind == Type.KIND_UNION and nullable else choices
    type_.constraints.choices.extend([_choice(type_, choice) for choice in every])


def _choice(type_: Type, choice: object) -> Value:
    try:
        return encode(validate_value(type_, choice, "choices"), "choices")
    except (SchemaViolation, SerialisationError) as error:
        raise ValueError(f"{choice!r} does not fit: {error}") from None
