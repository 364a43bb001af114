"""What the loader puts on a device is what safetensors reads, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelined import weights
from tests.weights.cuda.fake_driver import FakeDriver, Statistic
from tests.weights.files import file_bytes, raw, tensor_info
from tests.weights.test_weights_equality import Written, written_files

# The driver's state does not matter to the next example.
RELAXED = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@RELAXED
@given(written=written_files(), read=st.sampled_from(["buffered", "direct", "automatic"]))
def test_generated_files(loading: FakeDriver, tmp_path: Path, written: Written, read: Any) -> None:
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(written.content)
    stock = safetensors.torch.load_file(path)
    arena = weights.begin([path], read=read)
    assert set(arena.names()) == set(stock)
    for name, tensor in stock.items():
        assert arena.read_back(name) == raw(tensor)
        assert arena.address(name) % 256 == 0


@RELAXED
@given(shards=st.lists(written_files(), min_size=1, max_size=4))
def test_generated_shards(loading: FakeDriver, tmp_path: Path, shards: list[Written]) -> None:
    paths = []
    for index, written in enumerate(shards):
        path = tmp_path / f"{index}.safetensors"
        path.unlink(missing_ok=True)
        path.write_bytes(written.content)
        paths.append(path)
    stocks = [safetensors.torch.load_file(path) for path in paths]
    if len(set().union(*stocks)) != sum(map(len, stocks)):
        with pytest.raises(safetensors.SafetensorError, match="is in both"):
            weights.begin(paths)
        return
    arena = weights.begin(paths)
    for stock in stocks:
        for name, tensor in stock.items():
            assert arena.read_back(name) == raw(tensor)


def test_large_tensors_in_chunks(loading: FakeDriver, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {f"t{index}": torch.randn(200_001 + index) for index in range(5)}
    safetensors.torch.save_file(tensors, path)
    arena = weights.begin([path])
    for name, tensor in tensors.items():
        assert arena.read_back(name) == raw(tensor)
    assert loading.statistic(Statistic.PINNED_PEAK) <= 64 << 10


def test_types_that_torch_does_not_have(loading: FakeDriver, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"f6": tensor_info("F6_E2M3", [4], 0, 3), "f4": tensor_info("F4", [2, 3], 3, 6)}
    path.write_bytes(file_bytes(header, b"abcdef", padding=1))
    arena = weights.begin([path])
    assert (arena.read_back("f6"), arena.read_back("f4")) == (b"abc", b"def")
    assert arena.dtype("f6") == "F6_E2M3"
    assert arena.shape("f4") == (2, 3)


def test_many_small_tensors_are_one_copy(loading: FakeDriver, tmp_path: Path) -> None:
    weights.set_budgets(weights.Budgets(pinned_bytes=64 << 20))
    path = tmp_path / "model.safetensors"
    tensors = {f"layers.{index}.bias": torch.full((3,), float(index)) for index in range(20_000)}
    safetensors.torch.save_file(tensors, path)
    arena = weights.begin([path])
    arena.wait()
    assert loading.statistic(Statistic.COPIES_TO_DEVICE) == 1
    for name in ("layers.0.bias", "layers.1.bias", "layers.19999.bias"):
        assert arena.read_back(name) == raw(tensors[name])


def test_load_file_on_cuda(torch_has_cuda: FakeDriver, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(7, 3), "b": torch.zeros(0, 4), "c": torch.randn(2).half()}
    safetensors.torch.save_file(tensors, path)
    loaded: Any
    for device in ("cuda", "cuda:0", 0, torch.device("cuda")):
        loaded = weights.load_file(path, device=device)  # type: ignore[arg-type]
        assert set(loaded) == set(tensors)
        for name, tensor in loaded.items():
            assert tensor.raw() == raw(tensors[name])
            assert tensor.shape == tuple(tensors[name].shape)
            assert tensor.strides == tensors[name].stride()
        assert loaded["b"].address == 0
    (arena,) = weights.arenas("cuda")
    assert arena.paths == [str(path)]
    del loaded, tensor, arena
    assert weights.arenas("cuda") == []


def test_load_checkpoint_on_cuda(torch_has_cuda: FakeDriver, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(9)}, tmp_path / "x-1.safetensors")
    safetensors.torch.save_file({"b": torch.arange(3)}, tmp_path / "x-2.safetensors")
    index = {"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    seen: list[weights.LoadProgress] = []
    loaded: Any = weights.load_checkpoint(tmp_path, device="cuda", progress=seen.append)
    assert loaded["a"].raw() == raw(torch.arange(9))
    assert loaded["b"].raw() == raw(torch.arange(3))
    assert seen[-1].finished
    assert [load.bytes for load in weights.loads()] == [72, 24]


def test_only_what_torch_can_use_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.arange(9)}, path)
    # One that this torch does not have: all of them, or the hundredth.
    device = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises((RuntimeError, AssertionError, safetensors.SafetensorError)) as caught:
        weights.load_file(path, device=device)
    assert not isinstance(caught.value, weights.LoadError)
