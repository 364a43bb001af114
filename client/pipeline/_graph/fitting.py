"""Whether the argument of a pipe fits its parameter's annotation, as far as a builder can tell."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

from pipeline._arguments import reviver, without_schemas
from pipeline._graph.annotations import describe, lenient_type, members
from pipeline._graph.compatibility import compatible
from pipeline._graph.input_schema import InputSchema
from pipeline._graph.nodes import replace
from pipeline._graph.streams import Stream
from pipeline._graph.variables import GraphVariable
from pipeline.errors import GraphError, InvalidInput
from pipelined_api.schema import SchemaViolation, validate_value
from pipelined_api.v1.schema_pb2 import Type

__all__ = ["Fitting", "variables_in"]


def variables_in(value: Any) -> list[GraphVariable]:
    """Return the Variables in an argument, at any depth of lists, tuples and dicts."""
    found: list[GraphVariable] = []

    def note(item: Any) -> Any:
        if type(item) is GraphVariable:
            found.append(item)
        return item

    replace(value, note)
    return found


class Fitting:
    """Checks what one parameter is given.

    What cannot be told while the graph is built passes: a Variable that may be None, values of
    unannotated pipes, what is inside generic classes that do not cross the wire.

    Args:
        annotation: the parameter's.
        name: the parameter's.
        where: file, line and pipe, for messages.

    """

    def __init__(self, annotation: Any, name: str, where: str) -> None:
        self._annotation = annotation
        self._name = name
        self._where = where

    def __call__(self, value: Any) -> Any:
        """Return the value, with instances of InputSchema classes made of literal dicts.

        Raises:
            GraphError: it does not fit.

        """
        return self._fit(value, self._annotation, "")

    def _fit(self, value: Any, annotation: Any, path: str) -> Any:
        if annotation is inspect.Parameter.empty:
            return value
        if type(value) is GraphVariable:
            if not _may_be(value, annotation):
                raise self._misfit(annotation, path, f"{value!r} is {describe(value.annotation)}")
            return value
        if variables_in(value):
            # Part of it has no value yet; the rest can be checked.
            return self._fit_container(value, annotation, path)
        type_ = lenient_type(annotation)
        if type_.kind == Type.KIND_ANY:
            classes = _classes(annotation)
            if classes is not None and not isinstance(value, classes):
                raise self._misfit(annotation, path, f"this is {type(value).__qualname__}")
            return value
        try:
            validate_value(type_, without_schemas(value), self._name + path)
            revive = reviver(annotation)
            return value if revive is None else revive(value, self._name + path)
        except (SchemaViolation, InvalidInput) as error:
            raise GraphError(
                f"{self._where}: parameter {self._name!r} is annotated "
                f"{describe(self._annotation)}: {error}"
            ) from None

    def _fit_container(self, value: Any, annotation: Any, path: str) -> Any:
        alternatives = members(annotation)
        if alternatives is not None:
            return self._fit_one_of(value, annotation, alternatives, path)
        if typing.get_origin(annotation) is typing.Annotated:
            return self._fit_container(value, annotation.__origin__, path)
        if isinstance(annotation, type) and issubclass(annotation, InputSchema):
            raise self._misfit(
                annotation, path, "a dict with Variables in it cannot become one; make it in a pipe"
            )
        kind = lenient_type(annotation).kind
        if kind not in (Type.KIND_ANY, *_KINDS[type(value)]):
            raise self._misfit(annotation, path, f"this is {type(value).__name__}")
        arguments = typing.get_args(annotation)
        if type(value) is dict:
            inner = arguments[1] if kind == Type.KIND_MAP and arguments else _UNKNOWN
            return {key: self._fit(item, inner, f"{path}.{key}") for key, item in value.items()}
        each = _item_annotations(kind, arguments, len(value))
        if each is None:
            raise self._misfit(annotation, path, f"this has {len(value)} items")
        return type(value)(
            self._fit(item, inner, f"{path}[{index}]")
            for index, (item, inner) in enumerate(zip(value, each, strict=True))
        )

    def _fit_one_of(
        self, value: Any, annotation: Any, alternatives: tuple[Any, ...], path: str
    ) -> Any:
        for alternative in alternatives:
            with contextlib.suppress(GraphError):
                return self._fit_container(value, alternative, path)
        raise self._misfit(annotation, path, "what this contains fits no part of that")

    def _misfit(self, annotation: Any, path: str, found: str) -> GraphError:
        return GraphError(
            f"{self._where}: parameter {self._name!r}{path} is annotated {describe(annotation)}, "
            f"but {found}"
        )


_UNKNOWN = inspect.Parameter.empty
# A list is accepted for a tuple, as it is in inputs.
_KINDS: dict[Any, tuple[Type.Kind.ValueType, ...]] = {
    list: (Type.KIND_LIST, Type.KIND_TUPLE),
    tuple: (Type.KIND_TUPLE,),
    dict: (Type.KIND_MAP,),
}


def _item_annotations(
    kind: Type.Kind.ValueType, arguments: tuple[Any, ...], count: int
) -> list[Any] | None:
    """Return the annotation of each item of a list or tuple; None if the count does not fit."""
    if not arguments or kind not in (Type.KIND_LIST, Type.KIND_TUPLE):
        return [_UNKNOWN] * count
    if kind == Type.KIND_LIST or arguments[1:] == (Ellipsis,):
        return [arguments[0]] * count
    return list(arguments) if len(arguments) == count else None


def _may_be(variable: GraphVariable, annotation: Any) -> bool:
    """Whether some value of a Variable fits an annotation."""
    type_ = lenient_type(annotation)
    stream = variable.parameter.stream
    if stream and type_.kind != Type.KIND_ANY:
        return False
    if type_.kind != Type.KIND_ANY and variable.wire_type.kind != Type.KIND_ANY:
        return compatible(variable.wire_type, type_)
    expected, given = _classes(annotation), _classes(variable.annotation)
    if stream:
        # A pipe gets a stream as the iterator that it is.
        given = (Iterator, Stream)
    if expected is None or given is None:
        return True
    return any(
        issubclass(one, other) or issubclass(other, one) for one in given for other in expected
    )


def _classes(annotation: Any) -> tuple[type, ...] | None:
    """Return the classes that values of an annotation are instances of; None if that is not all.

    Protocols and typed dicts promise a form, and no class.
    """
    result: list[type] = []
    for each in members(annotation) or (annotation,):
        each = type(None) if each is None else each
        each = typing.get_origin(each) or each
        if (
            not isinstance(each, type)
            or each in (Any, object, complex, inspect.Parameter.empty)
            or typing.is_typeddict(each)
            or getattr(each, "_is_protocol", False)
            or issubclass(each, InputSchema)
        ):
            return None
        # An int passes for a float.
        result += [float, int] if each is float else [each]
    return tuple(result)
