"""Graphs that load weights when they start, and what runs of them tell: all of it runs in workers.

The fake CUDA driver is that of tests/cpp/fake_cuda; control.h says what it does.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import Graph, Pipeline, entity, pipe
from pipelined import weights
from pipelined.core.errors import StartupFailed
from tests.nursery.launching import Launching

PINNED_BYTES = 64 << 10
DEVICE_BYTES = 4 << 20
DRIVER = "PIPELINED_CUDA_DRIVER"


def environment(driver: Path) -> dict[str, str]:
    """That of a nursery whose workers use this driver."""
    return {**os.environ, DRIVER: str(driver)}


def starting(startup: Callable[..., Any], run: Callable[[Any], Any], *arguments: Any) -> Graph:
    """A graph whose startup node calls one function, and whose run another with the result."""

    @entity
    class Model:
        @pipe(on_startup=True, run_once=True)
        def load(self) -> None:
            self.loaded = startup(*arguments)

        @pipe
        def look(self) -> Any:
            return run(self.loaded)

    with Pipeline() as builder:
        model = Model()
        model.load()
        builder.output(model.look())
    return builder.get_pipeline()


async def failure(launching: Launching, graph: Graph) -> StartupFailed:
    """How the startup failed; where that ends the worker, it has ended."""
    worker = await launching.launch()
    with pytest.raises(StartupFailed) as caught:
        await launching.start_on(worker, graph)
    if caught.value.cause != "node":
        await worker.exited
    return caught.value


def fake() -> ctypes.CDLL:
    """The fake driver, in the worker (tests/cpp/fake_cuda/control.h)."""
    library = ctypes.CDLL(os.environ[DRIVER])
    library.fake_statistics.restype = ctypes.c_uint64
    return library


def pinned() -> tuple[int, int]:
    """How much is pinned now, and how much was at most."""
    return fake().fake_statistics(0), fake().fake_statistics(1)


def load(*paths: str) -> weights.Arena:
    """Load files onto the device."""
    arena = weights.begin(paths)
    arena.wait()
    return arena


def only_pinned(_: object) -> tuple[int, int]:
    return pinned()


def itself(value: Any) -> Any:
    return value
