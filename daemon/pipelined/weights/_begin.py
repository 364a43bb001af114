"""Beginning a load, and what was loaded so far."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelined.weights import _devices, _mapped_files, _records
from pipelined.weights._arena import Arena, path_of
from pipelined.weights._checkpoint import OpenCheckpoint
from pipelined.weights._cpu_arena import CpuArena
from pipelined.weights._cuda import named_ordinal
from pipelined.weights._cuda_arena import CudaArena
from pipelined.weights._noting import noting

if TYPE_CHECKING:
    import torch

_READS = ("automatic", "buffered", "direct")


def begin(
    paths: Sequence[str | os.PathLike[str]],
    device: str | int | torch.device | None = "cuda",
    *,
    driver: str | None = None,
    read: Literal["automatic", "buffered", "direct"] = "automatic",
    wait_for_memory: bool = False,
) -> Arena:
    """Begin to load files onto a device; return before they are there.

    The device is what `load_file` takes: "cpu" or None, "cuda" (torch's current device), "cuda:1",
    1, a torch.device. The other arguments are about CUDA devices. `driver` is the path of libcuda
    where it is not the usual one. `read` is how files are read: through the page cache, with
    O_DIRECT, or through it unless a large cold file proves faster without. Where the budget of
    device memory is used up, `wait_for_memory` waits for other arenas to be put to sleep or
    dropped.

    Raises OSError, FormatError, DriverMissing, CudaError, OverBudget where the files would never
    fit, and SafetensorError for any other device and for a tensor that is in two of the files.
    Later failures are raised by the arena's methods. Raises ValueError for a path with a null byte
    and for another `read`, TypeError for a single path.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(f"a list of paths is wanted, and not the path {paths!r}")
    if read not in _READS:
        raise ValueError(f"read has to be one of {', '.join(_READS)}, and not {read!r}")
    names = [os.fsencode(path) for path in paths]
    for name in names:
        if b"\0" in name:
            raise ValueError(f"a path has a null byte: {name!r}")
    ordinal = named_ordinal(device)
    if ordinal is None:
        return _on_cpu(names)
    started = time.monotonic()
    with noting([path_of(name) for name in names]):
        checkpoint = _devices.device(ordinal, driver).load(names, read, wait_for_memory)
    arena = CudaArena(checkpoint)
    for index, (path, progress) in enumerate(zip(arena.paths, checkpoint.progress(), strict=True)):
        record = _records.Record(
            str(Path(path).absolute()), started, checkpoint.source(index), progress
        )
        record.bytes_taken = progress.total_bytes
        _records.add(record)
    return arena


def _on_cpu(names: Sequence[bytes]) -> Arena:
    files = [OpenCheckpoint(path_of(name)) for name in names]
    arena = CpuArena([file.mapped for file in files])
    for file in files:
        file.read_ahead()
    return arena


def arenas(device_type: Literal["cpu", "cuda"] | None = None) -> list[Arena]:
    """Return what was loaded and is still held, be it only by a tensor; or those of one kind.

    Of CUDA devices, an arena is what one load brought there. On the CPU it is each file that is
    mapped, whoever opened it: `begin`, `load_checkpoint`, `load_file` or `safe_open`.

    Raises ValueError for any other kind.
    """
    if device_type not in (None, "cpu", "cuda"):
        raise ValueError(f"a device type is cpu or cuda, and not {device_type!r}")
    found: list[Arena] = []
    if device_type in (None, "cuda"):
        for device in _devices.open_devices():
            found.extend(CudaArena(checkpoint) for checkpoint in device.live())
    if device_type in (None, "cpu"):
        found.extend(CpuArena([checkpoint]) for checkpoint in _mapped_files.live())
    return found
