"""Files that are opened for a device: what of them goes through the ring."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.cuda.fake_driver import NOT_SUPPORTED, Statistic
from tests.weights.cuda.torch_cuda import TorchCuda
from tests.weights.files import assert_same, assert_same_tensors

TENSORS = {"a": torch.randn(7, 300), "b": torch.randn(5000), "c": torch.randn(40, 50)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


def test_all_at_once(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.safe_open(path, framework="pt", device="cuda") as file:
        loaded = file.get_tensors()
        assert all(map(torch_cuda.from_loader, loaded.values()))
        assert_same_tensors(loaded, TENSORS)
        # As from safetensors, what is asked for again is another tensor.
        again = file.get_tensor("b")
        loaded["b"].zero_()
        assert_same(again, TENSORS["b"])
        assert_same_tensors(file.get_tensors(), TENSORS)
        with pytest.raises(safetensors.SafetensorError, match="does not contain tensor x"):
            file.get_tensor("x")
    assert len(weights.loads()) == 1


def test_one_alone_is_copied_alone(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.safe_open(path, framework="pt", device="cuda") as file:
        assert_same(file.get_tensor("a"), TENSORS["a"])
        assert torch_cuda.copied == [TENSORS["a"].nbytes]
        assert weights.arenas("cuda") == []
        assert torch_cuda.from_loader(file.get_tensor("b"))
        assert torch_cuda.from_loader(file.get_tensor("c"))
    (load,) = weights.loads()
    assert load.bytes == sum(tensor.nbytes for tensor in TENSORS.values())


def test_whole_slices_are_whole_tensors(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.safe_open(path, framework="pt", device="cuda") as file:
        slices = {name: file.get_slice(name) for name in TENSORS}
        loaded = {name: part[...] for name, part in slices.items()}
    assert torch_cuda.copied == []
    assert all(map(torch_cuda.from_loader, loaded.values()))
    assert_same_tensors(loaded, TENSORS)


def test_parts_are_copied_alone(torch_cuda: TorchCuda, path: Path) -> None:
    with weights.safe_open(path, framework="pt", device="cuda") as file:
        part = file.get_slice("a")[2:5]
    assert_same(part, TENSORS["a"][2:5])
    assert torch_cuda.copied == [part.nbytes]
    assert weights.arenas("cuda") == []


def test_the_device_is_full(
    torch_cuda: TorchCuda, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch_cuda.driver.configure(device_bytes=1 << 20)
    with caplog.at_level(logging.WARNING, "pipelined.weights"):
        loaded = weights.load_file(path, device="cuda")
    assert_same_tensors(loaded, TENSORS)
    assert len(torch_cuda.copied) == len(TENSORS)
    (record,) = caplog.records
    assert str(path) in record.message
    assert torch_cuda.driver.statistic(Statistic.DEVICE_BYTES) == 0


@pytest.mark.parametrize("function", ["cuMemGetAllocationGranularity", "cuMemCreate"])
def test_a_device_without_virtual_memory_management(
    torch_cuda: TorchCuda, path: Path, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    torch_cuda.driver.fail(function, 1, NOT_SUPPORTED, times=100)
    with caplog.at_level(logging.WARNING, "pipelined.weights"):
        loaded = weights.load_file(path, device="cuda")
    torch_cuda.driver.fail(None, 0, 0)
    assert_same_tensors(loaded, TENSORS)
    assert len(torch_cuda.copied) == len(TENSORS)
    (record,) = caplog.records
    assert "CUDA_ERROR_NOT_SUPPORTED" in record.message


def test_the_file_that_was_opened_is_loaded(torch_cuda: TorchCuda, path: Path) -> None:
    file = weights.safe_open(path, framework="pt", device="cuda")
    other = path.with_name("other")
    safetensors.torch.save_file({name: tensor + 1 for name, tensor in TENSORS.items()}, other)
    other.rename(path)
    loaded = file.get_tensors()
    assert all(map(torch_cuda.from_loader, loaded.values()))
    assert_same_tensors(loaded, TENSORS)
