"""Python values to wire values and back, without pickle.

numpy, torch and PIL are looked up, not imported, to encode: an array of a library that nobody
imported cannot exist. They are imported to decode what came from them.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from pipeline import _arrays
from pipeline.errors import SerialisationError
from pipelined_api.v1.values_pb2 import Tensor, Value
from pipelined_api.wire_values import MAX_DEPTH, SchemaViolation, check_file, check_tensor

if TYPE_CHECKING:
    from pipeline.objects.files import File

__all__ = ["IntegerTooLarge", "decode", "encode"]

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


class IntegerTooLarge(SerialisationError):
    """An int beyond 64 bits.

    Attributes:
        bound: the limit that it breaks.

    """

    def __init__(self, value: int, subject: str) -> None:
        self.bound = f"le={_MAX_INT64}" if value > 0 else f"ge={_MIN_INT64}"
        super().__init__(
            f"{subject}: an int of {value.bit_length()} bits; 64 bits is the limit ({self.bound})",
            subject=subject,
        )


def encode(value: object, subject: str = "value") -> Value:
    """Make a wire value.

    Args:
        value: None, bool, int of 64 bits, float, str, bytes, list, tuple, dict with str keys, numpy
            array, torch tensor, PIL image, File, InputSchema (as a map), or these nested.
        subject: what to call the value in errors, such as ``"outputs[0]"``.

    Raises:
        SerialisationError: the value, or one inside it, is of another type; its ``subject`` is the
            path.

    """
    result = Value()
    _encode(value, subject, result, MAX_DEPTH)
    return result


def _encode(value: object, subject: str, result: Value, depth: int) -> None:
    if value is None:
        result.null_value = 0  # type: ignore[assignment]  # NULL_VALUE, without its module
    elif isinstance(value, bool):
        result.bool_value = value
    elif isinstance(value, int):
        if not _MIN_INT64 <= value <= _MAX_INT64:
            raise IntegerTooLarge(value, subject)
        result.int_value = value
    elif isinstance(value, float):
        result.double_value = value
    elif isinstance(value, str):
        _encode_string(value, subject, result)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        result.bytes_value = bytes(value)
    elif isinstance(value, (list, tuple)):
        _check_depth(subject, depth)
        result.list_value.tuple = isinstance(value, tuple)
        for index, item in enumerate(value):
            _encode(item, f"{subject}[{index}]", result.list_value.items.add(), depth - 1)
    elif isinstance(value, dict):
        _check_depth(subject, depth)
        _encode_map(value, subject, result, depth)
    else:
        _encode_object(value, subject, result, depth)


def _encode_object(value: object, subject: str, result: Value, depth: int) -> None:
    if (tensor := _arrays.encode(value, subject)) is not None:
        result.tensor_value.CopyFrom(tensor)
        return
    files = sys.modules.get("pipeline.objects.files")
    if files is not None and isinstance(value, files.File):
        _encode_file(value, result)
        return
    schemas = sys.modules.get("pipeline._graph.input_schema")
    if schemas is not None and isinstance(value, schemas.InputSchema):
        _check_depth(subject, depth)
        _encode_map(schemas.given_fields(value), subject, result, depth)
        return
    raise SerialisationError(
        f"{subject}: {_name(value)} cannot cross the wire; give it as None, bool, int, float, str, "
        "bytes, list, tuple, dict, numpy array, torch tensor, PIL image or File",
        subject=subject,
    )


def _name(value: object) -> str:
    cls = type(value)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _check_depth(subject: str, depth: int) -> None:
    if depth == 0:
        raise SerialisationError(f"{subject}: nested more than {MAX_DEPTH} deep", subject=subject)


def _encode_string(value: str, subject: str, result: Value) -> None:
    try:
        result.string_value = str(value)
    except UnicodeError:
        raise SerialisationError(
            f"{subject}: the string has half of a surrogate pair, which is no Unicode text",
            subject=subject,
        ) from None


def _encode_map(value: dict[object, object], subject: str, result: Value, depth: int) -> None:
    result.map_value.SetInParent()
    for key, item in value.items():
        if not isinstance(key, str):
            raise SerialisationError(
                f"{subject}: keys are strings, not {_name(key)}", subject=subject
            )
        entry = result.map_value.entries.add()
        try:
            entry.key = key
        except UnicodeError:
            raise SerialisationError(
                f"{subject}: key {key!r} is no text", subject=subject
            ) from None
        _encode(item, f"{subject}.{key}", entry.value, depth - 1)


def _encode_file(file: File, result: Value) -> None:
    content = file.read()
    wire = result.file_value
    wire.name = file.name
    wire.media_type = file.media_type
    wire.size = len(content)
    wire.sha256 = hashlib.sha256(content).digest()
    wire.data = content


def decode(value: Value, subject: str = "value") -> object:
    """Make a Python value of a wire value; arrays come back as those of the library they came from.

    An array of no named library becomes a numpy array, or a torch tensor if numpy lacks its dtype.

    Raises:
        SerialisationError: the value is malformed.
        ModuleNotFoundError: the library that it came from is not installed.

    """
    try:
        return _decode(value, subject)
    except SchemaViolation as violation:
        raise SerialisationError(
            f"{violation.field}: {violation.message}", subject=violation.field
        ) from None


def _decode(value: Value, subject: str) -> object:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        items = [
            _decode(item, f"{subject}[{index}]")
            for index, item in enumerate(value.list_value.items)
        ]
        return tuple(items) if value.list_value.tuple else items
    if kind == "map_value":
        result: dict[str, object] = {}
        for entry in value.map_value.entries:
            if entry.key in result:
                raise SchemaViolation(f"{subject}.{entry.key}", "the key occurs twice")
            result[entry.key] = _decode(entry.value, f"{subject}.{entry.key}")
        return result
    if kind == "tensor_value":
        tensor: Tensor = value.tensor_value
        check_tensor(tensor, subject)
        return _arrays.decode(tensor)
    if kind == "file_value":
        from pipeline.objects.files import File

        wire = value.file_value
        check_file(wire, subject)
        return File.from_bytes(wire.data, name=wire.name, media_type=wire.media_type)
    if kind == "null_value":
        return None
    if kind is None:
        raise SchemaViolation(subject, "the value has no kind")
    scalar: object = getattr(value, kind)
    return scalar
