"""Models on a real device: `from_pretrained` with ours installed, and plain modules."""

from __future__ import annotations

import importlib.util
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.devices import needs_torch_device
from tests.weights.files import assert_same
from tests.weights.models import small_text_model, small_unet


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def assert_same_state(ours: torch.nn.Module, stock: torch.nn.Module) -> None:
    expected = stock.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert tensor.device == torch.device("cuda:0"), name
        assert_same(tensor.cpu(), expected[name].cpu())


@needs_torch_device
class TorchModelsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        weights.install()
        self.addCleanup(weights.uninstall)

    def _on_device(self, load: Any, folder: Path, **options: Any) -> None:
        """Load with ours, in the ways that programs do, and compare with stock on the CPU."""
        weights.uninstall()
        stock = load(folder, **options)
        weights.install()
        assert_same_state(load(folder, **options).to("cuda"), stock)
        if has("accelerate"):
            assert_same_state(load(folder, device_map="cuda", **options), stock)

    def test_a_module_is_moved(self) -> None:
        path = self.folder / "model.safetensors"
        stock = torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(8)))
        safetensors.torch.save_file(stock.state_dict(), path)
        ours = torch.nn.Sequential(*(torch.nn.Linear(300, 300, device="meta") for _ in range(8)))
        ours.load_state_dict(safetensors.torch.load_file(path), assign=True)
        assert_same_state(ours.to("cuda"), stock)
        torch.testing.assert_close(
            ours(torch.ones(2, 300, device="cuda")).cpu(), stock(torch.ones(2, 300))
        )

    def test_tensors_are_moved_by_many_threads(self) -> None:
        path = self.folder / "model.safetensors"
        stock = {f"t{index}": torch.randn(1000 + index) for index in range(200)}
        safetensors.torch.save_file(stock, path)
        with safetensors.safe_open(path, framework="pt") as file:

            def move(name: str) -> torch.Tensor:
                part: torch.Tensor = file.get_slice(name)[...]
                return part.to("cuda", non_blocking=True)

            with ThreadPoolExecutor(8) as pool:
                moved = dict(zip(stock, pool.map(move, stock), strict=True))
        torch.cuda.synchronize()
        for name, tensor in moved.items():
            assert_same(tensor.cpu(), stock[name])

    @unittest.skipUnless(has("diffusers"), "diffusers is not installed")
    def test_diffusers(self) -> None:
        import diffusers

        small_unet().save_pretrained(self.folder)
        self._on_device(diffusers.UNet2DConditionModel.from_pretrained, self.folder)
        self._on_device(
            diffusers.UNet2DConditionModel.from_pretrained, self.folder, torch_dtype=torch.float16
        )

    @unittest.skipUnless(has("transformers"), "transformers is not installed")
    def test_transformers(self) -> None:
        import transformers

        small_text_model().save_pretrained(self.folder, max_shard_size="200KB")
        self._on_device(transformers.CLIPTextModel.from_pretrained, self.folder)


if __name__ == "__main__":
    unittest.main()
