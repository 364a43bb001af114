"""Whole checkpoints, of one file or many, onto any device."""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from threading import Event
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from pipelined.weights import _arena
from pipelined.weights._checkpoint import OpenCheckpoint
from pipelined.weights._cuda import cuda_ordinal
from pipelined.weights._progress import FileProgress, LoadProgress, ProgressCallback
from pipelined.weights._shards import Shards, find_shards
from pipelined.weights.errors import Cancelled

if TYPE_CHECKING:
    import torch

_SECONDS_BETWEEN_LOOKS = 0.005


def load_checkpoint(
    path: str | os.PathLike[str],
    device: str | int | torch.device | None = "cpu",
    *,
    progress: ProgressCallback | None = None,
    cancelled: Event | None = None,
) -> dict[str, torch.Tensor]:
    """Load a checkpoint: a file, an index (`*.safetensors.index.json`), or a folder with either.

    Of sharded ones, the tensors that the index names come back, in the order of the files. On the
    CPU it returns before the bytes are in memory, unless there is a callback or an event; on CUDA,
    when the current stream may use them. The callback is told about each step; what it raises ends
    the load. Setting the event ends it with Cancelled.

    Raises OSError, FormatError, SafetensorError where index and files disagree, and on CUDA what
    `Arena.wait` does.
    """
    shards = find_shards(path)
    ordinal = cuda_ordinal(device)
    if ordinal is not None:
        arena = _arena.begin(shards.paths, ordinal)
        if progress is not None or cancelled is not None:
            arena.wait(progress, cancelled)
        _check(shards, arena.names())
        return _chosen(shards, arena.tensors())
    if device is not None and str(device) != "cpu":
        raise SafetensorError(f"checkpoints load onto the CPU and CUDA devices, not {device}")
    return _on_cpu(shards, progress, cancelled)


def _on_cpu(
    shards: Shards, progress: ProgressCallback | None, cancelled: Event | None
) -> dict[str, torch.Tensor]:
    files = [OpenCheckpoint(os.fspath(path)) for path in shards.paths]
    names = [name for file in files for name in file.names_by_offset()]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SafetensorError(f"tensor {twice!r} is in more than one file")
    _check(shards, names)
    tensors = {name: tensor for file in files for name, tensor in file.tensors().items()}
    if progress is not None or cancelled is not None:
        _wait(shards, files, progress, cancelled)
    return _chosen(shards, tensors)


def _wait(
    shards: Shards,
    files: list[OpenCheckpoint],
    progress: ProgressCallback | None,
    cancelled: Event | None,
) -> None:
    # The bytes come in steps from several threads: a tensor counts once as many bytes as end with
    # it have been read.
    ends = [
        list(accumulate(file.nbytes(name) for name in file.names_by_offset())) for file in files
    ]
    pause = cancelled or Event()
    seen = -1
    while True:
        loaded = [min(file.progress.loaded_bytes, file.progress.total_bytes) for file in files]
        if sum(loaded) != seen and progress is not None:
            progress(
                LoadProgress(
                    sum(loaded),
                    sum(file.progress.total_bytes for file in files),
                    sum(bisect_right(end, count) for end, count in zip(ends, loaded, strict=True)),
                    sum(map(len, ends)),
                    tuple(
                        FileProgress(os.fspath(path), count, file.progress.total_bytes)
                        for path, count, file in zip(shards.paths, loaded, files, strict=True)
                    ),
                )
            )
        seen = sum(loaded)
        if all(file.progress.finished for file in files):
            return
        for path, file in zip(shards.paths, files, strict=True):
            if file.progress.error:
                raise OSError(file.progress.error, os.strerror(file.progress.error), str(path))
        if pause.wait(_SECONDS_BETWEEN_LOOKS) and cancelled is not None:
            raise Cancelled("cancelled")


def _check(shards: Shards, names: list[str]) -> None:
    missing = (shards.tensors or {}).keys() - set(names)
    if missing:
        raise SafetensorError(
            f"the index names tensors that are in none of its files: {sorted(missing)[:3]}"
        )


def _chosen(shards: Shards, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if shards.tensors is None:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name in shards.tensors}
