"""Python values to wire values and back, without pickle.

numpy, torch and PIL are looked up, not imported, to encode: an array of a library that nobody
imported cannot exist. They are imported to decode what came from them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline import _arrays
from pipeline.errors import SerialisationError
from pipelined_api.limits import MAX_INLINE_FILE_BYTES
from pipelined_api.v1 import values_pb2
from pipelined_api.v1.values_pb2 import Tensor, Value
from pipelined_api.wire_values import MAX_DEPTH, SchemaViolation, check_file, check_tensor

if TYPE_CHECKING:
    from pipeline.objects.files import File

__all__ = ["IntegerTooLarge", "Opened", "Stored", "decode", "encode"]

Stored = Callable[["File"], str]
"""Takes care of a File that is too large for a message; returns its hexadecimal SHA-256."""
Opened = Callable[[values_pb2.File], "File"]
"""Makes a File of a wire value that refers to its content."""

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


class IntegerTooLarge(SerialisationError):
    """An int beyond 64 bits.

    Attributes:
        bound: the limit that it breaks.

    """

    def __init__(self, value: int, subject: str) -> None:
        self.bound = f"le={_MAX_INT64}" if value > 0 else f"ge={_MIN_INT64}"
        super().__init__(
            f"{subject}: an int of {_signed_bits(value)} bits; 64 bits is the limit ({self.bound})",
            subject=subject,
        )


def _signed_bits(value: int) -> int:
    return (value if value >= 0 else ~value).bit_length() + 1


def encode(value: object, subject: str = "value", *, stored: Stored | None = None) -> Value:
    """Make a wire value.

    Args:
        value: None, bool, int of 64 bits, float, str, bytes, list, tuple, dict with str keys, numpy
            array, torch tensor, PIL image, File, InputSchema (as a map), or these nested.
        subject: what to call the value in errors, such as ``"outputs[0]"``.
        stored: takes each File too large for a message, and returns its hexadecimal SHA-256, to
            which the wire value then refers; None puts every content into the value.

    Raises:
        SerialisationError: the value, or one inside it, is of another type; its ``subject`` is the
            path.

    """
    result = Value()
    _encode(value, subject, result, MAX_DEPTH, stored)
    return result


def _encode(value: object, subject: str, result: Value, depth: int, stored: Stored | None) -> None:
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
            _encode(item, f"{subject}[{index}]", result.list_value.items.add(), depth - 1, stored)
    elif isinstance(value, dict):
        _check_depth(subject, depth)
        _encode_map(value, subject, result, depth, stored)
    else:
        _encode_object(value, subject, result, depth, stored)


def _encode_object(
    value: object, subject: str, result: Value, depth: int, stored: Stored | None
) -> None:
    if (tensor := _arrays.encode(value, subject)) is not None:
        result.tensor_value.CopyFrom(tensor)
        return
    files = sys.modules.get("pipeline.objects.files")
    if files is not None and isinstance(value, files.File):
        _encode_file(value, subject, result, stored)
        return
    schemas = sys.modules.get("pipeline._graph.input_schema")
    if schemas is not None and isinstance(value, schemas.InputSchema):
        _check_depth(subject, depth)
        _encode_map(schemas.given_fields(value), subject, result, depth, stored)
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


def _encode_map(
    value: dict[object, object],
    subject: str,
    result: Value,
    depth: int,
    stored: Stored | None,
) -> None:
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
        _encode(item, f"{subject}.{key}", entry.value, depth - 1, stored)


def _encode_file(file: File, subject: str, result: Value, stored: Stored | None) -> None:
    wire = result.file_value
    wire.name = file.name
    wire.media_type = file.media_type
    if stored is not None and (size := file.size) > MAX_INLINE_FILE_BYTES:
        wire.size = size
        try:
            wire.sha256 = bytes.fromhex(stored(file))
        except SerialisationError as error:
            raise SerialisationError(f"{subject}: {error}", subject=subject) from error
        wire.stored = True
        return
    content = file.read()
    wire.size = len(content)
    wire.sha256 = hashlib.sha256(content).digest()
    wire.data = content


def decode(value: Value, subject: str = "value", *, stored: Opened | None = None) -> object:
    """Make a Python value of a wire value; arrays come back as those of the library they came from.

    An array of no named library becomes a numpy array, or a torch tensor if numpy lacks its dtype.
    ``stored`` makes the Files whose content is not in the value.

    Raises:
        SerialisationError: the value is malformed, or refers to a content without ``stored``.
        ModuleNotFoundError: the library that it came from is not installed.

    """
    try:
        return _decode(value, subject, stored)
    except SchemaViolation as violation:
        raise SerialisationError(
            f"{violation.field}: {violation.message}", subject=violation.field
        ) from None


def _decode(value: Value, subject: str, stored: Opened | None) -> object:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        items = [
            _decode(item, f"{subject}[{index}]", stored)
            for index, item in enumerate(value.list_value.items)
        ]
        return tuple(items) if value.list_value.tuple else items
    if kind == "map_value":
        result: dict[str, object] = {}
        for entry in value.map_value.entries:
            if entry.key in result:
                raise SchemaViolation(f"{subject}.{entry.key}", "the key occurs twice")
            result[entry.key] = _decode(entry.value, f"{subject}.{entry.key}", stored)
        return result
    if kind == "tensor_value":
        tensor: Tensor = value.tensor_value
        check_tensor(tensor, subject)
        return _arrays.decode(tensor)
    if kind == "file_value":
        from pipeline.objects.files import File

        wire = value.file_value
        check_file(wire, subject)
        if wire.stored:
            if stored is None:
                raise SchemaViolation(subject, "refers to a content that is elsewhere")
            return stored(wire)
        return File.from_bytes(wire.data, name=wire.name, media_type=wire.media_type)
    if kind == "null_value":
        return None
    if kind is None:
        raise SchemaViolation(subject, "the value has no kind")
    scalar: object = getattr(value, kind)
    return scalar
