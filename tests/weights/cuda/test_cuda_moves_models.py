"""Unmodified from_pretrained and `.to("cuda")`: the same models, through pinned memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipelined import weights
from tests.weights.cuda.fake_driver import Statistic
from tests.weights.cuda.torch_cuda import TorchCuda
from tests.weights.files import assert_same_tensors
from tests.weights.models import Model, files_of, make_models

NAMES = ["unet", "unet-sharded", "vae", "text", "text-sharded", "minilm"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def hooked(installed: None, torch_cuda: TorchCuda) -> Iterator[TorchCuda]:
    """A process in which the loader does what it can."""
    with weights.device_moves():
        yield torch_cuda
    torch_cuda.forget()


def assert_through_the_ring(cuda: TorchCuda, model: torch.nn.Module, folder: Path) -> None:
    """All that the files have went through pinned memory, once, and nothing else did."""
    files = list(files_of(folder))
    assert sorted((load.path, load.bytes) for load in weights.loads()) == files
    total = sum(nbytes for _, nbytes in files)
    tensors = sum(1 for _ in model.state_dict())
    # Tensors begin at multiples of 256 bytes, and what is between them comes along.
    assert total <= cuda.driver.statistic(Statistic.BYTES_TO_DEVICE) <= total + 256 * (tensors + 8)
    assert cuda.driver.statistic(Statistic.PAGEABLE_COPIES) == 0
    assert all(map(cuda.from_loader, model.parameters()))


def stock_state(model: Model, **options: Any) -> dict[str, torch.Tensor]:
    """A model's tensors as safetensors loads them onto the CPU."""
    load, folder = model
    weights.uninstall()
    state = load(folder, **options).state_dict()
    weights.install()
    return state


@pytest.mark.parametrize("name", NAMES)
def test_to_cuda(models: dict[str, Model], hooked: TorchCuda, name: str) -> None:
    load, folder = models[name]
    expected = stock_state(models[name])
    model = load(folder).to("cuda")
    assert_same_tensors(model.state_dict(), expected)
    assert_through_the_ring(hooked, model, folder)


@pytest.mark.parametrize("name", NAMES)
def test_device_map(models: dict[str, Model], hooked: TorchCuda, name: str) -> None:
    load, folder = models[name]
    expected = stock_state(models[name])
    model = load(folder, device_map="cuda")
    assert_same_tensors(model.state_dict(), expected)
    assert_through_the_ring(hooked, model, folder)
    # What the libraries had torch allocate before was given back.
    assert (hooked.cached_peak > 0, hooked.cached) == (True, 0)


@pytest.mark.parametrize("name", NAMES)
def test_half(models: dict[str, Model], hooked: TorchCuda, name: str) -> None:
    load, folder = models[name]
    expected = stock_state(models[name], torch_dtype=torch.float16)
    model = load(folder, torch_dtype=torch.float16, device_map="cuda")
    assert_same_tensors(model.state_dict(), expected)
    assert all(map(hooked.on_device, model.parameters()))
    if isinstance(model, transformers.PreTrainedModel):
        # diffusers converts on the CPU, which leaves tensors of its own.
        assert hooked.copied == []
