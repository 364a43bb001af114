"""Outputs for programs and for people, and what is saved of them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from pipeline import Directory, errors
from pipeline import File as PythonFile
from pipeline._values import encode
from pipeline.cli.outputs import Outputs
from pipelined_api.v1.values_pb2 import File, Value


def file_value(name: str, content: bytes) -> Value:
    digest = hashlib.sha256(content).digest()
    return Value(
        file_value=File(
            name=name, media_type="text/plain", size=len(content), sha256=digest, data=content
        )
    )


def as_json(value: object, folder: Path) -> object:
    converted = Outputs(folder).to_json(encode(value), "output")
    # Strict JSON, for every other language too.
    return json.loads(json.dumps(converted, allow_nan=False))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (-(2**63), -(2**63)),
        (0.5, 0.5),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ("ü\n", "ü\n"),
        (b"\x00\xff", {"base64": "AP8="}),
        ([1, "a", None], [1, "a", None]),
        ((1, 2), [1, 2]),
        ({"a": {"b": [0.25]}}, {"a": {"b": [0.25]}}),
    ],
)
def test_json_of_plain_values(tmp_path: Path, value: object, expected: object) -> None:
    assert as_json(value, tmp_path) == expected


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32),
        *(np.uint64, np.int64, np.float16, np.float32, np.float64),
    ],
)
def test_json_of_arrays(tmp_path: Path, dtype: type[np.generic]) -> None:
    array = np.arange(12).reshape(2, 3, 2).astype(dtype)
    assert as_json(array, tmp_path) == array.tolist()


def test_json_of_odd_arrays(tmp_path: Path) -> None:
    assert as_json(np.float32(0.5).reshape(()), tmp_path) == 0.5
    assert as_json(np.zeros((2, 0, 3)), tmp_path) == [[], []]
    assert as_json(np.zeros((0, 2)), tmp_path) == []
    assert as_json(np.array([1 + 2j]), tmp_path) == [[1.0, 2.0]]
    assert as_json(np.array([np.nan, 1.0]), tmp_path) == ["NaN", 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_json_of_short_floats(tmp_path: Path, dtype: torch.dtype) -> None:
    size = torch.empty(0, dtype=dtype).element_size()
    bits = torch.arange(256**size).to(torch.uint8 if size == 1 else torch.uint16)
    tensor = bits.view(dtype)
    outputs = as_json(tensor, tmp_path)
    assert isinstance(outputs, list)
    for found, expected in zip(outputs, tensor.to(torch.float32).tolist(), strict=True):
        assert float(found) == expected or (math.isnan(expected) and found == "NaN")


def test_files_are_saved_and_never_over_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    outputs = Outputs(tmp_path / "." / "")
    value = encode_list([file_value("a.txt", b"one"), file_value("a.txt", b"two")])
    assert outputs.to_json(value, "files") == [
        {"path": str(tmp_path / "a-1.txt"), "size": 3, "media_type": "text/plain"},
        {"path": str(tmp_path / "a-2.txt"), "size": 3, "media_type": "text/plain"},
    ]
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert (tmp_path / "a-1.txt").read_text() == "one"
    assert (tmp_path / "a-2.txt").read_text() == "two"
    assert outputs.saved == [tmp_path / "a-1.txt", tmp_path / "a-2.txt"]


def encode_list(values: list[Value]) -> Value:
    made = Value()
    made.list_value.items.extend(values)
    return made


def test_the_folder_is_made_when_it_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    outputs = Outputs(folder)
    outputs.to_text(encode("nothing to save"), "x")
    assert not folder.exists()
    outputs.to_text(file_value("a", b"x"), "x")
    assert (folder / "a").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/b", "..", "", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.PipelineError, match="cannot be saved"):
        Outputs(tmp_path).to_json(file_value(name, b"x"), "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_images_are_saved_as_png(tmp_path: Path, mode: str) -> None:
    channels = len(mode)
    pixels = bytes(i * 7 % 256 for i in range(5 * 3 * channels))
    image = PIL.Image.frombytes(mode, (5, 3), pixels)
    outputs = Outputs(tmp_path)
    assert outputs.to_text(encode(image), "my/output") == str(tmp_path / "my_output.png")
    with PIL.Image.open(io.BytesIO((tmp_path / "my_output.png").read_bytes())) as saved:
        assert (saved.mode, saved.size, saved.tobytes()) == (mode, (5, 3), pixels)


def test_people_see_text_as_it_is_and_arrays_shortened(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    assert outputs.to_text(encode("two\nlines"), "x") == "two\nlines"
    assert outputs.to_text(encode({"a": 1}), "x") == '{\n  "a": 1\n}'
    vector = np.arange(384, dtype=np.float32) / 3
    assert outputs.to_text(encode(vector), "x") == (
        "float32[384] 0, 0.33333, 0.66667, 1, 1.3333, 1.6667, …"
    )
    assert outputs.to_text(encode(np.zeros((0, 2))), "x") == "float64[0x2] "
    assert outputs.to_text(encode(b"abc"), "x") == "3 bytes"


def test_a_tensor_that_lies_is_refused(tmp_path: Path) -> None:
    value = encode(np.zeros(3, dtype=np.float32))
    value.tensor_value.data = struct.pack("<2f", 0.0, 0.0)
    with pytest.raises(errors.PipelineError, match="output 'x'"):
        Outputs(tmp_path).to_json(value, "x")


def test_a_file_that_the_daemon_still_has_is_downloaded(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"large").digest()
    value = Value(file_value=File(name="a.txt", size=5, sha256=digest, stored=True))
    (tmp_path / "a.txt").write_text("not ours")
    outputs = Outputs(tmp_path, lambda file, path: path.write_text(f"{file.size} bytes"))
    assert outputs.to_text(value, "x") == str(tmp_path / "a-1.txt")
    assert (tmp_path / "a-1.txt").read_text() == "5 bytes"
    assert (tmp_path / "a.txt").read_text() == "not ours"


def test_a_download_that_fails_leaves_no_empty_file(tmp_path: Path) -> None:
    value = Value(file_value=File(name="a.txt", size=5, sha256=bytes(32), stored=True))

    def fail(file: File, path: Path) -> None:
        raise errors.NotFound("gone")

    with pytest.raises(errors.NotFound):
        Outputs(tmp_path, fail).to_text(value, "x")
    assert list(tmp_path.iterdir()) == []


class Contents:
    """Takes what is too large for a message, and gives it back as the daemon would."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def take(self, file: PythonFile) -> str:
        self.kept[file.sha256] = file.read()
        return file.sha256

    def download(self, file: File, path: Path) -> None:
        path.write_bytes(self.kept[file.sha256.hex()])


