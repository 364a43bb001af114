"""Outputs of a run as JSON, or for people; files and images among them are saved.

Made from the wire values: showing a vector does not need the library that it came from.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path

from pipeline import errors
from pipeline.cli import png, saved_tensors, tensors
from pipelined_api.v1 import values_pb2
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value
from pipelined_api.wire_values import (
    SchemaViolation,
    as_file,
    check_directory,
    check_file,
    check_stored,
    check_tensor,
)

# Elements of a tensor that people are shown.
_SHOWN = 6


class Outputs:
    """Converts outputs, and saves files into a folder, none of them over another.

    Args:
        folder: where files go; made when the first one does.
        download: writes the content of a file that the daemon still has to a path.

    """

    def __init__(
        self, folder: Path, download: Callable[[values_pb2.File, Path], object] | None = None
    ) -> None:
        self._folder = folder
        self._download = download
        self.saved: list[Path] = []

    def to_json(self, value: Value, name: str) -> object:
        """Convert for programs.

        Files, folders and images become objects with their path, bytes one with base64, tensors
        nested lists. Tensors and bytes too large for a message are saved, too. Floats that JSON
        does not know become the strings NaN, Infinity and -Infinity.

        Args:
            value: the output.
            name: what it is called, for images, which have no name of their own.

        """
        match value.WhichOneof("kind"):
            case "list_value":
                return [self.to_json(item, name) for item in value.list_value.items]
            case "map_value":
                entries = value.map_value.entries
                return {entry.key: self.to_json(entry.value, entry.key) for entry in entries}
            case "file_value":
                file = value.file_value
                path = self._save_file(value)
                return {"path": str(path), "size": file.size, "media_type": file.media_type}
            case "directory_value":
                folder = self._save_directory(value.directory_value)
                return {"path": str(folder), "entries": len(value.directory_value.entries)}
            case "stored_bytes_value":
                path = self._save_bytes(value.stored_bytes_value, name)
                return {"path": str(path), "size": value.stored_bytes_value.size}
            case "tensor_value" if _is_png(value.tensor_value):
                path = self._save_image(value.tensor_value, name)
                return {"path": str(path), "size": path.stat().st_size, "media_type": "image/png"}
            case "tensor_value" if value.tensor_value.HasField("stored"):
                path = self._save_tensor(value.tensor_value, name)
                shape = list(value.tensor_value.shape)
                dtype = tensors.dtype_name(value.tensor_value)
                return {"path": str(path), "dtype": dtype, "shape": shape}
            case "tensor_value":
                return _strict(tensors.nested(_checked(value.tensor_value, name)))
            case "bytes_value":
                return {"base64": base64.b64encode(value.bytes_value).decode()}
            case "null_value":
                return None
            case "double_value":
                return _strict(value.double_value)
            case None:
                raise errors.PipelineError(f"output {name!r} has no value")
            case kind:
                scalar: object = getattr(value, kind)
                return scalar

    def to_text(self, value: Value, name: str) -> str:
        """Convert for people: text as it is, saved files as their paths, tensors shortened."""
        if value.WhichOneof("kind") == "string_value":
            return value.string_value
        shown = self._brief(value, name)
        return shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)

    def _brief(self, value: Value, name: str) -> object:
        match value.WhichOneof("kind"):
            case "list_value":
                return [self._brief(item, name) for item in value.list_value.items]
            case "map_value":
                entries = value.map_value.entries
                return {entry.key: self._brief(entry.value, entry.key) for entry in entries}
            case "tensor_value" if _is_png(value.tensor_value):
                return str(self._save_image(value.tensor_value, name))
            case "tensor_value" if value.tensor_value.HasField("stored"):
                return str(self._save_tensor(value.tensor_value, name))
            case "tensor_value":
                return _summary(_checked(value.tensor_value, name))
            case "directory_value":
                return str(self._save_directory(value.directory_value))
            case "stored_bytes_value":
                return str(self._save_bytes(value.stored_bytes_value, name))
            case "bytes_value":
                return f"{len(value.bytes_value)} bytes"
            case "file_value":
                return str(self._save_file(value))
            case _:
                return self.to_json(value, name)

    def _save_file(self, value: Value) -> Path:
        file = value.file_value
        try:
            check_file(file, "outputs")
        except SchemaViolation as violation:
            raise errors.PipelineError(f"a file cannot be saved: {violation.message}") from None
        if not file.stored:
            return self._write(file.name, file.data)
        return self._write_stored(file, file.name)

    def _write_stored(self, file: values_pb2.File, name: str) -> Path:
        path = self._write(name, b"")
        try:
            self._fetch(file, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _fetch(self, file: values_pb2.File, path: Path) -> None:
        if self._download is None:
            raise errors.PipelineError(f"the content of file {file.name!r} is in the daemon")
        self._download(file, path)

    def _save_directory(self, directory: values_pb2.Directory) -> Path:
        try:
            check_directory(directory, "outputs")
        except SchemaViolation as violation:
            raise errors.PipelineError(f"a folder cannot be saved: {violation.message}") from None
        folder = self._free_folder(directory.name)
        for entry in directory.entries:
            path = folder / entry.path
            if not entry.HasField("file"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.file.stored:
                self._fetch(entry.file, path)
            else:
                path.write_bytes(entry.file.data)
            if entry.executable:
                path.chmod(path.stat().st_mode | 0o111)
        return folder

    def _free_folder(self, name: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            path = self._folder / (f"{name}-{number}" if number else name)
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            self.saved.append(path)
            return path

    def _save_bytes(self, stored: values_pb2.StoredContent, name: str) -> Path:
        try:
            check_stored(stored, "outputs")
        except SchemaViolation as violation:
            raise errors.PipelineError(f"output {name!r} {violation.message}") from None
        return self._write_stored(as_file(stored, "bytes"), f"{_plain(name)}.bin")

    def _save_tensor(self, tensor: Tensor, name: str) -> Path:
        file = as_file(_checked(tensor, name).stored, "tensor")
        path = self._write(f"{_plain(name)}.safetensors", b"")
        content = path.with_name(f".{path.name}.part")
        try:
            self._fetch(file, content)
            saved_tensors.write(path, tensor, content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            content.unlink(missing_ok=True)
        return path

    def _save_image(self, tensor: Tensor, name: str) -> Path:
        height, width, *rest = _checked(tensor, name).shape
        pixels = tensor.data
        if tensor.HasField("stored"):
            content = self._write_stored(as_file(tensor.stored, "image"), f".{_plain(name)}.part")
            self.saved.remove(content)
            pixels = content.read_bytes()
            content.unlink()
        image = png.encode(height, width, rest[0] if rest else 1, pixels)
        return self._write(f"{_plain(name)}.png", image)

    def _write(self, name: str, content: bytes) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        stem, suffix = Path(name).stem, Path(name).suffix
        number = 0
        while True:
            path = self._folder / (f"{stem}-{number}{suffix}" if number else name)
            try:
                with path.open("xb") as stream:
                    stream.write(content)
            except FileExistsError:
                number += 1
                continue
            self.saved.append(path)
            return path


def _plain(name: str) -> str:
    # The name is the graph author's: a folder in it would be another place.
    return name.replace("/", "_").lstrip(".") or "output"


def _is_png(tensor: Tensor) -> bool:
    """Whether a tensor is an image of a kind that a PNG file can hold as it is."""
    return (
        tensor.container == Tensor.CONTAINER_IMAGE
        and tensor.dtype == DataType.DATA_TYPE_UINT8
        and not tensor.image_mode
    )


def _checked(tensor: Tensor, name: str) -> Tensor:
    try:
        check_tensor(tensor, name)
    except SchemaViolation as violation:
        raise errors.PipelineError(f"output {name!r}: {violation.message}") from None
    return tensor


def _summary(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape))
    # Reading all of a large one only to show its beginning would be waste.
    size = len(tensor.data) // max(math.prod(tensor.shape), 1)
    begin = Tensor(dtype=tensor.dtype, data=tensor.data[: _SHOWN * size])
    shown = ", ".join(
        f"{item:.5g}" if isinstance(item, float) else str(item) for item in tensors.elements(begin)
    )
    more = ", …" if math.prod(tensor.shape) > _SHOWN else ""
    return f"{tensors.dtype_name(tensor)}[{shape}] {shown}{more}"


def _strict(value: object) -> object:
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
