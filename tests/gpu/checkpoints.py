"""Weights files for the tests on a device, made without torch, so that their bytes are known."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

from tests.weights.files import ELEMENT_BITS, file_bytes, tensor_info

_BLOCK = 1 << 20


def write_large(path: Path, sizes: Sequence[int]) -> Path:
    """A file of half-precision tensors of so many bytes each, with random content."""
    header = {}
    end = 0
    for index, size in enumerate(sizes):
        header[f"layers.{index}.weight"] = tensor_info("F16", [size // 2], end, end + size)
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Finite numbers: one that is none would not even be equal to itself.
    block = bytes(byte & 0x3F for byte in os.urandom(_BLOCK))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(0, end, _BLOCK):
            file.write(block)
        file.truncate(8 + len(text) + end)
    return path


def write_random(path: Path, seed: int, prefix: str = "") -> Path:
    """A small file of tensors of random types, shapes and bytes, aligned or not."""
    chosen = random.Random(seed)
    header: dict[str, object] = {}
    data = bytearray()
    for index in range(chosen.randrange(1, 40)):
        dtype = chosen.choice(sorted(ELEMENT_BITS.keys() - {"F4", "BOOL"}))
        shape = [chosen.choice([0, 1, 2, 3, 7, 65]) for _ in range(chosen.randrange(0, 4))]
        size = ELEMENT_BITS[dtype] // 8
        for extent in shape:
            size *= extent
        header[f"{prefix}{index}.{dtype}"] = tensor_info(dtype, shape, len(data), len(data) + size)
        data += chosen.randbytes(size)
    path.write_bytes(file_bytes(header, bytes(data), padding=chosen.randrange(8)))
    return path


def write_types(path: Path, dtypes: Collection[str]) -> Path:
    """A file with a tensor of each of these types, and with the shapes that are special."""
    header: dict[str, object] = {}
    data = bytearray()

    def add(name: str, dtype: str, shape: list[int], content: bytes) -> None:
        header[name] = tensor_info(dtype, shape, len(data), len(data) + len(content))
        data.extend(content)

    for dtype in dtypes:
        content = bytes(range(6 * ELEMENT_BITS[dtype] // 8))
        add(dtype, dtype, [3, 2], bytes(b & 1 for b in content) if dtype == "BOOL" else content)
    add("scalar", "F32", [], struct.pack("<f", 2.5))
    add("empty", "F32", [0, 4], b"")
    add("one byte", "U8", [1], b"\x07")
    # Not aligned to its own size.
    add("odd", "F64", [2], struct.pack("<dd", 1.0, -0.0))
    add("after it", "BF16", [1, 1, 5], bytes(range(10)))
    path.write_bytes(file_bytes(header, bytes(data), padding=3))
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of each tensor, read without any loader."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    spans = {name: info["data_offsets"] for name, info in header.items() if name != "__metadata__"}
    return {name: content[begin + first : begin + end] for name, (first, end) in spans.items()}
