"""Makes pydantic validators of wire types. Part of ``pipelined_api.schema``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from pydantic_core import (
    PydanticCustomError,
    PydanticKnownError,
    SchemaError,
    SchemaValidator,
    ValidationError,
    core_schema,
)
from pydantic_core.core_schema import CoreSchema

from pipelined_api.v1.schema_pb2 import Constraints, Parameter, Type
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value
from pipelined_api.wire_values import (
    SchemaViolation,
    StandIn,
    WireBytes,
    WireDirectory,
    WireFile,
    WireTensor,
    is_image,
    plain,
)

DecodeDefault: TypeAlias = Callable[[Value], object]

_INT64 = {"ge": -(2**63), "le": 2**63 - 1}
_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTHS = ("min_length", "max_length")
_APPLICABLE: dict[Type.Kind.ValueType, tuple[str, ...]] = {
    Type.KIND_INT: (*_NUMBERS, "choices"),
    Type.KIND_FLOAT: (*_NUMBERS, "choices"),
    Type.KIND_STRING: (*_LENGTHS, "pattern", "choices"),
    Type.KIND_BYTES: (*_LENGTHS, "choices"),
    Type.KIND_LIST: (*_LENGTHS, "choices"),
    Type.KIND_TUPLE: (*_LENGTHS, "choices"),
    Type.KIND_MAP: (*_LENGTHS, "choices"),
}

# Class of an array or a file, by module and name.
_NUMPY = ("numpy", "ndarray")
_TORCH = ("torch", "Tensor")
_IMAGE = ("PIL.Image", "Image")
_FILE = ("pipeline.objects.files", "File")
_DIRECTORY = ("pipeline.objects.directories", "Directory")
_CALLED = {
    _NUMPY: "a numpy array",
    _TORCH: "a torch tensor",
    _IMAGE: "a PIL image",
    _FILE: "a File",
    _DIRECTORY: "a Directory",
    ("numpy", "generic"): "a numpy scalar",
}


def called(value: object) -> str:
    """Say what kind of value this is, as its user would; what stands for it is called the same."""
    if value is None:
        return "None"
    if isinstance(value, StandIn):
        return value.called
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (float, memoryview, bytearray)):
        # Such as numpy.float64; they cross the wire as float and as bytes.
        return "float" if isinstance(value, float) else "bytes"
    for name in _class_names(value):
        if name in _CALLED:
            scalar = name == _NUMPY and getattr(value, "shape", None) == ()
            return "a numpy scalar" if scalar else _CALLED[name]
    return type(value).__name__


def _class_names(value: object) -> list[tuple[str, str]]:
    return [(base.__module__, base.__qualname__) for base in type(value).__mro__]


@lru_cache(maxsize=1024)
def _compiled(type_bytes: bytes, decode_default: DecodeDefault) -> SchemaValidator:
    try:
        return SchemaValidator(_core(Type.FromString(type_bytes), decode_default))
    except SchemaError as error:
        raise SchemaViolation("", f"constraints that make no sense: {error}") from None


def validator(type_: Type, decode_default: DecodeDefault) -> SchemaValidator:
    """Make the validator of a wire type, or find it again.

    Raises:
        SchemaViolation: the type makes no sense.

    """
    return _compiled(type_.SerializeToString(deterministic=True), decode_default)


def _core(type_: Type, decode_default: DecodeDefault) -> CoreSchema:
    build = _BUILDERS.get(type_.kind)
    if build is None:
        raise SchemaViolation("", f"unknown kind of type {type_.kind}")
    bounds = _bounds(type_)
    choices = bounds.pop("choices", None)
    schema = build(type_, bounds, decode_default)
    return schema if choices is None else _with_choices(schema, choices)


def _bounds(type_: Type) -> dict[str, Any]:
    constraints: Constraints = type_.constraints
    bounds: dict[str, Any] = {}
    for name in _NUMBERS:
        if constraints.HasField(name):  # type: ignore[arg-type]  # the stub wants literals
            number = plain(getattr(constraints, name), name)
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise SchemaViolation("", f"{name} is not a number")
            bounds[name] = number
    for name in _LENGTHS:
        if constraints.HasField(name):  # type: ignore[arg-type]  # the stub wants literals
            bounds[name] = getattr(constraints, name)
    if constraints.pattern:
        bounds["pattern"] = constraints.pattern
    if constraints.choices:
        bounds["choices"] = [plain(choice, "choices") for choice in constraints.choices]
    for name in bounds:
        if name not in _APPLICABLE.get(type_.kind, ("choices",)):
            raise SchemaViolation("", f"{name} does not apply to {_kind_name(type_)}")
    return bounds


def _with_choices(schema: CoreSchema, choices: list[object]) -> CoreSchema:
    return core_schema.no_info_after_validator_function(one_of(choices), schema)


def one_of(choices: Sequence[object]) -> Callable[[Any], Any]:
    """Make a validator that lets pass what is one of these."""
    shown = ", ".join(repr(choice) for choice in choices)

    def check(value: Any) -> Any:
        # Equality alone would let True pass for 1.
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return value
        raise PydanticCustomError(
            "choices", "Input should be one of {choices}", {"choices": f"[{shown}]"}
        )

    return check


def _int(type_: Type, bounds: dict[str, Any], _: DecodeDefault) -> CoreSchema:
    for name, bound in bounds.items():
        if bound != int(bound):
            raise SchemaViolation("", f"{name}={bound} is no bound for an int")
    limits: dict[str, Any] = {name: int(bound) for name, bound in bounds.items()}
    limits["ge"] = max(limits.get("ge", _INT64["ge"]), _INT64["ge"])
    limits["le"] = min(limits.get("le", _INT64["le"]), _INT64["le"])
    return core_schema.int_schema(strict=True, **limits)


def _float(_: Type, bounds: dict[str, Any], __: DecodeDefault) -> CoreSchema:
    schema = core_schema.float_schema(strict=True, **bounds)
    if "multiple_of" not in bounds:
        return schema

    def check(value: float) -> float:
        # The remainder of neither is above anything, which is what pydantic looks for.
        if math.isfinite(value):
            return value
        raise PydanticKnownError("multiple_of", {"multiple_of": bounds["multiple_of"]})

    return core_schema.no_info_after_validator_function(check, schema)


def _bytes(_: Type, bounds: dict[str, Any], __: DecodeDefault) -> CoreSchema:
    least, most = bounds.get("min_length", 0), bounds.get("max_length")

    def check(value: object, here: Callable[[object], object]) -> object:
        if not isinstance(value, WireBytes):
            return here(value)
        if value.size < least:
            raise PydanticKnownError("bytes_too_short", {"min_length": least})
        if most is not None and value.size > most:
            raise PydanticKnownError("bytes_too_long", {"max_length": most})
        return value

    return core_schema.no_info_wrap_validator_function(
        check, core_schema.bytes_schema(strict=True, **bounds)
    )


def _list(type_: Type, bounds: dict[str, Any], decode_default: DecodeDefault) -> CoreSchema:
    if len(type_.arguments) > 1:
        raise SchemaViolation("", "a list has one element type")
    items = _core(type_.arguments[0], decode_default) if type_.arguments else None
    return core_schema.list_schema(items, strict=True, **bounds)


def _tuple(type_: Type, bounds: dict[str, Any], decode_default: DecodeDefault) -> CoreSchema:
    items = [_core(argument, decode_default) for argument in type_.arguments]
    if type_.variadic:
        if len(items) > 1:
            raise SchemaViolation("", "a tuple of any length has one element type")
        schema = core_schema.tuple_schema(
            items or [core_schema.any_schema()], variadic_item_index=0, strict=True, **bounds
        )
    elif bounds:
        raise SchemaViolation("", "a tuple of fixed length has no bounds on its length")
    else:
        schema = core_schema.tuple_schema(items, strict=True)
    # Other languages have lists only.
    return core_schema.no_info_before_validator_function(
        lambda value: tuple(value) if type(value) is list else value, schema
    )


def _map(type_: Type, bounds: dict[str, Any], decode_default: DecodeDefault) -> CoreSchema:
    if len(type_.arguments) > 1:
        raise SchemaViolation("", "a map has one value type")
    values = _core(type_.arguments[0], decode_default) if type_.arguments else None
    return core_schema.dict_schema(
        core_schema.str_schema(strict=True), values, strict=True, **bounds
    )


def _object(type_: Type, _: dict[str, Any], decode_default: DecodeDefault) -> CoreSchema:
    fields: dict[str, core_schema.TypedDictField] = {}
    for field in type_.fields:
        if not field.name or field.name in fields:
            raise SchemaViolation("", f"field name {field.name!r} is empty or taken")
        fields[field.name] = _field(field, decode_default)
    return core_schema.typed_dict_schema(fields, strict=True, extra_behavior="forbid")


def _field(field: Parameter, decode_default: DecodeDefault) -> core_schema.TypedDictField:
    schema = _core(field.type, decode_default)
    if field.optional:
        schema = core_schema.nullable_schema(schema)
    if not field.HasField("default_value"):
        # One that is left out stays left out: the class behind the object knows what that means.
        return core_schema.typed_dict_field(schema, required=not field.optional)
    default = Value.FromString(field.default_value.SerializeToString())
    return core_schema.typed_dict_field(
        core_schema.with_default_schema(schema, default_factory=lambda: decode_default(default))
    )


def _union(type_: Type, _: dict[str, Any], decode_default: DecodeDefault) -> CoreSchema:
    # What is more special first: an int stays an int where a float is allowed too.
    arguments = sorted(type_.arguments, key=lambda argument: _PRECEDENCE.get(argument.kind, 0))
    if not arguments:
        raise SchemaViolation("", "a union of nothing")
    some = [argument for argument in arguments if argument.kind != Type.KIND_NULL]
    if not some:
        return core_schema.none_schema()
    if len(some) == 1:
        schema = _core(some[0], decode_default)
    else:
        expected = " or ".join(_kind_name(argument) for argument in some)
        schema = core_schema.no_info_plain_validator_function(
            _first_that_fits(
                [SchemaValidator(_core(argument, decode_default)) for argument in some], expected
            )
        )
    return core_schema.nullable_schema(schema) if len(some) < len(arguments) else schema


def _first_that_fits(
    alternatives: Sequence[SchemaValidator], expected: str
) -> Callable[[object], object]:
    def check(value: object) -> object:
        nearest: ValidationError | None = None
        for alternative in alternatives:
            result, error = _attempt(alternative, value)
            if error is None:
                return result
            details = error.errors(include_url=False)[0]
            # Of the right kind but wrong within: that is what the caller wants to read about.
            if details["loc"] or not details["type"].endswith("_type"):
                nearest = nearest or error
        if nearest is not None:
            raise nearest
        raise PydanticCustomError("union_type", f"Input should be {expected}")

    return check


def _attempt(alternative: SchemaValidator, value: object) -> tuple[object, ValidationError | None]:
    try:
        return alternative.validate_python(value), None
    except ValidationError as error:
        return None, error


def _kind_name(type_: Type) -> str:
    return type_.name or Type.Kind.Name(type_.kind).removeprefix("KIND_").lower()


def _of_class(
    names: Sequence[tuple[str, str]], fits: Callable[[object], bool]
) -> Callable[[Type, dict[str, Any], DecodeDefault], CoreSchema]:
    """Accept instances of classes known by name only, and what stands for them."""
    what = _CALLED[names[0]]

    def check(value: object) -> object:
        cls = type(value)
        # The class itself is what most values are of; its bases are only asked for if it is not.
        if (
            fits(value)
            or (cls.__module__, cls.__qualname__) in names
            or any(name in names for name in _class_names(value))
        ):
            return value
        raise PydanticCustomError(f"{what}_type", f"Input should be {what}")

    return lambda *_: core_schema.no_info_plain_validator_function(check)


def _tensor_of(container: Tensor.Container.ValueType) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        # A sender in another language leaves the container open.
        return isinstance(value, WireTensor) and (
            value.container in (container, Tensor.CONTAINER_UNSPECIFIED)
        )

    return fits


def _fits_image(value: object) -> bool:
    if not isinstance(value, WireTensor) or not is_image(value.dtype, value.shape):
        return False
    # Of no named library it is an array, of which the worker makes an image if it is uint8.
    return value.container == Tensor.CONTAINER_IMAGE or (
        value.container == Tensor.CONTAINER_UNSPECIFIED and value.dtype == DataType.DATA_TYPE_UINT8
    )


_BUILDERS: dict[
    Type.Kind.ValueType, Callable[[Type, dict[str, Any], DecodeDefault], CoreSchema]
] = {
    Type.KIND_ANY: lambda *_: core_schema.any_schema(),
    Type.KIND_NULL: lambda *_: core_schema.none_schema(),
    Type.KIND_BOOL: lambda *_: core_schema.bool_schema(strict=True),
    Type.KIND_INT: _int,
    Type.KIND_FLOAT: _float,
    Type.KIND_STRING: lambda _, bounds, __: core_schema.str_schema(strict=True, **bounds),
    Type.KIND_BYTES: _bytes,
    Type.KIND_LIST: _list,
    Type.KIND_TUPLE: _tuple,
    Type.KIND_MAP: _map,
    Type.KIND_OBJECT: _object,
    Type.KIND_UNION: _union,
    Type.KIND_NUMPY: _of_class([_NUMPY], _tensor_of(Tensor.CONTAINER_NUMPY)),
    # A sender without torch or PIL gives a plain array; the worker converts it.
    Type.KIND_TORCH: _of_class([_TORCH, _NUMPY], _tensor_of(Tensor.CONTAINER_TORCH)),
    Type.KIND_IMAGE: _of_class([_IMAGE, _NUMPY], _fits_image),
    Type.KIND_FILE: _of_class([_FILE], lambda value: isinstance(value, WireFile)),
    Type.KIND_DIRECTORY: _of_class([_DIRECTORY], lambda value: isinstance(value, WireDirectory)),
}

_PRECEDENCE: dict[Type.Kind.ValueType, int] = {
    Type.KIND_ANY: 3,
    Type.KIND_FLOAT: 2,
    Type.KIND_TUPLE: 2,
    Type.KIND_MAP: 2,
}
