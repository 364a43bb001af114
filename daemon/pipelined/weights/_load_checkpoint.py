"""Whole checkpoints, of one file or many, onto any device."""

from __future__ import annotations

import os
from threading import Event
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from pipelined.weights._begin import begin
from pipelined.weights._cuda import cuda_ordinal, named_ordinal
from pipelined.weights._progress import ProgressCallback
from pipelined.weights._shards import Shards, find_shards

if TYPE_CHECKING:
    import torch


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

    Raises OSError, FormatError, SafetensorError where index and files disagree, where two files
    have the same tensor and for a device that torch does not have, and what `Arena.wait` does.
    """
    if named_ordinal(device) is not None and cuda_ordinal(device) is None:
        raise SafetensorError(f"torch has no device {device!r} to give out tensors on")
    shards = find_shards(path)
    arena = begin(shards.paths, device)
    _check(shards, arena.names())
    if progress is not None or cancelled is not None:
        arena.wait(progress, cancelled)
    return _chosen(shards, arena.tensors())


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
