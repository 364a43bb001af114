"""What the tests of files through the daemon share: contents, pipes, and a measure of memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline import File, Graph, Pipeline, Variable, pipe

MIB = 1 << 20
SIZE = 3 * MIB
# What the daemon may grow by while something large goes through it.
GROWTH = 64 * MIB


def content(seed: int = 0, size: int = SIZE) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def on_disk(folder: Path, name: str = "in.bin", data: bytes | None = None) -> File:
    path = folder / name
    path.write_bytes(content() if data is None else data)
    return File(path)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pipe
def echo(value: Any) -> Any:
    return value


def graph_of(function: Any, *types: Any) -> Graph:
    with Pipeline() as builder:
        builder.output(function(*(Variable(type_) for type_ in types)))
    return builder.get_pipeline()


def high_water(pid: int) -> int:
    """The most resident memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
