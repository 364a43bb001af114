"""Loading the very file that is open, whatever is at its path by now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelined import weights
from pipelined.weights import _devices
from pipelined.weights._extension import extension
from tests.weights.cuda.fake_driver import FakeDriver

TENSORS = {"a": torch.arange(5000), "b": torch.ones(3, 3).half(), "c": torch.zeros(0)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


def test_the_file_that_was_opened_is_the_one_that_is_loaded(
    path: Path, loading: FakeDriver
) -> None:
    checkpoint = extension.Checkpoint(os.fsencode(path))
    other = path.with_name("other")
    safetensors.torch.save_file({"a": torch.zeros(5000, dtype=torch.int64)}, other)
    other.replace(path)
    loaded = _devices.device(0).load_open([checkpoint], "automatic", False)
    loaded.wait()
    assert [entry[0] for entry in loaded.entries(0)] == checkpoint.names_by_offset()
    for index, (name, *_) in enumerate(loaded.entries(0)):
        assert loaded.read_back(0, index) == TENSORS[name].numpy().tobytes()
    assert loaded.paths() == [os.fsencode(path)]


def test_it_outlives_what_it_was_loaded_from(path: Path, loading: FakeDriver) -> None:
    checkpoint = extension.Checkpoint(os.fsencode(path))
    loaded = _devices.device(0).load_open([checkpoint, checkpoint], "direct", True)
    del checkpoint
    path.unlink()
    loaded.wait()
    loaded.sleep(False)
    loaded.wake()
    index = [entry[0] for entry in loaded.entries(1)].index("a")
    assert loaded.read_back(1, index) == TENSORS["a"].numpy().tobytes()


def test_a_file_that_changed_after_it_was_opened(path: Path, loading: FakeDriver) -> None:
    checkpoint = extension.Checkpoint(os.fsencode(path))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(weights.FileChanged) as raised:
        _devices.device(0).load_open([checkpoint], "buffered", False).wait()
    assert raised.value.path == str(path)
