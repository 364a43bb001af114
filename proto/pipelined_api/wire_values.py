"""Wire values as plain Python, without numpy or torch, and what makes one malformed.

The daemon reads values this way: it needs their kinds and sizes, never their elements.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pipelined_api.limits import MAX_DIRECTORY_ENTRIES, MAX_NAME_BYTES, MAX_PATH_BYTES
from pipelined_api.url_hosts import InvalidUrl, split_url
from pipelined_api.v1 import values_pb2
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value

__all__ = [
    "ELEMENT_SIZES",
    "MAX_DEPTH",
    "SchemaViolation",
    "StandIn",
    "WireBytes",
    "WireDirectory",
    "WireFile",
    "WireTensor",
    "as_file",
    "check_count",
    "check_directory",
    "check_file",
    "check_stored",
    "check_tensor",
    "is_plain_name",
    "path_fault",
    "plain",
    "stored_files",
]

MAX_DEPTH = 32
"""Lists and maps in each other that a value may have. Parsers of protobuf stop at 100 nested
messages, of which a map takes three."""

ELEMENT_SIZES: dict[DataType.ValueType, int] = {
    DataType.DATA_TYPE_BOOL: 1,
    DataType.DATA_TYPE_UINT8: 1,
    DataType.DATA_TYPE_INT8: 1,
    DataType.DATA_TYPE_UINT16: 2,
    DataType.DATA_TYPE_INT16: 2,
    DataType.DATA_TYPE_UINT32: 4,
    DataType.DATA_TYPE_INT32: 4,
    DataType.DATA_TYPE_UINT64: 8,
    DataType.DATA_TYPE_INT64: 8,
    DataType.DATA_TYPE_FLOAT16: 2,
    DataType.DATA_TYPE_BFLOAT16: 2,
    DataType.DATA_TYPE_FLOAT32: 4,
    DataType.DATA_TYPE_FLOAT64: 8,
    DataType.DATA_TYPE_COMPLEX64: 8,
    DataType.DATA_TYPE_COMPLEX128: 16,
    DataType.DATA_TYPE_FLOAT8_E4M3FN: 1,
    DataType.DATA_TYPE_FLOAT8_E5M2: 1,
}
"""Bytes in one element of each type."""

_IMAGE_CHANNELS = (1, 2, 3, 4)
# Element types of images that have one channel, beside uint8.
_SINGLE_CHANNEL = (
    DataType.DATA_TYPE_BOOL,
    DataType.DATA_TYPE_UINT16,
    DataType.DATA_TYPE_INT32,
    DataType.DATA_TYPE_FLOAT32,
)


class SchemaViolation(Exception):
    """A value is malformed, or does not fit the schema.

    Attributes:
        field: path of the value, such as ``"kwargs.height"`` or ``"inputs[0]"``.
        message: what is wrong with it.
        bound: the constraint that it breaks, such as ``"le=1024"``; None if it is no constraint.

    """

    def __init__(self, field: str, message: str, bound: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message
        self.bound = bound


class StandIn:
    """Stands for what nobody needs to see here; texts call it what its user does.

    Attributes:
        called: what that is, such as ``"a File"``.

    """

    called: str

    def __repr__(self) -> str:
        return f"<{self.called}>"


@dataclass(repr=False)
class WireTensor(StandIn):
    """Stands for a tensor whose elements nobody needs to see."""

    container: Tensor.Container.ValueType
    dtype: DataType.ValueType
    shape: tuple[int, ...]

    @property
    def called(self) -> str:  # type: ignore[override]  # read-only
        """What its user calls it."""
        if self.container == Tensor.CONTAINER_NUMPY and not self.shape:
            return "a numpy scalar"
        return _CONTAINERS.get(self.container, "a tensor")


_CONTAINERS = {
    Tensor.CONTAINER_NUMPY: "a numpy array",
    Tensor.CONTAINER_TORCH: "a torch tensor",
    Tensor.CONTAINER_IMAGE: "a PIL image",
}


@dataclass(frozen=True, repr=False)
class WireFile(StandIn):
    """Stands for a file whose content nobody needs to see."""

    called = "a File"

    name: str
    size: int


@dataclass(frozen=True, repr=False)
class WireDirectory(StandIn):
    """Stands for a folder whose files nobody needs to see."""

    called = "a Directory"

    name: str


@dataclass(frozen=True, repr=False)
class WireBytes(StandIn):
    """Stands for bytes that are beside the message."""

    called = "bytes"

    size: int


def plain(value: Value, field: str = "value") -> object:
    """Turn ``value`` into Python, with what stands for tensors, files, folders and stored bytes.

    Raises:
        SchemaViolation: the value, or one inside it, is malformed.

    """
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        items = [plain(item, f"{field}[{i}]") for i, item in enumerate(value.list_value.items)]
        return tuple(items) if value.list_value.tuple else items
    if kind == "map_value":
        return _plain_map(value.map_value, field)
    if kind == "tensor_value":
        tensor = value.tensor_value
        check_tensor(tensor, field)
        return WireTensor(tensor.container, tensor.dtype, tuple(tensor.shape))
    if kind == "file_value":
        check_file(value.file_value, field)
        return WireFile(value.file_value.name, value.file_value.size)
    if kind == "directory_value":
        check_directory(value.directory_value, field)
        return WireDirectory(value.directory_value.name)
    if kind == "stored_bytes_value":
        check_stored(value.stored_bytes_value, field)
        return WireBytes(value.stored_bytes_value.size)
    if kind == "null_value":
        return None
    if kind is None:
        raise SchemaViolation(field, "the value has no kind")
    scalar: object = getattr(value, kind)
    return scalar


def _plain_map(entries: values_pb2.MapValue, field: str) -> dict[str, object]:
    result: dict[str, object] = {}
    for entry in entries.entries:
        if entry.key in result:
            raise SchemaViolation(f"{field}.{entry.key}", "the key occurs twice")
        result[entry.key] = plain(entry.value, f"{field}.{entry.key}")
    return result


def check_tensor(tensor: Tensor, field: str, data: bytes | None = None) -> None:
    """Make sure that dtype, shape and data of a tensor agree.

    Args:
        tensor: to be looked at.
        field: what to call it.
        data: of it, where the caller has them: each time that they are asked for they are copied.

    Raises:
        SchemaViolation: they do not.

    """
    size = ELEMENT_SIZES.get(tensor.dtype)
    if size is None:
        raise SchemaViolation(field, f"unknown tensor dtype {tensor.dtype}")
    shape = list(tensor.shape)
    if shape and min(shape) < 0:
        raise SchemaViolation(field, f"negative extent in tensor shape {shape}")
    expected = math.prod(shape) * size
    actual = len(tensor.data if data is None else data)
    if tensor.HasField("stored"):
        check_stored(tensor.stored, field)
        if actual:
            raise SchemaViolation(field, "a tensor that is stored has data too")
        actual = tensor.stored.size
    if actual != expected:
        raise SchemaViolation(
            field, f"tensor data has {actual} bytes, its shape {shape} needs {expected}"
        )
    if tensor.container == Tensor.CONTAINER_IMAGE and not is_image(tensor.dtype, shape):
        raise SchemaViolation(
            field,
            f"an image is uint8 of shape [height, width] or with up to 4 channels, not {shape}",
        )


def check_stored(stored: values_pb2.StoredContent, field: str) -> None:
    """Make sure that this refers to a content.

    Raises:
        SchemaViolation: it does not.

    """
    if stored.size == 0 or len(stored.sha256) != hashlib.sha256().digest_size:
        raise SchemaViolation(field, "refers to no content")


def is_image(dtype: DataType.ValueType, shape: list[int] | tuple[int, ...]) -> bool:
    """Whether a tensor of this type and shape can be an image."""
    if dtype != DataType.DATA_TYPE_UINT8:
        return dtype in _SINGLE_CHANNEL and len(shape) == 2
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in _IMAGE_CHANNELS)


def is_plain_name(name: str) -> bool:
    """Whether this is the name of a file, without any folder."""
    return bool(name) and name not in (".", "..") and not any(bad in name for bad in "/\\\0")


def check_file(file: values_pb2.File, field: str) -> None:
    """Make sure that the name of a file is harmless, and its size and digest true.

    Raises:
        SchemaViolation: they are not.

    """
    name = file.name
    if not is_plain_name(name):
        raise SchemaViolation(field, f"{name!r} is not the plain name of a file")
    content = file.WhichOneof("content")
    digested = len(file.sha256) == hashlib.sha256().digest_size
    if content == "stored":
        if not file.stored or not digested:
            raise SchemaViolation(field, f"file {name!r} refers to no content")
        return
    if content == "url":
        if file.sha256 and not digested:
            raise SchemaViolation(field, f"file {name!r} has a sha256 that is none")
        try:
            split_url(file.url)
        except InvalidUrl as error:
            raise SchemaViolation(field, str(error)) from None
        return
    if content is None:
        raise SchemaViolation(field, f"file {name!r} has no content")
    if file.size != len(file.data):
        raise SchemaViolation(
            field, f"file {name!r} has {len(file.data)} bytes, its size says {file.size}"
        )
    if file.sha256 != hashlib.sha256(file.data).digest():
        raise SchemaViolation(field, f"the content of file {name!r} does not match its sha256")


def path_fault(path: str) -> str:
    """Say what makes a relative path unfit for an entry of a Directory; empty if nothing does."""
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        return f"has more than {MAX_PATH_BYTES} bytes"
    for name in path.split("/"):
        if not is_plain_name(name):
            return "is no relative path of plain names"
        if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
            return f"has a name of more than {MAX_NAME_BYTES} bytes"
    return ""


def check_directory(directory: values_pb2.Directory, field: str) -> None:
    """Make sure that every path in a folder is harmless, and every file as it says.

    Raises:
        SchemaViolation: one is not, or there are too many.

    """
    if not is_plain_name(directory.name):
        raise SchemaViolation(field, f"{directory.name!r} is not the plain name of a folder")
    if directory.HasField("archive"):
        if directory.entries:
            raise SchemaViolation(field, f"folder {directory.name!r} has an archive and entries")
        check_file(directory.archive, f"{field}.archive")
        return
    check_count(len(directory.entries), directory.name, field)
    seen: set[str] = set()
    for entry in directory.entries:
        if fault := path_fault(entry.path):
            raise SchemaViolation(field, f"path {entry.path[:200]!r} {fault}")
        if entry.path in seen:
            raise SchemaViolation(field, f"path {entry.path!r} occurs twice")
        seen.add(entry.path)
        if entry.HasField("file"):
            check_file(entry.file, f"{field}[{entry.path!r}]")
            if entry.file.name != entry.path.rpartition("/")[2]:
                raise SchemaViolation(field, f"the file at {entry.path!r} has another name")
    for path in seen:
        while path := path.rpartition("/")[0]:
            if path in seen:
                raise SchemaViolation(field, f"path {path!r} is a file, or empty, and has others")


def check_count(count: int, name: str, field: str) -> None:
    """Make sure that a folder has not too many entries.

    Raises:
        SchemaViolation: it has.

    """
    if count > MAX_DIRECTORY_ENTRIES:
        raise SchemaViolation(
            field,
            f"folder {name!r} has {count} entries, more than {MAX_DIRECTORY_ENTRIES}",
            f"max_entries={MAX_DIRECTORY_ENTRIES}",
        )


def stored_files(value: Value, field: str = "value") -> Iterator[tuple[str, values_pb2.File]]:
    """Yield the contents that a value refers to, each as a file, with the path in the value."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        for index, item in enumerate(value.list_value.items):
            yield from stored_files(item, f"{field}[{index}]")
    elif kind == "map_value":
        for entry in value.map_value.entries:
            yield from stored_files(entry.value, f"{field}.{entry.key}")
    elif kind == "directory_value":
        directory = value.directory_value
        if directory.archive.stored:
            yield f"{field}.archive", directory.archive
        for part in directory.entries:
            if part.file.stored:
                yield f"{field}[{part.path!r}]", part.file
    elif kind == "file_value" and value.file_value.stored:
        yield field, value.file_value
    elif kind == "stored_bytes_value":
        yield field, as_file(value.stored_bytes_value, "bytes")
    elif kind == "tensor_value" and value.tensor_value.HasField("stored"):
        yield field, as_file(value.tensor_value.stored, "tensor")


def as_file(stored: values_pb2.StoredContent, name: str) -> values_pb2.File:
    """Return a reference to a content as one to a file."""
    return values_pb2.File(name=name, size=stored.size, sha256=stored.sha256, stored=True)
