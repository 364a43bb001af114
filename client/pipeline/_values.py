"""Python values to wire values and back, without pickle.

numpy, torch and PIL are looked up, not imported, to encode: an array of a library that nobody
imported cannot exist. They are imported to decode what came from them.
"""

from __future__ import annotations

import sys

from pipeline import _arrays
from pipeline._stored_values import (
    Opened,
    Stored,
    decode_directory,
    decode_file,
    encode_directory,
    encode_file,
    mapped,
    store,
    thin_out_file,
)
from pipeline.errors import SerialisationError
from pipelined_api.limits import MAX_CROWDED_INLINE_BYTES, MAX_INLINE_BYTES
from pipelined_api.v1.values_pb2 import Tensor, Value
from pipelined_api.wire_values import (
    MAX_DEPTH,
    SchemaViolation,
    as_file,
    check_directory,
    check_file,
    check_stored,
    check_tensor,
)

__all__ = [
    "IntegerTooLarge",
    "Opened",
    "Stored",
    "decode",
    "encode",
    "encode_into",
    "thin_out",
]

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
            array, torch tensor, PIL image, File, Directory, InputSchema (as a map), or these
            nested.
        subject: what to call the value in errors, such as ``"outputs[0]"``.
        stored: takes each content too large for a message, and returns its hexadecimal SHA-256, to
            which the wire value then refers; None puts every content into the value.

    Raises:
        SerialisationError: the value, or one inside it, is of another type; its ``subject`` is the
            path.

    """
    result = Value()
    _encode(value, subject, result, MAX_DEPTH, stored)
    return result


def encode_into(
    result: Value, value: object, subject: str = "value", *, stored: Stored | None = None
) -> None:
    """Do what ``encode`` does, for a wire value that is in a message already and has no kind."""
    _encode(value, subject, result, MAX_DEPTH, stored)


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
        _encode_bytes(value, subject, result, stored)
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
    if _arrays.encode_small(value, result, MAX_INLINE_BYTES):
        return
    if (array := _arrays.encode(value, subject)) is not None:
        tensor, data = array
        wire = result.tensor_value
        wire.CopyFrom(tensor)
        if stored is not None and len(data) > MAX_INLINE_BYTES:
            wire.stored.CopyFrom(store(data, "tensor", subject, stored))
        else:
            wire.data = bytes(data)
        return
    files = sys.modules.get("pipeline.objects.files")
    if files is not None and isinstance(value, files.File):
        encode_file(value, subject, result.file_value, stored)
        return
    directories = sys.modules.get("pipeline.objects.directories")
    if directories is not None and isinstance(value, directories.Directory):
        encode_directory(value, subject, result.directory_value, stored)
        return
    schemas = sys.modules.get("pipeline._graph.input_schema")
    if schemas is not None and isinstance(value, schemas.InputSchema):
        _check_depth(subject, depth)
        _encode_map(schemas.given_fields(value), subject, result, depth, stored)
        return
    raise SerialisationError(
        f"{subject}: {_name(value)} cannot cross the wire; give it as None, bool, int, float, str, "
        "bytes, list, tuple, dict, numpy array, torch tensor, PIL image, File or Directory",
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
        # A subclass such as an enum has a __str__ of its own, which need not give its text.
        result.string_value = str.__str__(value)
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


def _encode_bytes(
    value: bytes | bytearray | memoryview, subject: str, result: Value, stored: Stored | None
) -> None:
    view = memoryview(value)
    if stored is None or view.nbytes <= MAX_INLINE_BYTES:
        result.bytes_value = bytes(value)
        return
    if not view.c_contiguous:
        view = memoryview(bytes(value))
    result.stored_bytes_value.CopyFrom(store(view, "bytes", subject, stored))


def thin_out(value: Value, subject: str, stored: Stored) -> None:
    """Have what is large in a wire value go beside the message, which would be too large with it.

    Args:
        value: is changed.
        subject: what to call it in errors.
        stored: takes what goes; see ``encode``.

    Raises:
        SerialisationError: it does not take something.

    """
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        for index, item in enumerate(value.list_value.items):
            thin_out(item, f"{subject}[{index}]", stored)
    elif kind == "map_value":
        for entry in value.map_value.entries:
            thin_out(entry.value, f"{subject}.{entry.key}", stored)
    elif kind == "bytes_value":
        if len(value.bytes_value) > MAX_CROWDED_INLINE_BYTES:
            content = memoryview(value.bytes_value)
            value.stored_bytes_value.CopyFrom(store(content, "bytes", subject, stored))
    elif kind == "tensor_value":
        tensor = value.tensor_value
        if len(tensor.data) > MAX_CROWDED_INLINE_BYTES:
            tensor.stored.CopyFrom(store(memoryview(tensor.data), "tensor", subject, stored))
            tensor.ClearField("data")
    elif kind == "file_value":
        thin_out_file(value.file_value, subject, stored)
    elif kind == "directory_value":
        thin_out_file(value.directory_value.archive, f"{subject}.archive", stored)
        for part in value.directory_value.entries:
            thin_out_file(part.file, f"{subject}[{part.path!r}]", stored)


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
        if (array := _arrays.decode_plain(tensor)) is not None:
            return array
        data = tensor.data
        check_tensor(tensor, subject, data)
        if not tensor.HasField("stored"):
            return _arrays.decode(tensor, data)
        return _arrays.decode(tensor, mapped(as_file(tensor.stored, "tensor"), subject, stored))
    if kind == "stored_bytes_value":
        check_stored(value.stored_bytes_value, subject)
        return mapped(as_file(value.stored_bytes_value, "bytes"), subject, stored)[:]
    if kind == "file_value":
        check_file(value.file_value, subject)
        return decode_file(value.file_value, subject, stored)
    if kind == "directory_value":
        check_directory(value.directory_value, subject)
        return decode_directory(value.directory_value, subject, stored)
    if kind == "null_value":
        return None
    if kind is None:
        raise SchemaViolation(subject, "the value has no kind")
    scalar: object = getattr(value, kind)
    return scalar
