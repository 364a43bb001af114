"""Startups that lack memory, or a device: each is told for what it is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelined import weights
from pipelined.core.errors import StartupFailed, StartupOutOfMemory
from tests.nursery.launching import Launching
from tests.worker.starting import DEVICE_BYTES, DRIVER, failure, fake, itself, load, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")


def catch(path: str) -> None:
    try:
        load(path)
    except weights.OverBudget as error:
        raise RuntimeError("the model does not load") from error


def run_out_of_device(path: str) -> None:
    fake().fake_fail(b"cuMemCreate", ctypes.c_uint64(1), 2, ctypes.c_uint64(1))
    load(path)


def run_out_of_torch(path: str) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_out_of_host(path: str) -> None:
    bytearray(1 << 62)


@pytest.mark.parametrize(
    ("startup", "type_", "text"),
    [
        (load, "OverBudget", f"device memory are needed, and {DEVICE_BYTES} allowed"),
        (catch, "RuntimeError", "does not load"),
        (run_out_of_device, "CudaError", "cuMemCreate"),
        (run_out_of_torch, "OutOfMemoryError", "CUDA out of memory"),
        (run_out_of_host, "MemoryError", ""),
    ],
)
async def test_a_lack_of_memory_is_told_apart(
    small: Launching, path: Path, large: Path, startup: Callable[..., Any], type_: str, text: str
) -> None:
    of = path if startup is run_out_of_device else large
    error = await failure(small, starting(startup, itself, str(of)))
    assert isinstance(error, StartupOutOfMemory)
    of_device = startup in (run_out_of_device, run_out_of_torch)
    cause = "device_out_of_memory" if of_device else "out_of_memory"
    assert (error.cause, error.failure.type) == (cause, type_)
    assert error.failure.node == "Model.load"
    assert text in str(error)
    # What failed for want of memory was about a file: the message names it.
    assert startup not in (load, run_out_of_device) or str(of) in str(error)


def break_device(path: str) -> None:
    fake().fake_fail(b"cuMemHostAlloc", ctypes.c_uint64(1), 999, ctypes.c_uint64(1))
    load(path)


def lose_driver(path: str) -> None:
    os.environ[DRIVER] = f"{path}.so"
    load(path)


def break_torch(path: str) -> None:
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("startup", "type_"),
    [
        (break_device, "CudaError"),
        (lose_driver, "DriverMissing"),
        (break_torch, "AcceleratorError"),
    ],
)
async def test_a_device_that_fails_ends_the_worker(
    small: Launching, path: Path, startup: Callable[..., Any], type_: str
) -> None:
    error = await failure(small, starting(startup, itself, str(path)))
    assert (type(error), error.cause, error.failure.type) == (StartupFailed, "device", type_)


def change(path: str) -> None:
    arena = load(path)
    Path(path).write_bytes(b"something else")
    arena.sleep(unmodified=True)


async def test_a_file_that_changed_is_named(small: Launching, path: Path) -> None:
    error = await failure(small, starting(change, itself, str(path)))
    assert (error.cause, error.failure.type) == ("weights", "FileChanged")
    assert str(path) in error.failure.message


def give_up(path: str) -> None:
    arena = load(path)
    arena.sleep(unmodified=True)
    arena.read_back("weight")


async def test_what_the_node_brought_about_itself_leaves_the_worker(
    small: Launching, path: Path
) -> None:
    error = await failure(small, starting(give_up, itself, str(path)))
    assert (error.cause, error.failure.type) == ("node", "Asleep")
