"""Loads onto the CPU that are begun and waited for, and which of them there are."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from pipelined import weights
from tests.weights.files import (
    arenas_of,
    assert_same_tensors,
    file_bytes,
    raw,
    settled,
    sparse_file,
    tensor_info,
)
from tests.weights.test_weights_equality import Written, written_files
from tests.weights.test_weights_memory import mapped

MIB = 1 << 20
TENSORS = {"a": torch.randn(500, 30), "b": torch.randn(70).half(), "c": torch.zeros(0, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """So large, and not in the page cache, that nobody reads it before it is cancelled."""
    return sparse_file(tmp_path / "large.safetensors", tensors=64, bytes_each=16 * MIB)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shards=st.lists(written_files(), min_size=1, max_size=3))
def test_generated_shards(tmp_path: Path, shards: list[Written]) -> None:
    paths = [tmp_path / f"{index}.safetensors" for index in range(len(shards))]
    for path, written in zip(paths, shards, strict=True):
        path.unlink(missing_ok=True)
        path.write_bytes(written.content)
    stocks = [safetensors.torch.load_file(path) for path in paths]
    if len(set().union(*stocks)) != sum(map(len, stocks)):
        with pytest.raises(SafetensorError, match="is in both"):
            weights.begin(paths, "cpu")
        return
    arena = weights.begin(paths, "cpu")
    stock = {name: tensor for one in stocks for name, tensor in one.items()}
    assert set(arena.names()) == set(stock)
    assert_same_tensors(arena.tensors(), stock)
    arena.sleep()
    for name, tensor in stock.items():
        assert arena.read_back(name) == raw(tensor)


def test_an_arena_says_what_is_in_it(path: Path) -> None:
    arena = weights.begin([path], "cpu")
    assert (arena.device, arena.paths) == ("cpu", [str(path)])
    assert set(arena.names()) == set(TENSORS)
    assert (arena.dtype("b"), arena.shape("c")) == ("F16", (0, 2))
    tensor = arena.tensor("a")
    assert arena.address("a") == tensor.data_ptr()
    assert arena.address("c") == 0
    assert arena.read_back("c") == b""
    tensor[3, 4] = 7
    assert arena.read_back("a") == raw(tensor)
    with pytest.raises(SafetensorError, match="does not contain tensor x"):
        arena.tensor("x")
    with pytest.raises(SafetensorError, match="does not contain tensor x"):
        arena.address("x")


def test_types_that_torch_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"f6": tensor_info("F6_E2M3", [4], 0, 3), "u8": tensor_info("U8", [2], 3, 5)}
    path.write_bytes(file_bytes(header, b"abcde"))
    arena = weights.begin([path], "cpu")
    assert (arena.read_back("f6"), arena.dtype("f6")) == (b"abc", "F6_E2M3")
    assert arena.tensor("u8").tolist() == [100, 101]
    with pytest.raises(weights.UnsupportedDtype):
        arena.tensor("f6")


def test_progress(tmp_path: Path) -> None:
    paths = [
        sparse_file(tmp_path / "a.safetensors", 8, 4 * MIB),
        tmp_path / "b.safetensors",
    ]
    paths[1].write_bytes(
        file_bytes({"x": tensor_info("U8", [3], 0, 3), "y": tensor_info("U8", [0], 3, 3)}, b"abc")
    )
    steps: list[weights.LoadProgress] = []
    arena = weights.begin(paths, "cpu")
    arena.wait(steps.append)
    assert steps[-1].finished
    for step in steps:
        assert (step.total_bytes, step.total_tensors) == (32 * MIB + 3, 10)
        assert [one.path for one in step.files] == list(map(str, paths))
        assert [one.total_bytes for one in step.files] == [32 * MIB, 3]
    for before, after in zip(steps, steps[1:], strict=False):
        assert before.loaded_bytes <= after.loaded_bytes
        assert before.loaded_tensors <= after.loaded_tensors
    # Once more: who asks late is told as well.
    del steps[:]
    arena.wait(steps.append)
    assert [step.finished for step in steps] == [True]
    stats = arena.stats()
    assert (stats.state, stats.tensor_bytes, stats.direct_bytes) == ("awake", 32 * MIB + 3, 0)
    assert (stats.buffered_bytes, stats.chunks) == (32 * MIB + 3, 17)
    assert stats.load_seconds > 0
    assert (stats.sleep_seconds, stats.wake_seconds) == (0, 0)


def test_no_files_at_all() -> None:
    steps: list[weights.LoadProgress] = []
    arena = weights.begin([], "cpu")
    arena.wait(steps.append)
    assert [step.finished for step in steps] == [True]
    arena.sleep()
    arena.wake()
    assert (arena.tensors(), arena.stats().state) == ({}, "awake")


def test_a_callback_that_raises_ends_the_load(large: Path) -> None:
    arena = weights.begin([large], "cpu")

    def callback(progress: weights.LoadProgress) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        arena.wait(callback)
    with pytest.raises(weights.Cancelled):
        arena.wait()
    assert arena.stats().state == "failed"
    # What was not read is read when it is touched.
    assert not arena.tensor("t0063").any()


def test_an_event_ends_the_load(large: Path, path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    arena = weights.begin([path, large], "cpu")
    with pytest.raises(weights.Cancelled):
        arena.wait(cancelled=cancelled)
    with pytest.raises(weights.Cancelled):
        arena.wait()
    # What has slept can be loaded anew.
    arena.sleep()
    arena.wake()
    arena.wait()
    assert arena.stats().state == "awake"
    # And what is there stays there.
    arena.wait(cancelled=cancelled)
    arena.cancel()
    arena.wait()


def test_a_file_cut_short_while_it_is_read(large: Path, path: Path) -> None:
    with weights.safe_open(large, framework="pt") as file:
        os.truncate(large, MIB)
        (arena,) = arenas_of(large)
        with pytest.raises(weights.FileChanged) as caught:
            arena.wait()
        assert caught.value.path == str(large)
        assert arena.stats().state == "failed"
        assert file.metadata() is None


def test_one_file_that_is_not_there(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        weights.begin([path, tmp_path / "missing"], "cpu")
    assert caught.value.filename == str(tmp_path / "missing")
    (tmp_path / "bad").write_bytes(b"\0" * 8)
    with pytest.raises(weights.FormatError, match="bad"):
        weights.begin([path, tmp_path / "bad"], "cpu")
    assert mapped(path) == {}
    assert weights.loads() == []


def test_names_that_two_files_have(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"z": torch.ones(1), "b": torch.ones(1)}, other)
    with pytest.raises(SafetensorError, match=f"'b' is in both {path} and {other}"):
        weights.begin([path, other], "cpu")
    assert mapped(path) == {}
    assert weights.loads() == []


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_names_of_the_cpu(path: Path, device: str | torch.device | None) -> None:
    assert_same_tensors(weights.begin([path], device).tensors(), TENSORS)


@pytest.mark.parametrize(
    "device",
    [True, False, -1, 1 << 31, 1.0, "", "meta", "cpu:0", "CUDA", "cuda:", "cuda:-1", "cuda:01"]
    + ["cuda:1\n", "cuda:٣", "cuda:" + "9" * 5000, torch.device("meta"), b"cuda", ["cuda"]],
)
def test_devices_that_are_not_ours(path: Path, device: object) -> None:
    with pytest.raises(SafetensorError) as caught:
        weights.begin([path], device)  # type: ignore[arg-type]
    assert repr(device) in str(caught.value)
    assert not isinstance(caught.value, weights.LoadError)


def test_the_timeline_gets_each_file(path: Path) -> None:
    arena = weights.begin([path], "cpu")
    load = settled(lambda load: load.seconds is not None)
    assert load.path == str(path)
    assert load.bytes == sum(tensor.nbytes for tensor in TENSORS.values())
    assert arena.paths == [load.path]


def test_arenas_are_there_as_long_as_their_tensors(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"z": torch.ones(1)}, other)

    def paths() -> list[str]:
        gc.collect()
        found = [path for arena in weights.arenas() for path in arena.paths]
        return sorted(path for path in found if path.startswith(str(tmp_path)))

    tensors = weights.load_file(path)
    with weights.safe_open(other, framework="pt") as file:
        assert paths() == [str(path), str(other)]
        kept = file.get_tensor("z")
    del tensors["a"], file
    assert paths() == [str(path), str(other)]
    del tensors
    assert paths() == [str(other)]
    del kept
    assert paths() == []
    # Two files that were loaded together are two arenas.
    begun = weights.begin([path, other], "cpu")
    checkpoint = weights.load_checkpoint(other)
    assert paths() == sorted([str(path), str(other), str(other)])
    del begun, checkpoint
    assert paths() == []


def test_arenas_are_another_way_to_the_same_tensors(path: Path) -> None:
    tensors = weights.load_file(path)
    (arena,) = arenas_of(path)
    tensors["b"].zero_()
    assert arena.tensor("b").data_ptr() == tensors["b"].data_ptr()
    assert_same_tensors(arena.tensors(), tensors)
    # They keep the file, too.
    kept = arena.tensor("a")
    del tensors, arena
    assert torch.equal(kept, TENSORS["a"])
