"""Tensors of a real torch on a real device: equal to stock ones, and as good."""

from __future__ import annotations

import copy
import gc
import io
import json
import tempfile
import unittest
from pathlib import Path

import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.checkpoints import write_large, write_random, write_types
from tests.gpu.devices import needs_torch_device
from tests.weights.files import ELEMENT_BITS, assert_same

# What the format calls types that torch has not always had.
NEW_TYPES = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}


def keep_busy() -> None:
    """Give the current stream work for some tens of milliseconds."""
    torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]


def device_bytes() -> int:
    """Physical memory of the device that is in use, by anybody."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


@needs_torch_device
class TorchTensorsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def _assert_same(self, ours: dict[str, torch.Tensor], *paths: Path) -> None:
        stock = {k: v for path in paths for k, v in safetensors.torch.load_file(path).items()}
        assert ours.keys() == stock.keys()
        for name, tensor in ours.items():
            assert tensor.device == torch.device("cuda:0"), name
            assert tensor.is_contiguous(), name
            assert_same(tensor.cpu(), stock[name])

    def test_every_type(self) -> None:
        types = [name for name in ELEMENT_BITS if hasattr(torch, NEW_TYPES.get(name, "float32"))]
        path = write_types(self.folder / "types.safetensors", types)
        self._assert_same(weights.load_file(path, device="cuda:0"), path)

    def test_random_files(self) -> None:
        for seed in range(40):
            path = write_random(self.folder / f"{seed}.safetensors", seed)
            with self.subTest(seed=seed):
                self._assert_same(weights.load_file(path, device="cuda:0"), path)

    def test_all_spellings_of_the_device(self) -> None:
        path = write_large(self.folder / "large.safetensors", [1 << 20])
        for device in ("cuda", "cuda:0", 0):
            self._assert_same(weights.load_file(path, device=device), path)

    def test_shards(self) -> None:
        paths = [
            write_random(self.folder / f"{shard}.safetensors", shard, f"{shard}.")
            for shard in range(3)
        ]
        index = {name: path.name for path in paths for name in safetensors.torch.load_file(path)}
        (self.folder / "x.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        steps: list[weights.LoadProgress] = []
        ours = weights.load_checkpoint(self.folder, device="cuda", progress=steps.append)
        self._assert_same(ours, *paths)
        assert steps[-1].finished

    def test_safe_open(self) -> None:
        path = self.folder / "slices.safetensors"
        stock = {"a": torch.randn(7, 9), "b": torch.randn(5).bfloat16(), "c": torch.arange(24)}
        safetensors.torch.save_file(stock, path, metadata={"made": "here"})
        with weights.safe_open(path, framework="pt", device="cuda:0") as file:
            assert file.metadata() == {"made": "here"}
            assert file.keys() == ["a", "b", "c"]
            for index in (slice(None), slice(2, 5), (slice(1, 7, 2), slice(3, None)), ..., 3):
                part = file.get_slice("a")[index]
                assert part.device.type == "cuda"
                assert_same(part.cpu(), stock["a"][index])
            one = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._assert_same(one, path)

    def test_each_tensor_is_on_its_own(self) -> None:
        path = write_large(self.folder / "large.safetensors", [8 << 20, 256, 16 << 20])
        ours = weights.load_file(path, device="cuda:0")
        small = ours["layers.1.weight"]
        assert small.untyped_storage().nbytes() == 256
        assert small.storage_offset() == 0
        buffer = io.BytesIO()
        torch.save(small, buffer)
        assert len(buffer.getvalue()) < 10_000
        buffer.seek(0)
        assert torch.equal(torch.load(buffer), small)
        before = torch.cuda.memory_allocated()
        twin = copy.deepcopy(small)
        assert torch.cuda.memory_allocated() - before < 10_000
        twin.zero_()
        self._assert_same(ours, path)

    def test_they_take_part_in_training(self) -> None:
        path = self.folder / "linear.safetensors"
        stock = torch.nn.Linear(32, 8)
        safetensors.torch.save_file(stock.state_dict(), path)
        ours = torch.nn.Linear(32, 8, device="meta")
        ours.load_state_dict(weights.load_file(path, device="cuda:0"), assign=True)
        for model, device in ((stock, "cpu"), (ours, "cuda:0")):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            model(torch.ones(4, 32, device=device)).sum().backward()
            optimizer.step()
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.cpu(), stock.get_parameter(name))

    def test_the_current_stream_waits(self) -> None:
        path = write_large(self.folder / "large.safetensors", [64 << 20])
        expected = safetensors.torch.load_file(path, device="cuda:0")["layers.0.weight"].clone()
        others = [torch.cuda.Stream() for _ in range(10)]  # type: ignore[no-untyped-call]
        for stream in [torch.cuda.default_stream(), *others]:
            with torch.cuda.stream(stream):
                # At once, while the last copies are under way.
                seen = weights.load_file(path, device="cuda:0")["layers.0.weight"].clone()
                assert torch.equal(seen, expected)

    def test_memory_outlives_the_kernels_that_read_it(self) -> None:
        path = write_large(self.folder / "large.safetensors", [64 << 20])
        expected = safetensors.torch.load_file(path, device="cuda:0")["layers.0.weight"].clone()
        for _ in range(5):
            tensor = weights.load_file(path, device="cuda:0")["layers.0.weight"]
            keep_busy()
            seen = tensor.clone()
            # The last reference, with the kernels yet to run.
            del tensor
            assert weights.arenas("cuda") == []
            assert torch.equal(seen, expected)

    def test_memory_comes_back(self) -> None:
        path = write_large(self.folder / "large.safetensors", [100 << 20])
        del weights.load_file(path, device="cuda:0")["layers.0.weight"]
        gc.collect()
        ours, allocated = device_bytes(), torch.cuda.memory_allocated()
        for _ in range(20):
            tensors = weights.load_file(path, device="cuda:0")
            # The arena's is not the caching allocator's.
            assert torch.cuda.memory_allocated() == allocated
            assert device_bytes() >= ours + (100 << 20)
            del tensors
        assert abs(device_bytes() - ours) <= 4 << 20

    def test_the_budget_of_the_device(self) -> None:
        path = write_large(self.folder / "large.safetensors", [40 << 20])
        # Budgets are those of devices that are opened from here on.
        program = (
            "import sys, torch; from pipelined import weights\n"
            "weights.set_budgets(weights.Budgets(device_bytes=64 << 20))\n"
            "tensors = weights.load_file(sys.argv[1], device='cuda:0')\n"
            "try:\n    weights.load_checkpoint(sys.argv[1], device='cuda:0')\n"
            "except weights.OverBudget as error: assert error.needed == 40 << 20, error\n"
            "else: sys.exit('within the budget')\n"
            "[arena] = weights.arenas('cuda'); arena.sleep()\n"
            "again = weights.load_checkpoint(sys.argv[1], device='cuda:0')\n"
            "assert again['layers.0.weight'].count_nonzero() > 0\n"
        )
        _run(program, path)

    def test_a_process_that_never_used_cuda_may_fork(self) -> None:
        path = write_large(self.folder / "large.safetensors", [1 << 20])
        program = (
            "import os, sys, torch; from pipelined import weights; weights.install()\n"
            "import safetensors.torch\n"
            "safetensors.torch.load_file(sys.argv[1])\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    t = safetensors.torch.load_file(sys.argv[1], device='cuda:0')\n"
            "    assert len(weights.arenas('cuda')) == 1\n"
            "    assert t['layers.0.weight'].sum().isfinite(); sys.exit(0)\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        )
        _run(program, path)


def _run(program: str, path: Path) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    unittest.main()
