"""The wire schema as JSON Schema, as ``pipeline.schema`` describes it; wire types in words."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from typing import Any

from pipelined_api.v1.schema_pb2 import Parameter, Schema, Type
from pipelined_api.v1.values_pb2 import DataType, Value
from pipelined_api.wire_values import WireFile, WireTensor, plain

__all__ = ["document", "type_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_KEYWORDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
_LENGTHS: dict[Type.Kind.ValueType, tuple[str, str]] = {
    Type.KIND_STRING: ("minLength", "maxLength"),
    Type.KIND_BYTES: ("x-pipelined-min-length", "x-pipelined-max-length"),
    Type.KIND_LIST: ("minItems", "maxItems"),
    Type.KIND_TUPLE: ("minItems", "maxItems"),
    Type.KIND_MAP: ("minProperties", "maxProperties"),
}
_WORDS: dict[Type.Kind.ValueType, str] = {
    Type.KIND_ANY: "Any",
    Type.KIND_NULL: "None",
    Type.KIND_BOOL: "bool",
    Type.KIND_INT: "int",
    Type.KIND_FLOAT: "float",
    Type.KIND_STRING: "str",
    Type.KIND_BYTES: "bytes",
    Type.KIND_NUMPY: "numpy.ndarray",
    Type.KIND_TORCH: "torch.Tensor",
    Type.KIND_IMAGE: "PIL.Image.Image",
    Type.KIND_FILE: "File",
}
_BASE64 = {"type": "string", "contentEncoding": "base64"}


def document(schema: Schema) -> dict[str, Any]:
    """Make the JSON Schema of inputs, and of each output."""
    return {
        "inputs": {"$schema": _DIALECT, **_object(schema.inputs)},
        "outputs": [
            {"name": each.name, "stream": each.stream, "schema": _described(each)}
            for each in schema.outputs
        ],
    }


def type_text(type_: Type) -> str:
    """Write a type as Python does."""
    arguments = [type_text(argument) for argument in type_.arguments]
    match type_.kind:
        case Type.KIND_LIST:
            return f"list[{arguments[0]}]" if arguments else "list"
        case Type.KIND_MAP:
            return f"dict[str, {arguments[0]}]" if arguments else "dict"
        case Type.KIND_TUPLE if type_.variadic:
            return f"tuple[{arguments[0]}, ...]" if arguments else "tuple"
        case Type.KIND_TUPLE:
            return f"tuple[{', '.join(arguments) or '()'}]"
        case Type.KIND_UNION:
            return " | ".join(arguments)
        case Type.KIND_OBJECT:
            return type_.name or "object"
    return _WORDS.get(type_.kind) or _kind(type_)


def _kind(type_: Type) -> str:
    known = Type.Kind.DESCRIPTOR.values_by_number.get(type_.kind)
    return "unknown" if known is None else known.name.removeprefix("KIND_").lower()


def _object(fields: Iterable[Parameter]) -> dict[str, Any]:
    fields = list(fields)
    return {
        "type": "object",
        "properties": {field.name: _described(field) for field in fields},
        "required": [
            field.name
            for field in fields
            if not field.optional and not field.HasField("default_value")
        ],
        "additionalProperties": False,
        "x-order": [field.name for field in fields],
    }


def _described(parameter: Parameter) -> dict[str, Any]:
    result = _type(parameter.type)
    if parameter.optional:
        result = _with_null(result)
    if parameter.title:
        result["title"] = parameter.title
    if parameter.description:
        result["description"] = parameter.description
    if parameter.HasField("default_value"):
        found, default = _json(plain(parameter.default_value), parameter.default_value)
        if found:
            result["default"] = default
    return result


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema or schema.get("type") == "null":
        return schema
    null = {"type": "null"}
    if set(schema) == {"anyOf"}:
        return schema if null in schema["anyOf"] else {"anyOf": [*schema["anyOf"], null]}
    return {"anyOf": [schema, null]}


def _type(type_: Type) -> dict[str, Any]:
    # A newer daemon may know kinds that this library does not: any value may be right for them.
    build = _BUILDERS.get(type_.kind)
    result = {"x-pipelined-kind": _kind(type_)} if build is None else build(type_)
    result |= _bounds(type_)
    if not type_.constraints.choices:
        return result
    found = [_json(plain(choice), choice) for choice in type_.constraints.choices]
    return {**result, "enum": [choice for is_json, choice in found if is_json]}


def _bounds(type_: Type) -> dict[str, Any]:
    constraints = type_.constraints
    result: dict[str, Any] = {}
    for name, keyword in _KEYWORDS.items():
        if constraints.HasField(name):  # type: ignore[arg-type]  # the stub wants literals
            bound: Any = plain(getattr(constraints, name))
            # Nothing in JSON is beyond an infinite bound.
            if math.isfinite(bound):
                result[keyword] = bound
    if type_.kind == Type.KIND_INT:
        result["minimum"] = max(result.get("minimum", _MIN_INT64), _MIN_INT64)
        result["maximum"] = min(result.get("maximum", _MAX_INT64), _MAX_INT64)
    least, most = _LENGTHS.get(type_.kind, ("", ""))
    if constraints.HasField("min_length"):
        result[least] = constraints.min_length
    if constraints.HasField("max_length"):
        result[most] = constraints.max_length
    if constraints.pattern:
        result["pattern"] = constraints.pattern
    return result


def _json(value: object, wire: Value) -> tuple[bool, Any]:
    """Return whether JSON has the value, and its form there."""
    if isinstance(value, (WireTensor, WireFile)):
        return False, None
    if isinstance(value, float) and not math.isfinite(value):
        return False, None
    if isinstance(value, bytes):
        return True, base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        items = [_json(*each) for each in zip(value, wire.list_value.items, strict=True)]
        return all(found for found, _ in items), [item for _, item in items]
    if isinstance(value, dict):
        entries = {
            entry.key: _json(value[entry.key], entry.value) for entry in wire.map_value.entries
        }
        return (
            all(found for found, _ in entries.values()),
            {key: item for key, (_, item) in entries.items()},
        )
    return True, value


def _list(type_: Type) -> dict[str, Any]:
    items = {"items": _type(type_.arguments[0])} if type_.arguments else {}
    return {"type": "array", **items}


def _tuple(type_: Type) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "array", "x-pipelined-kind": "tuple"}
    if type_.variadic:
        return {**result, "items": _type(type_.arguments[0])} if type_.arguments else result
    count = len(type_.arguments)
    items = {"prefixItems": [_type(argument) for argument in type_.arguments]} if count else {}
    return {**result, **items, "items": False, "minItems": count, "maxItems": count}


def _map(type_: Type) -> dict[str, Any]:
    values = {"additionalProperties": _type(type_.arguments[0])} if type_.arguments else {}
    return {"type": "object", **values}


def _object_type(type_: Type) -> dict[str, Any]:
    return {**({"title": type_.name} if type_.name else {}), **_object(type_.fields)}


def _union(type_: Type) -> dict[str, Any]:
    return {"anyOf": [_type(argument) for argument in type_.arguments]}


def _tensor(type_: Type) -> dict[str, Any]:
    names = [name.removeprefix("DATA_TYPE_").lower() for name in DataType.keys()]  # noqa: SIM118
    image = type_.kind == Type.KIND_IMAGE
    return {
        "type": "object",
        "x-pipelined-kind": _kind(type_),
        "properties": {
            "dtype": {"const": "uint8"} if image else {"enum": names[1:]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": dict(_BASE64),
        },
        "required": ["dtype", "shape", "data"],
        "additionalProperties": False,
    }


def _file(_: Type) -> dict[str, Any]:
    return {
        "type": "object",
        "x-pipelined-kind": "file",
        "properties": {
            "name": {"type": "string"},
            "media_type": {"type": "string"},
            "data": dict(_BASE64),
        },
        "required": ["name", "data"],
        "additionalProperties": False,
    }


def _simple(name: str) -> Callable[[Type], dict[str, Any]]:
    return lambda _: {"type": name}


_BUILDERS: dict[Type.Kind.ValueType, Callable[[Type], dict[str, Any]]] = {
    Type.KIND_ANY: lambda _: {},
    Type.KIND_NULL: _simple("null"),
    Type.KIND_BOOL: _simple("boolean"),
    Type.KIND_INT: _simple("integer"),
    Type.KIND_FLOAT: _simple("number"),
    Type.KIND_STRING: _simple("string"),
    Type.KIND_BYTES: lambda _: {**_BASE64, "x-pipelined-kind": "bytes"},
    Type.KIND_LIST: _list,
    Type.KIND_TUPLE: _tuple,
    Type.KIND_MAP: _map,
    Type.KIND_OBJECT: _object_type,
    Type.KIND_UNION: _union,
    Type.KIND_NUMPY: _tensor,
    Type.KIND_TORCH: _tensor,
    Type.KIND_IMAGE: _tensor,
    Type.KIND_FILE: _file,
}
