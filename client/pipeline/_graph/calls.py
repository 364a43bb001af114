"""Checks of a call of a pipe inside a builder: arity, types, and what startup nodes may take."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline._arguments import reviver, without_schemas
from pipeline._graph.annotations import describe, lenient_type, pipe_annotations
from pipeline._graph.compatibility import compatible
from pipeline._graph.decorators import Pipe, is_entity
from pipeline._graph.nodes import replace
from pipeline._graph.streams import stream_annotation
from pipeline._graph.variables import GraphVariable
from pipeline.errors import GraphError, InvalidInput
from pipelined_api.schema import SchemaViolation, validate_value
from pipelined_api.v1.schema_pb2 import Type

__all__ = ["check_arguments", "result_annotations"]


def check_arguments(
    pipe: Pipe, args: tuple[Any, ...], kwargs: Mapping[str, Any], line: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check a call, and make instances of InputSchema classes of literal dicts in it.

    Returns:
        The arguments, positional and by keyword.

    Raises:
        GraphError: names the pipe, the parameter and the line.

    """
    prefix = f"{line}: pipe {pipe.name!r}"
    if pipe.is_method and not (args and is_entity(args[0])):
        owner = f"an instance of {type(args[0]).__qualname__}" if args else "nothing"
        raise GraphError(
            f"{prefix} is a method, called on {owner}; its class has to be decorated with @entity"
        )
    signature = inspect.signature(pipe.function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise GraphError(f"{prefix}: {error}") from None
    annotations = pipe_annotations(pipe.function)
    for name, parameter in signature.parameters.items():
        if name not in bound.arguments:
            continue
        value = bound.arguments[name]
        where = f"{prefix}: parameter {name!r}"
        check = _Check(annotations.get(name, inspect.Parameter.empty), parameter.default, where)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(check(item) for item in value)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = {key: check(item) for key, item in value.items()}
        else:
            bound.arguments[name] = check(value)
        if pipe.on_startup:
            _check_startup(bound.arguments[name], where)
    return bound.args, bound.kwargs


class _Check:
    """Checks what one parameter is given."""

    def __init__(self, annotation: Any, default: Any, where: str) -> None:
        self._annotation = annotation
        self._type = lenient_type(annotation)
        self._default = default
        self._where = where

    def __call__(self, value: Any) -> Any:
        if self._type.kind == Type.KIND_ANY or value is self._default or is_entity(value):
            return value
        if type(value) is GraphVariable:
            self._check_variable(value)
            return value
        if any(True for _ in _variables(value)):
            # Part of it has no value yet; the pipe sees it when it has.
            return value
        return self._check_literal(value)

    def _check_variable(self, variable: GraphVariable) -> None:
        # A pipe gets a stream as the iterator that it is.
        if variable.parameter.stream or not compatible(variable.wire_type, self._type):
            raise GraphError(
                f"{self._where} is annotated {describe(self._annotation)}, "
                f"but {variable!r} is {describe(variable.annotation)}"
            )

    def _check_literal(self, value: Any) -> Any:
        try:
            validate_value(self._type, without_schemas(value), "")
            revive = reviver(self._annotation)
            return value if revive is None else revive(value, "")
        except (SchemaViolation, InvalidInput) as error:
            raise GraphError(
                f"{self._where} is annotated {describe(self._annotation)}: {error}"
            ) from None


def _variables(value: Any) -> Iterator[GraphVariable]:
    found: list[GraphVariable] = []

    def note(item: Any) -> Any:
        if type(item) is GraphVariable:
            found.append(item)
        return item

    replace(value, note)
    yield from found


def _check_startup(value: Any, where: str) -> None:
    for variable in _variables(value):
        if not variable.at_startup:
            raise GraphError(
                f"{where}: {variable!r} has a value only in a run, but this pipe runs on startup; "
                "it takes constants, Files and outputs of other startup pipes"
            )


def result_annotations(function: Callable[..., Any]) -> tuple[Any, tuple[Any, ...] | None]:
    """Return a pipe's return annotation, and its parts if it is a tuple of fixed length."""
    annotation = pipe_annotations(function).get("return", inspect.Parameter.empty)
    annotation = stream_annotation(function, annotation)
    arguments = typing.get_args(annotation)
    fixed = typing.get_origin(annotation) is tuple and Ellipsis not in arguments
    return annotation, arguments if fixed and arguments and arguments != ((),) else None
