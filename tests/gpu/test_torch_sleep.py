"""Models of a real torch on a real device: put to sleep and woken, they compute what they did."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.devices import needs_torch_device
from tests.gpu.test_torch_tensors import device_bytes


def _model() -> torch.nn.Sequential:
    """Of 192 MiB."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4096, 4096, bias=index > 0) for index in range(3)]
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


@needs_torch_device
class TorchSleepTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "model.safetensors"
        model = _model()
        safetensors.torch.save_file(model.state_dict(), path)
        self.model = model.to("meta")
        self.model.load_state_dict(weights.load_file(path, device="cuda:0"), assign=True)
        self.model.requires_grad_(False)
        [self.arena] = weights.arenas()
        self.input = torch.randn(16, 4096, device="cuda:0")

    def test_the_forward_pass_is_the_same(self) -> None:
        expected = self.model(self.input)
        addresses = [parameter.data_ptr() for parameter in self.model.parameters()]
        awake = device_bytes()
        for unmodified in (False, True, False):
            self.arena.sleep(unmodified=unmodified)
            assert device_bytes() <= awake - (190 << 20)
            self.arena.wake()
            assert device_bytes() >= awake - (4 << 20)
            assert [parameter.data_ptr() for parameter in self.model.parameters()] == addresses
            assert torch.equal(self.model(self.input), expected)

    def test_what_was_changed_stays_changed(self) -> None:
        weight, bias = self.model[2].weight, self.model[4].bias
        weight[7].mul_(2)
        bias.fill_(3)
        # A view sees what its base has.
        view = weight.t()
        expected = self.model(self.input)
        kept = weight.clone()
        for _ in range(2):
            self.arena.sleep()
            assert 0 < self.arena.stats().saved_bytes <= 64 << 20
            self.arena.wake()
            assert torch.equal(weight, kept)
            assert torch.equal(view, kept.t())
            assert bool((bias == 3).all())
            assert torch.equal(self.model(self.input), expected)
            assert self.arena.stats().saved_bytes == 0

    def test_work_under_way_is_waited_for(self) -> None:
        weight = self.model[2].weight
        expected = weight + 1
        torch.cuda._sleep(50_000_000)
        weight.add_(1)
        self.arena.sleep()
        self.arena.wake()
        assert torch.equal(weight, expected)

    def test_a_captured_graph_can_be_replayed(self) -> None:
        expected = self.model(self.input)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.model(self.input)
        self.arena.sleep()
        self.arena.wake()
        output.zero_()
        graph.replay()
        torch.testing.assert_close(output, expected)

    def test_two_arenas_sleep_on_their_own(self) -> None:
        [path] = self.arena.paths
        second = weights.load_file(path, device="cuda:0")
        [other] = [arena for arena in weights.arenas() if arena.address("0.weight") != self.address]
        expected = self.model(self.input)
        other.sleep()
        assert torch.equal(self.model(self.input), expected)
        self.arena.sleep()
        other.wake()
        self.arena.wake()
        assert torch.equal(second["0.weight"], self.model[0].weight)
        assert torch.equal(self.model(self.input), expected)

    @property
    def address(self) -> int:
        """Of the model's first tensor."""
        return int(self.model[0].weight.data_ptr())


if __name__ == "__main__":
    unittest.main()
