"""Weights files made by hand, and how tensors are compared."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from pipelined import weights

ELEMENT_BITS = {
    "BOOL": 8,
    "F4": 4,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


def file_bytes(header: bytes | Mapping[str, object], data: bytes = b"", padding: int = 0) -> bytes:
    """A file of this header and data, well-formed or not; padding shifts the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * padding
    return struct.pack("<Q", len(text)) + text + data


def tensor_info(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def sparse_file(path: Path, tensors: int, bytes_each: int) -> Path:
    """A file of zeros that take no disk and that no page cache has, on any file system."""
    header = {
        f"t{index:04d}": tensor_info(
            "U8", [bytes_each], index * bytes_each, (index + 1) * bytes_each
        )
        for index in range(tensors)
    }
    content = file_bytes(header)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(len(content) + tensors * bytes_each)
    return path


def raw(tensor: torch.Tensor) -> bytes:
    """The tensor's own bytes, so that NaNs and signed zeros compare as what they are."""
    # What counts as contiguous may still have any stride along a dimension of one.
    flat = tensor.detach().contiguous().as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def assert_same(ours: torch.Tensor, stock: torch.Tensor) -> None:
    assert (ours.dtype, ours.shape) == (stock.dtype, stock.shape)
    assert raw(ours) == raw(stock)


def assert_same_tensors(
    ours: Mapping[str, torch.Tensor], stock: Mapping[str, torch.Tensor]
) -> None:
    assert ours.keys() == stock.keys()
    for name, tensor in ours.items():
        assert_same(tensor, stock[name])


def arenas_of(path: Path) -> list[weights.Arena]:
    """The arenas that have a file mapped, whatever else is mapped."""
    return [arena for arena in weights.arenas("cpu") if arena.paths == [str(path)]]


def run_in_threads(work: Callable[[int], None], count: int) -> None:
    """Call with 0, 1, … in a thread each, all at once and changing as often as Python can."""
    barrier = threading.Barrier(count)

    def start(number: int) -> None:
        barrier.wait()
        work(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=start, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def settled(condition: Callable[[weights.Load], bool]) -> weights.Load:
    """The only load so far, once it meets the condition, which another thread brings about."""
    deadline = time.monotonic() + 60
    while True:
        (load,) = weights.loads()
        if condition(load):
            return load
        assert time.monotonic() < deadline, load
        time.sleep(0.001)
