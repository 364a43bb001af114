"""From the inputs that a run is given to the values that pipes get."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic

from pipeline._graph.annotations import kind_of_class, members
from pipeline._graph.input_schema import InputSchema, given_fields
from pipeline.errors import InvalidInput
from pipelined_api.schema import InputsValidator, SchemaViolation
from pipelined_api.v1.schema_pb2 import Type

__all__ = ["Reviver", "bind", "reviver", "without_schemas"]

# More than any value that crosses the wire may have, which is checked where one does.
_MOST_NESTED = 100

Reviver = Callable[[Any, str], Any]
"""Makes what a pipe expects of a validated value; its second argument is the value's path."""


def bind(
    inputs: InputsValidator,
    revivers: Sequence[Reviver | None],
    positional: Sequence[object],
    named: Mapping[str, object],
) -> list[Any]:
    """Validate the inputs of a run, apply defaults, and make instances of InputSchema classes.

    Returns:
        One value per input of the schema.

    Raises:
        InvalidInput: they do not fit; names the field and the bound.

    """
    try:
        values = inputs.validate(
            [without_schemas(value) for value in positional],
            {name: without_schemas(value) for name, value in named.items()},
        )
    except SchemaViolation as violation:
        raise InvalidInput(str(violation), field=violation.field, bound=violation.bound) from None
    return [
        value if revive is None else revive(value, name)
        for value, revive, name in zip(values, revivers, inputs.names, strict=True)
    ]


def without_schemas(value: object, depth: int = _MOST_NESTED) -> object:
    """Replace instances of InputSchema, at any depth, by dicts, which is what crosses the wire.

    Raises:
        InvalidInput: the value is nested too deep, or contains itself.

    """
    if depth == 0 and isinstance(value, (InputSchema, list, tuple, dict)):
        raise InvalidInput(
            f"a value is nested more than {_MOST_NESTED} deep, or contains itself",
            bound=f"depth={_MOST_NESTED}",
        )
    if isinstance(value, InputSchema):
        return {
            name: without_schemas(item, depth - 1) for name, item in given_fields(value).items()
        }
    if type(value) in (list, tuple):
        items = typing.cast("Sequence[object]", value)
        return type(value)(  # type: ignore[call-arg]
            without_schemas(item, depth - 1) for item in items
        )
    if type(value) is dict:
        return {key: without_schemas(item, depth - 1) for key, item in value.items()}
    return value


def reviver(annotation: Any) -> Reviver | None:
    """Make the function that turns validated values of a type into what pipes expect.

    None if there is nothing to do, as for most types.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return reviver(annotation.__origin__)
    if isinstance(annotation, typing.NewType):
        return reviver(annotation.__supertype__)
    alternatives = members(annotation)
    if alternatives is not None:
        return _union(alternatives)
    if origin is list and arguments:
        return _list(reviver(arguments[0]))
    if origin is tuple and arguments:
        return _tuple(arguments)
    if len(arguments) == 2 and isinstance(origin, type) and issubclass(origin, Mapping):
        return _map(reviver(arguments[1]))
    cls = origin or annotation
    if isinstance(cls, type):
        if issubclass(cls, InputSchema):
            return _schema(cls)
        kind = kind_of_class(cls)
        if kind == Type.KIND_TORCH:
            return _to_torch
        if kind == Type.KIND_IMAGE:
            return _to_image
    return None


def _schema(cls: type[InputSchema]) -> Reviver:
    inner = {name: reviver(info.annotation) for name, info in cls.model_fields.items()}

    def revive(value: Any, field: str) -> Any:
        if not isinstance(value, dict):
            return value
        fields = {
            name: item if (change := inner.get(name)) is None else change(item, f"{field}.{name}")
            for name, item in value.items()
        }
        try:
            return cls.model_validate(fields)
        except pydantic.ValidationError as error:
            # The wire schema has let it pass, so this is a validator of the user's own.
            first = error.errors(include_url=False)[0]
            path = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
            )
            raise InvalidInput(f"{field}{path}: {first['msg']}", field=f"{field}{path}") from error

    return revive


def _union(alternatives: tuple[Any, ...]) -> Reviver | None:
    changes = [change for change in map(reviver, alternatives) if change is not None]
    if not changes:
        return None

    def revive(value: Any, field: str) -> Any:
        failure: InvalidInput | None = None
        for change in changes:
            result, error = _attempt(change, value, field)
            if error is not None:
                failure = failure or error
            elif result is not value:
                return result
        if failure is not None and isinstance(value, dict) and dict not in alternatives:
            raise failure
        return value

    return revive


def _attempt(change: Reviver, value: Any, field: str) -> tuple[Any, InvalidInput | None]:
    try:
        return change(value, field), None
    except InvalidInput as error:
        return None, error


def _list(change: Reviver | None) -> Reviver | None:
    if change is None:
        return None

    def revive(value: Any, field: str) -> Any:
        if not isinstance(value, list):
            return value
        return [change(item, f"{field}[{index}]") for index, item in enumerate(value)]

    return revive


def _tuple(arguments: tuple[Any, ...]) -> Reviver | None:
    variadic = len(arguments) == 2 and arguments[1] is Ellipsis
    changes = [reviver(argument) for argument in arguments[: 1 if variadic else None]]
    if not any(changes):
        return None

    def revive(value: Any, field: str) -> Any:
        if not isinstance(value, tuple):
            return value
        each = changes * len(value) if variadic else changes
        return tuple(
            item if change is None else change(item, f"{field}[{index}]")
            for index, (item, change) in enumerate(zip(value, each, strict=True))
        )

    return revive


def _map(change: Reviver | None) -> Reviver | None:
    if change is None:
        return None

    def revive(value: Any, field: str) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: change(item, f"{field}.{key}") for key, item in value.items()}

    return revive


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _to_torch(value: Any, field: str) -> Any:
    if not _is_array(value):
        return value
    import torch

    return torch.from_numpy(value.copy())


def _to_image(value: Any, field: str) -> Any:
    if not _is_array(value):
        return value
    from PIL import Image

    try:
        return Image.fromarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{field}: no image: {error}", field=field) from error
