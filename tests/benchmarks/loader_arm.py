"""Loads files with one loader, as often as loader.py says, in the loader's own environment.

    python loader_arm.py ARM TOUCH_LIBRARY

For each line {"path": …} on its input it loads that file, touches every page of every tensor, and
answers {"seconds": …, "returned": …, "checksum": …, "objects": …}: the time until the last page was
touched, the part of it until the call returned, a sum that all loaders have to agree on, and what
it costs torch to make as many empty tensors. The loaded ones are let go of before that.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

# Tensors by name, and what has to live as long as they do.
Loaded = tuple[dict[str, Any], object]


def pipelined(path: str) -> Loaded:
    from pipelined import weights

    return weights.load_file(path), None


def safetensors_mmap(path: str) -> Loaded:
    from safetensors.torch import load_file

    return load_file(path), None


def safetensors_pread(path: str) -> Loaded:
    from safetensors.torch import load_file

    return load_file(path, backend="pread"), None


def runai(path: str) -> Loaded:
    from runai_model_streamer import SafetensorsStreamer

    streamer = SafetensorsStreamer()
    streamer.__enter__()
    streamer.stream_file(path)
    return dict(streamer.get_tensors()), streamer


def fastsafetensors(path: str) -> Loaded:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True)
    loader.add_filenames({0: [path]})
    buffers = loader.copy_files_to_device()
    return {name: buffers.get_tensor(name) for name in loader.get_keys()}, (loader, buffers)


ARMS: dict[str, Callable[[str], Loaded]] = {
    "pipelined": pipelined,
    "safetensors-mmap": safetensors_mmap,
    "safetensors-pread": safetensors_pread,
    "runai": runai,
    "fastsafetensors": fastsafetensors,
}


def release(kept: object) -> None:
    """Let go of memory that would not go by itself."""
    for owner in reversed(kept) if isinstance(kept, tuple) else (kept,):
        if hasattr(owner, "close"):
            owner.close()
        elif hasattr(owner, "__exit__"):
            owner.__exit__(None, None, None)


def empty_tensors(count: int) -> float:
    """The seconds that torch takes to make so many tensors of nothing."""
    import torch

    started = time.perf_counter()
    made = [torch.empty(0) for _ in range(count)]
    seconds = time.perf_counter() - started
    del made
    return seconds


def main() -> None:
    load = ARMS[sys.argv[1]]
    touch = ctypes.CDLL(sys.argv[2]).touch
    touch.restype = ctypes.c_uint64
    # Imports and first calls are not what is compared. What loaders print is not an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        path = json.loads(line)["path"]
        started = time.perf_counter()
        tensors, kept = load(path)
        returned = time.perf_counter()
        addresses = array("Q", [tensor.data_ptr() for tensor in tensors.values()])
        sizes = array("Q", [tensor.nbytes for tensor in tensors.values()])
        checksum = touch(
            ctypes.c_void_p(addresses.buffer_info()[0]),
            ctypes.c_void_p(sizes.buffer_info()[0]),
            ctypes.c_size_t(len(sizes)),
        )
        finished = time.perf_counter()
        del tensors
        release(kept)
        del kept
        gc.collect()
        answer = {
            "objects": empty_tensors(len(sizes)),
            "seconds": finished - started,
            "returned": returned - started,
            "checksum": checksum,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
