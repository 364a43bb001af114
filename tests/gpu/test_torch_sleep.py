"""Models of a real torch on a real device: put to sleep and woken, they compute what they did."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.devices import needs_torch_device
from tests.gpu.test_torch_tensors import device_bytes, keep_busy

WIDTH = 4096


class Model(torch.nn.Module):
    """Of 192 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.second = torch.nn.Linear(WIDTH, WIDTH)
        self.third = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.third(self.second(self.first(x).relu()).relu())
        return result

    def addresses(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self.parameters()]


@needs_torch_device
class TorchSleepTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "model.safetensors"
        torch.manual_seed(0)
        self.model = Model()
        safetensors.torch.save_file(self.model.state_dict(), self.path)
        self.model.to("meta")
        self.model.load_state_dict(weights.load_file(self.path, device="cuda:0"), assign=True)
        self.model.requires_grad_(False)
        [self.arena] = weights.arenas("cuda")
        self.input = torch.randn(16, WIDTH, device="cuda:0")

    def test_the_forward_pass_is_the_same(self) -> None:
        expected = self.model.forward(self.input)
        addresses = self.model.addresses()
        awake = device_bytes()
        for unmodified in (False, True, False):
            self.arena.sleep(unmodified=unmodified)
            assert device_bytes() <= awake - (190 << 20)
            self.arena.wake()
            assert device_bytes() >= awake - (4 << 20)
            assert self.model.addresses() == addresses
            assert torch.equal(self.model.forward(self.input), expected)

    def test_what_was_changed_stays_changed(self) -> None:
        weight, bias = self.model.second.weight, self.model.third.bias
        weight[7].mul_(2)
        bias.fill_(3)
        # A view sees what its base has.
        view = weight.t()
        expected = self.model.forward(self.input)
        kept = weight.clone()
        for _ in range(2):
            self.arena.sleep()
            assert 0 < self.arena.stats().saved_bytes <= 64 << 20
            self.arena.wake()
            assert torch.equal(weight, kept)
            assert torch.equal(view, kept.t())
            assert bias.eq(3).all()
            assert torch.equal(self.model.forward(self.input), expected)
            assert self.arena.stats().saved_bytes == 0

    def test_work_under_way_is_waited_for(self) -> None:
        weight = self.model.second.weight
        expected = weight + 1
        keep_busy()
        weight.add_(1)
        self.arena.sleep()
        self.arena.wake()
        assert torch.equal(weight, expected)

    def test_a_captured_graph_can_be_replayed(self) -> None:
        expected = self.model.forward(self.input)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.model.forward(self.input)
        self.arena.sleep()
        self.arena.wake()
        output.zero_()
        graph.replay()
        torch.testing.assert_close(output, expected)

    def test_two_arenas_sleep_on_their_own(self) -> None:
        second = weights.load_file(self.path, device="cuda:0")
        first_address = self.arena.address("first.weight")
        [other] = [
            one for one in weights.arenas("cuda") if one.address("first.weight") != first_address
        ]
        expected = self.model.forward(self.input)
        other.sleep()
        assert torch.equal(self.model.forward(self.input), expected)
        self.arena.sleep()
        other.wake()
        self.arena.wake()
        assert torch.equal(second["first.weight"], self.model.first.weight)
        assert torch.equal(self.model.forward(self.input), expected)


if __name__ == "__main__":
    unittest.main()
