"""Checkpoints of several files."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from pipelined import weights
from tests.weights.files import assert_same_tensors, sparse_file

TENSORS = {"a": torch.randn(40, 3), "b": torch.randn(7).half(), "c": torch.zeros(0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    safetensors.torch.save_file({"b": TENSORS["b"]}, tmp_path / "m-1.safetensors")
    safetensors.torch.save_file(
        {"a": TENSORS["a"], "c": TENSORS["c"]}, tmp_path / "m-2.safetensors"
    )
    write_index(tmp_path, {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"})
    return tmp_path


def write_index(folder: Path, weight_map: object, name: str = "m") -> Path:
    path = folder / f"{name}.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def test_a_folder_an_index_and_a_file(folder: Path) -> None:
    assert_same_tensors(weights.load_checkpoint(folder), TENSORS)
    assert_same_tensors(weights.load_checkpoint(str(folder / "m.safetensors.index.json")), TENSORS)
    assert_same_tensors(weights.load_checkpoint(folder / "m-1.safetensors"), {"b": TENSORS["b"]})


def test_a_folder_without_an_index(folder: Path) -> None:
    (folder / "m.safetensors.index.json").unlink()
    assert_same_tensors(weights.load_checkpoint(folder), TENSORS)
    safetensors.torch.save_file({"b": TENSORS["b"]}, folder / "m-3.safetensors")
    with pytest.raises(SafetensorError, match="'b' is in both .*m-1.safe.* and .*m-3.safe"):
        weights.load_checkpoint(folder)


def test_a_whole_model_comes_before_an_index(folder: Path) -> None:
    safetensors.torch.save_file({"x": TENSORS["a"]}, folder / "model.safetensors")
    assert_same_tensors(weights.load_checkpoint(folder), {"x": TENSORS["a"]})


def test_several_indexes_are_for_the_caller_to_choose_from(folder: Path) -> None:
    write_index(folder, {}, "other")
    with pytest.raises(SafetensorError, match="name one of m.safe.*, other.safe"):
        weights.load_checkpoint(folder)


def test_only_what_the_index_names(folder: Path) -> None:
    path = write_index(folder, {"c": "m-2.safetensors"})
    assert_same_tensors(weights.load_checkpoint(path), {"c": TENSORS["c"]})


def test_an_index_that_names_what_is_not_there(folder: Path) -> None:
    path = write_index(folder, {"z": "m-2.safetensors"})
    with pytest.raises(SafetensorError, match=r"in none of its files: \['z'\]"):
        weights.load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        weights.load_checkpoint(write_index(folder, {"z": "missing.safetensors"}))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../m-1.safetensors", "x/../../m", "", "a\0b", 3, None, ["m"]]
)
def test_an_index_stays_in_its_folder(folder: Path, name: object) -> None:
    path = write_index(folder, {"b": name})
    with pytest.raises(SafetensorError, match="which is no file beside it"):
        weights.load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"weight_map": []}', b"\xff", b"[" * 200_000]
)
def test_an_index_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(SafetensorError, match="not an index"):
        weights.load_checkpoint(path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        weights.load_checkpoint(tmp_path)


def test_devices_that_are_not_ours(folder: Path) -> None:
    with pytest.raises(SafetensorError, match="not 'meta'"):
        weights.load_checkpoint(folder, device="meta")
    # A driver may have it, but torch has not.
    with pytest.raises(SafetensorError, match="torch has no device 'cuda:99'") as caught:
        weights.load_checkpoint(folder, device="cuda:99")
    assert not isinstance(caught.value, weights.LoadError)


def test_progress_until_all_is_in_memory(tmp_path: Path) -> None:
    sparse_file(tmp_path / "a.safetensors", 8, 4 << 20)
    sparse_file(tmp_path / "model.safetensors", 4, 4 << 20)
    steps: list[weights.LoadProgress] = []
    weights.load_checkpoint(tmp_path / "a.safetensors", progress=steps.append)
    assert steps[-1].finished
    assert (steps[-1].total_bytes, steps[-1].total_tensors) == (32 << 20, 8)
    assert [one.path for one in steps[-1].files] == [str(tmp_path / "a.safetensors")]


def test_an_event_that_is_set_ends_the_load(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "a.safetensors", 64, 16 << 20)
    cancelled = Event()
    cancelled.set()
    with pytest.raises(weights.Cancelled):
        weights.load_checkpoint(path, cancelled=cancelled)
