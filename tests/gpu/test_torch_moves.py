"""`.to("cuda")` of tensors that were just loaded takes them from an arena, on a real device."""

from __future__ import annotations

import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.devices import needs_torch_device
from tests.weights.files import assert_same


@needs_torch_device
class TorchMovesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "model.safetensors"
        self.stock = torch.nn.Sequential(*(torch.nn.Linear(700, 700) for _ in range(12)))
        safetensors.torch.save_file(self.stock.state_dict(), self.path)

    def _model(self) -> torch.nn.Module:
        """On the CPU, from the file."""
        layers = (torch.nn.Linear(700, 700, device="meta") for _ in range(12))
        model = torch.nn.Sequential(*layers).requires_grad_(False)
        model.load_state_dict(weights.load_file(self.path), assign=True)
        return model

    def _assert_from_arena(self, tensors: dict[str, torch.Tensor]) -> None:
        [arena] = weights.arenas("cuda")
        for name, tensor in tensors.items():
            assert tensor.data_ptr() == arena.address(name), name
            assert_same(tensor.cpu(), self.stock.state_dict()[name])

    def test_a_module(self) -> None:
        with weights.device_moves():
            model = self._model().to("cuda")
        self._assert_from_arena(model.state_dict())
        expected = self.stock(torch.ones(2, 700))
        result = model(torch.ones(2, 700, device="cuda"))
        torch.testing.assert_close(result.cpu(), expected)

    def test_many_threads(self) -> None:
        tensors = weights.load_file(self.path)
        with weights.device_moves(), ThreadPoolExecutor(8) as pool:
            moved = pool.map(lambda tensor: tensor.to("cuda", non_blocking=True), tensors.values())
            by_name = dict(zip(tensors, moved, strict=True))
        torch.cuda.synchronize()
        self._assert_from_arena(by_name)

    def test_another_dtype(self) -> None:
        with weights.device_moves():
            model = self._model().to("cuda", torch.bfloat16)
        expected = self.stock.to(torch.bfloat16).state_dict()
        for name, tensor in model.state_dict().items():
            assert_same(tensor.cpu(), expected[name])

    def test_what_was_written_to_is_what_arrives(self) -> None:
        tensors = weights.load_file(self.path)
        tensors["3.bias"].fill_(7)
        with weights.device_moves():
            moved = {name: tensor.to("cuda") for name, tensor in tensors.items()}
        assert moved.pop("3.bias").eq(7).all()
        for name, tensor in moved.items():
            assert_same(tensor.cpu(), self.stock.state_dict()[name])

    def test_a_second_copy_is_one(self) -> None:
        tensors = weights.load_file(self.path)
        with weights.device_moves():
            first = {name: tensor.to("cuda") for name, tensor in tensors.items()}
            second = {name: tensor.to("cuda") for name, tensor in tensors.items()}
        for name, tensor in first.items():
            tensor.zero_()
            assert_same(second[name].cpu(), self.stock.state_dict()[name])

    def test_they_sleep_and_wake(self) -> None:
        with weights.device_moves():
            model = self._model().to("cuda")
        [arena] = weights.arenas("cuda")
        expected = model(torch.ones(2, 700, device="cuda"))
        arena.sleep()
        arena.wake()
        assert torch.equal(model(torch.ones(2, 700, device="cuda")), expected)


if __name__ == "__main__":
    unittest.main()
