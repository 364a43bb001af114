"""What the tests of the CUDA path share: a driver that needs no GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from pipelined.weights import _cuda_arena, _devices
from tests.cpp import compiling
from tests.weights.cuda.consumer import Consumer
from tests.weights.cuda.fake_driver import FakeDriver
from tests.weights.cuda.torch_cuda import TorchCuda

PINNED_BYTES = 64 << 10


@pytest.fixture(scope="session")
def fake_library() -> Path:
    """The fake libcuda.so.1, compiled if it has changed."""
    return compiling.build_library("fake_cuda")


@pytest.fixture
def fake(fake_library: Path) -> Iterator[FakeDriver]:
    """The fake driver in its first state. What a test leaves behind is its own affair."""
    driver = FakeDriver(fake_library)
    driver.reset()
    yield driver
    driver.reset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a tensor that is larger than the ring of `loading`, and smaller ones."""
    path = tmp_path / "model.safetensors"
    tensors = {f"t{index}": torch.randn(size) for index, size in enumerate([1, 40_000, 70, 9000])}
    safetensors.torch.save_file(tensors, path)
    return path


@pytest.fixture
def close_devices(fake: FakeDriver) -> Callable[[], None]:
    """Closes the loader's devices, and checks that nothing is left and nothing was done wrong."""

    def close() -> None:
        _devices.forget_devices()
        gc.collect()
        assert fake.report() == ""

    return close


@pytest.fixture
def loading(
    fake: FakeDriver, close_devices: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeDriver]:
    """The driver, with the loader using it and little pinned memory; all must be given back."""
    monkeypatch.setenv(_devices.DRIVER_VARIABLE, str(fake.path))
    weights.set_budgets(weights.Budgets(pinned_bytes=PINNED_BYTES))
    yield fake
    fake.hold(False)
    weights.set_budgets(weights.Budgets())
    close_devices()


@pytest.fixture
def torch_cuda(loading: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[TorchCuda]:
    """A torch that has a CUDA device: "cuda" is device 0, and its tensors are real ones."""
    cuda = TorchCuda(loading, monkeypatch)
    yield cuda
    cuda.forget()


@pytest.fixture
def torch_has_cuda(loading: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A torch that has a CUDA device: "cuda" is device 0, and its tensors are DeviceTensors."""

    def ready(arena: _cuda_arena.CudaArena) -> None:
        arena._checkpoint.wait_enqueued()
        arena._checkpoint.make_wait(0)
        arena.wait()

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr(_cuda_arena, "adopt", Consumer(loading))
    monkeypatch.setattr(_cuda_arena.CudaArena, "_make_ready", ready)
    return loading
