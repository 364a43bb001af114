"""Python's type annotations as wire types."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pipeline._graph.closures import closure
from pipeline._graph.constraints import constrain, literal_constraints
from pipelined_api.v1.schema_pb2 import Type

__all__ = [
    "NotAWireType",
    "describe",
    "is_unannotated",
    "kind_of_class",
    "lenient_type",
    "members",
    "pipe_annotations",
    "wire_type",
]

_SCALARS: dict[Any, Type.Kind.ValueType] = {
    type(None): Type.KIND_NULL,
    None: Type.KIND_NULL,
    bool: Type.KIND_BOOL,
    int: Type.KIND_INT,
    float: Type.KIND_FLOAT,
    str: Type.KIND_STRING,
    bytes: Type.KIND_BYTES,
    bytearray: Type.KIND_BYTES,
    Any: Type.KIND_ANY,
    object: Type.KIND_ANY,
    inspect.Parameter.empty: Type.KIND_ANY,
}
# By name, so that nothing here imports them.
_CLASSES = {
    ("numpy", "ndarray"): Type.KIND_NUMPY,
    ("torch", "Tensor"): Type.KIND_TORCH,
    ("PIL.Image", "Image"): Type.KIND_IMAGE,
    ("pipeline.objects.files", "File"): Type.KIND_FILE,
    ("pipeline.objects.directories", "Directory"): Type.KIND_DIRECTORY,
}
_UNIONS: tuple[Any, ...] = (typing.Union, types.UnionType)
_MAX_DEPTH = 16


class NotAWireType(TypeError):
    """An annotation of something that cannot cross the wire."""


def describe(annotation: Any) -> str:
    """Name an annotation for a message."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def is_unannotated(annotation: Any) -> bool:
    """Whether there is no annotation."""
    return annotation is inspect.Parameter.empty


def members(annotation: Any) -> tuple[Any, ...] | None:
    """Return the alternatives of a union; None if it is none."""
    return typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else None


def kind_of_class(cls: type) -> Type.Kind.ValueType | None:
    """Return the kind of an array, image or file class, or of a class derived from one."""
    for base in cls.__mro__:
        kind = _CLASSES.get((base.__module__, base.__qualname__))
        if kind is not None:
            return kind
    return None


def wire_type(annotation: Any, constraints: Mapping[str, object] | None = None) -> Type:
    """Make the wire type of an annotation.

    Raises:
        NotAWireType: values of it cannot cross the wire.
        ValueError: a constraint does not apply to it.

    """
    result = _convert(annotation, _MAX_DEPTH)
    if constraints:
        constrain(result, constraints)
    return result


def lenient_type(annotation: Any) -> Type:
    """Make the wire type of an annotation of a pipe, which may be of anything."""
    try:
        return wire_type(annotation)
    except (NotAWireType, ValueError):
        return Type(kind=Type.KIND_ANY)


def _convert(annotation: Any, depth: int) -> Type:
    if depth == 0:
        raise NotAWireType(f"{describe(annotation)} contains itself")
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        result = _convert(annotation.__origin__, depth)
        constrain(result, literal_constraints(annotation.__metadata__))
        return result
    if origin is typing.Literal:
        return _literal(typing.get_args(annotation))
    if origin in _UNIONS:
        return _union(typing.get_args(annotation), depth)
    try:
        kind = _SCALARS.get(annotation)
    except TypeError:
        kind = None
    if kind is not None:
        return Type(kind=kind)
    if isinstance(annotation, typing.TypeVar):
        return Type(kind=Type.KIND_ANY)
    if isinstance(annotation, typing.NewType):
        return _convert(annotation.__supertype__, depth)
    return _convert_class(annotation, origin or annotation, typing.get_args(annotation), depth)


def _convert_class(annotation: Any, cls: Any, arguments: tuple[Any, ...], depth: int) -> Type:
    if not isinstance(cls, type):
        raise NotAWireType(f"{describe(annotation)} is no type that can cross the wire")
    if cls is list:
        return Type(kind=Type.KIND_LIST, arguments=_each(arguments, depth))
    if cls is tuple:
        return _tuple(annotation, arguments, depth)
    if cls in (dict, typing.get_origin(Mapping[str, Any])):
        if arguments and arguments[0] not in (str, Any):
            raise NotAWireType(f"{describe(annotation)}: keys have to be str")
        return Type(kind=Type.KIND_MAP, arguments=_each(arguments[1:], depth))
    schemas = sys.modules.get("pipeline._graph.input_schema")
    if schemas is not None and issubclass(cls, schemas.InputSchema):
        return Type(
            kind=Type.KIND_OBJECT,
            name=cls.__name__,
            fields=schemas.fields_of(cls, lambda inner: _convert(inner, depth - 1)),
        )
    kind = kind_of_class(cls)
    if kind is None:
        raise NotAWireType(f"{describe(annotation)} cannot cross the wire")
    return Type(kind=kind)


def _each(arguments: tuple[Any, ...], depth: int) -> list[Type]:
    return [_convert(argument, depth - 1) for argument in arguments]


def _tuple(annotation: Any, arguments: tuple[Any, ...], depth: int) -> Type:
    if arguments == ((),):  # Tuple[()] up to Python 3.10
        arguments = ()
    elif not arguments and annotation in (tuple, typing.Tuple):  # noqa: UP006  # the bare form
        return Type(kind=Type.KIND_TUPLE, variadic=True)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return Type(kind=Type.KIND_TUPLE, arguments=_each(arguments[:1], depth), variadic=True)
    return Type(kind=Type.KIND_TUPLE, arguments=_each(arguments, depth))


def _union(arguments: tuple[Any, ...], depth: int) -> Type:
    alternatives = _each(arguments, depth)
    if any(alternative.kind == Type.KIND_ANY for alternative in alternatives):
        return Type(kind=Type.KIND_ANY)
    return Type(kind=Type.KIND_UNION, arguments=alternatives)


def _literal(values: tuple[Any, ...]) -> Type:
    by_class: dict[type, list[Any]] = {}
    for value in values:
        by_class.setdefault(type(value), []).append(value)
    alternatives = []
    for cls, choices in by_class.items():
        alternative = _convert(cls, 1)
        if cls is not type(None):
            constrain(alternative, {"choices": choices})
        alternatives.append(alternative)
    if len(alternatives) == 1:
        return alternatives[0]
    return Type(kind=Type.KIND_UNION, arguments=alternatives)


def pipe_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, with those that are strings evaluated.

    One whose names cannot be found, such as what is imported for type checkers only, is left out.
    """
    names = closure(function)
    namespace: dict[str, Any] = getattr(function, "__globals__", {})
    result: dict[str, Any] = {}
    for name, annotation in inspect.get_annotations(function).items():
        evaluated = _evaluated(annotation, namespace, names)
        if not is_unannotated(evaluated):
            result[name] = evaluated
    return result


def _evaluated(annotation: Any, names: dict[str, Any], inner: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names, inner)
    except Exception:
        return inspect.Parameter.empty