def test_folders_are_saved_with_all_that_is_in_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "sub" / "large").write_bytes(bytes(2 << 20))
    (source / "run").write_text("x")
    (source / "run").chmod(0o755)
    contents = Contents()
    outputs = Outputs(tmp_path / "out", contents.download)
    value = encode(Directory(source), stored=contents.take)
    assert outputs.to_json(value, "o") == {"path": str(tmp_path / "out" / "source"), "entries": 3}
    assert outputs.to_text(value, "o") == str(tmp_path / "out" / "source-1")
    assert outputs.saved == [tmp_path / "out" / "source", tmp_path / "out" / "source-1"]
    assert all(Directory(saved) == Directory(source) for saved in outputs.saved)


def test_what_is_too_large_for_a_message_is_saved(tmp_path: Path) -> None:
    contents = Contents()
    outputs = Outputs(tmp_path, contents.download)
    tensor = torch.arange(9 << 20, dtype=torch.int32).to(torch.bfloat16).reshape(3, -1)
    shown = outputs.to_json(encode(tensor, stored=contents.take), "t")
    path = tmp_path / "t.safetensors"
    assert shown == {"path": str(path), "dtype": "bfloat16", "shape": [3, 3 << 20]}
    assert torch.equal(load_file(path)["tensor"], tensor)
    data = bytes(range(256)) * (70_000)
    assert outputs.to_text(encode(data, stored=contents.take), "../b") == str(tmp_path / "_b.bin")
    assert (tmp_path / "_b.bin").read_bytes() == data
    image = PIL.Image.new("RGB", (2400, 2400), (1, 2, 3))
    outputs.to_json(encode(image, stored=contents.take), "i")
    with PIL.Image.open(tmp_path / "i.png") as saved:
        assert saved.tobytes() == image.tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["_b.bin", "i.png", "t.safetensors"]
