"""Which tensors are still what their files say, told by the pages that they are in."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipelined.weights._extension import extension
from pipelined.weights._tensors import adopt
from tests.weights.files import file_bytes, tensor_info

PAGE = os.sysconf("SC_PAGESIZE")
# Those of several pages share one with each neighbour at most; "small" and "beside" are in one.
SIZES = {
    "first": 9 * PAGE,
    "before": 3 * PAGE,
    "small": 10,
    "beside": 10,
    "after": 3 * PAGE,
    "last": 9 * PAGE,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors, end = {}, 0
    for name, size in {**SIZES, "none": 0}.items():
        tensors[name] = tensor_info("U8", [size], end, end + size)
        end += size
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes(tensors, os.urandom(end)))
    return path


@pytest.fixture
def checkpoint(path: Path) -> extension.Checkpoint:
    return extension.Checkpoint(os.fsencode(path))


def untouched(checkpoint: extension.Checkpoint) -> set[str]:
    return {name for name in checkpoint.names() if checkpoint.untouched(name)}


def test_what_was_only_read_is_untouched(checkpoint: extension.Checkpoint) -> None:
    assert untouched(checkpoint) == {*SIZES, "none"}
    for name in SIZES:
        int(adopt(checkpoint.tensor(name), "U8").sum())
    assert untouched(checkpoint) == {*SIZES, "none"}


@pytest.mark.parametrize("index", [0, 4 * PAGE, -1])
def test_one_byte_is_enough(checkpoint: extension.Checkpoint, index: int) -> None:
    adopt(checkpoint.tensor("last"), "U8")[index] += 1
    assert not checkpoint.untouched("last")
    assert checkpoint.untouched("first")


def test_a_neighbour_in_the_same_page_counts(checkpoint: extension.Checkpoint) -> None:
    adopt(checkpoint.tensor("small"), "U8").numpy()[3] += 1
    assert not checkpoint.untouched("small")
    assert not checkpoint.untouched("beside")
    assert checkpoint.untouched("first")
    assert checkpoint.untouched("none")


def test_writing_what_was_there_already_counts(checkpoint: extension.Checkpoint) -> None:
    adopt(checkpoint.tensor("first"), "U8").add_(0)
    assert not checkpoint.untouched("first")


def test_another_mapping_of_the_file_does_not_count(path: Path) -> None:
    first, second = (extension.Checkpoint(os.fsencode(path)) for _ in range(2))
    adopt(first.tensor("first"), "U8").zero_()
    assert not first.untouched("first")
    assert second.untouched("first")


def test_addresses_are_those_of_the_tensors(checkpoint: extension.Checkpoint) -> None:
    for name in SIZES:
        assert checkpoint.address(name) == adopt(checkpoint.tensor(name), "U8").data_ptr()
    assert checkpoint.address("none") == 0


def test_names_that_are_not_in_the_file(checkpoint: extension.Checkpoint) -> None:
    with pytest.raises(KeyError):
        checkpoint.untouched("missing")
    with pytest.raises(KeyError):
        checkpoint.address("missing")


def test_any_thread_may_ask(checkpoint: extension.Checkpoint) -> None:
    adopt(checkpoint.tensor("last"), "U8")[PAGE] += 1
    answers: list[set[str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(untouched(checkpoint))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [{"first", "before", "small", "beside", "after", "none"}] * 8
