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
from pipeline.cli import png, tensors
from pipelined_api.v1 import values_pb2
from pipelined_api.v1.values_pb2 import Tensor, Value
from pipelined_api.wire_values import SchemaViolation, check_file, check_tensor

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

        Files and images become objects with their path, bytes one with base64, tensors nested
        lists. Floats that JSON does not know become the strings NaN, Infinity and -Infinity.

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
            case "tensor_value" if value.tensor_value.container == Tensor.CONTAINER_IMAGE:
                path = self._save_image(value.tensor_value, name)
                return {"path": str(path), "size": path.stat().st_size, "media_type": "image/png"}
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
            case "tensor_value" if value.tensor_value.container != Tensor.CONTAINER_IMAGE:
                return _summary(_checked(value.tensor_value, name))
            case "bytes_value":
                return f"{len(value.bytes_value)} bytes"
            case "file_value":
                return str(self._save_file(value))
            case "tensor_value":
                return str(self._save_image(value.tensor_value, name))
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
        if self._download is None:
            raise errors.PipelineError(f"the content of file {file.name!r} is in the daemon")
        path = self._write(file.name, b"")
        try:
            self._download(file, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _save_image(self, tensor: Tensor, name: str) -> Path:
        height, width, *rest = _checked(tensor, name).shape
        image = png.encode(height, width, rest[0] if rest else 1, tensor.data)
        # The name is the graph author's: a folder in it would be another place.
        return self._write(f"{name.replace('/', '_').lstrip('.') or 'image'}.png", image)

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
