"""Tensors share the page cache with everybody, and what is written to them with nobody."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.files import (
    assert_same_tensors,
    file_bytes,
    run_in_threads,
    sparse_file,
    tensor_info,
)

MIB = 1 << 20


def mapped(path: Path) -> dict[str, int]:
    """The kernel's own account of the mappings of a file, in bytes; empty where there is none."""
    account: dict[str, int] = {}
    counting = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            counting = bool(rest) and rest[-1] == str(path)
        elif counting and rest[-1] == "kB":
            account[first[:-1]] = account.get(first[:-1], 0) + int(rest[0]) * 1024
    return account


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors = {
        f"layer.{index:02d}": torch.full((MIB,), index, dtype=torch.uint8) for index in range(32)
    }
    safetensors.torch.save_file(tensors, path)
    return path


def test_nothing_is_copied(path: Path) -> None:
    tensors = weights.load_file(path)
    assert [int(tensor.sum()) for tensor in tensors.values()] == [MIB * i for i in range(32)]
    account = mapped(path)
    assert account["Rss"] >= 32 * MIB
    # What is anonymous is a copy.
    assert account["Anonymous"] == 0


def test_writing_copies_a_page_and_leaves_the_file_alone(path: Path) -> None:
    before = path.read_bytes()
    tensors = weights.load_file(path)
    tensors["layer.03"][5] = 77
    tensors["layer.04"].add_(1)
    assert int(tensors["layer.03"].sum()) == 3 * MIB + 74
    # One page of layer.3; all of layer.4, which need not begin at a page's beginning.
    assert MIB < mapped(path)["Anonymous"] <= MIB + 4 * 65536
    assert path.read_bytes() == before
    assert int(weights.load_file(path)["layer.03"].sum()) == 3 * MIB


def test_tensors_of_one_handle_are_the_same_memory(path: Path) -> None:
    file = weights.safe_open(path, framework="pt")
    first, second = file.get_tensor("layer.01"), file.get_slice("layer.01")[:]
    first[0] = 200
    assert int(second[0]) == 200
    assert first.data_ptr() == second.data_ptr()


def test_each_tensor_has_a_storage_of_its_own(path: Path) -> None:
    for tensor in weights.load_file(path).values():
        assert tensor.storage_offset() == 0
        assert tensor.untyped_storage().nbytes() == MIB


@pytest.mark.parametrize("duplicate", [copy.deepcopy, torch.clone])
def test_copying_a_tensor_copies_that_tensor(
    path: Path, duplicate: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tensor = weights.load_file(path)["layer.09"]
    assert duplicate(tensor).untyped_storage().nbytes() == MIB


def test_saving_a_tensor_saves_that_tensor(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(weights.load_file(path)["layer.09"], buffer)
    assert MIB < buffer.tell() < MIB + 4096


def test_tensors_keep_the_file_and_nothing_else_does(path: Path) -> None:
    with weights.safe_open(path, framework="pt") as file:
        tensor = file.get_tensor("layer.31")
        part = file.get_slice("layer.30")
    path.unlink()
    deleted = Path(f"{path} (deleted)")
    assert int(tensor.sum()) == 31 * MIB
    assert int(part[:].sum()) == 30 * MIB
    del tensor, part, file
    gc.collect()
    assert "(deleted)" not in "".join(
        line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line
    ), deleted


def test_a_replaced_file_is_still_the_old_one(path: Path) -> None:
    tensors = weights.load_file(path)
    other = path.with_name("other")
    safetensors.torch.save_file({"layer.00": torch.zeros(1)}, other)
    other.replace(path)
    assert int(tensors["layer.31"].sum()) == 31 * MIB
    assert weights.load_file(path).keys() == {"layer.00"}


def test_unaligned_tensors_can_be_computed_with(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    values = torch.arange(1000, dtype=torch.float64)
    for padding in range(8):
        data = values.numpy().tobytes()
        path.write_bytes(file_bytes({"t": tensor_info("F64", [1000], 0, 8000)}, data, padding))
        tensor = weights.load_file(path)["t"]
        assert torch.equal(tensor @ tensor, values @ values)


def test_dropping_a_file_that_is_being_read(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "large.safetensors", tensors=64, bytes_each=4 * MIB)
    for _ in range(20):
        tensors = weights.load_file(path)
        del tensors
        assert mapped(path) == {}


def test_threads_share_a_handle(path: Path) -> None:
    stock = safetensors.torch.load_file(path)
    file = weights.safe_open(path, framework="pt")
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    results: list[dict[str, torch.Tensor]] = []

    def read(index: int) -> None:
        if index % 2:
            results.append({name: parts[name][...] for name in reversed(parts)})
        else:
            results.append({name: file.get_tensor(name) for name in parts})

    run_in_threads(read, 8)
    file.__exit__(None, None, None)
    assert len(results) == 8
    for result in results:
        assert_same_tensors(result, stock)
    (load,) = weights.loads()
    assert load.bytes == 32 * MIB
