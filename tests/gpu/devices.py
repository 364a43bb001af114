"""Which devices there are, asked of the driver itself: without torch, and without our loader."""

from __future__ import annotations

import ctypes
import functools
import os
import time
import unittest
from collections.abc import Callable
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])

_PINNED_BYTES = 256 << 20
_PORTABLE = 1


def library() -> str:
    """The CUDA driver that the loader uses."""
    return os.environ.get("PIPELINED_CUDA_DRIVER") or "libcuda.so.1"


@functools.cache
def why_no_device() -> str | None:
    """Why nothing can be loaded onto a device here; None where it can."""
    try:
        driver = ctypes.CDLL(library())
    except OSError as error:
        return f"no CUDA device: {error}"
    code = driver.cuInit(0)
    if code != 0:
        return f"no CUDA device: cuInit of {library()} returns {code}"
    count = ctypes.c_int()
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0 or count.value == 0:
        return f"no CUDA device: {library()} counts {count.value}"
    return None


@functools.cache
def why_no_torch_device() -> str | None:
    """Why torch cannot use a CUDA device here; None where it can."""
    import torch

    if torch.cuda.is_available():
        return why_no_device()
    kind = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
    return why_no_device() or f"no CUDA device for torch: {torch.__version__} {kind}"


def needs_device(test: Test) -> Test:
    """Skip a test, or a class of them, where the driver has no device."""
    reason = why_no_device()
    decorated: Test = unittest.skipIf(reason is not None, reason or "")(test)
    return decorated


def needs_torch_device(test: Test) -> Test:
    """Skip a test, or a class of them, where torch has no CUDA device."""
    reason = why_no_torch_device()
    decorated: Test = unittest.skipIf(reason is not None, reason or "")(test)
    return decorated


def host_to_device_rate(address: int, size: int, rounds: int = 5) -> float:
    """Copy from pinned memory to an address on device 0; return the best rate, in bytes a second.

    In one copy at a time, as large as the 256 MiB that are pinned for it allow: nothing gets bytes
    to the device faster. Raises OSError with the driver's code.
    """
    driver = ctypes.CDLL(library())

    def call(name: str, *arguments: object) -> None:
        code = getattr(driver, name)(*arguments)
        if code != 0:
            raise OSError(f"{name} returns {code}")

    size = min(size, _PINNED_BYTES)
    context, popped, pinned = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxPushCurrent_v2", context)
    try:
        call("cuMemHostAlloc", ctypes.byref(pinned), ctypes.c_size_t(size), _PORTABLE)
        try:
            ctypes.memset(pinned, 1, size)
            seconds = []
            for _ in range(rounds):
                started = time.perf_counter()
                copy = (ctypes.c_uint64(address), pinned, ctypes.c_size_t(size), None)
                call("cuMemcpyHtoDAsync_v2", *copy)
                call("cuCtxSynchronize")
                seconds.append(time.perf_counter() - started)
        finally:
            call("cuMemFreeHost", pinned)
    finally:
        call("cuCtxPopCurrent_v2", ctypes.byref(popped))
        call("cuDevicePrimaryCtxRelease_v2", 0)
    return size / min(seconds)
