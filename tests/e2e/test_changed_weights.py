"""A weights file that somebody changes while it is loading, or while a worker has it mapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline import Graph, Pipeline, Variable, entity, errors, pipe
from tests.running_daemon import RunningDaemon

ROWS = 4096


@entity
class Model:
    """Has a weights file mapped, as any model that was loaded has."""

    def __init__(self, path: str) -> None:
        self.path = path

    @pipe(on_startup=True, run_once=True)
    def load(self) -> None:
        self.tensors = safetensors.torch.load_file(self.path)

    @pipe
    def total(self, change: str) -> float:
        if change == "truncate":
            os.truncate(self.path, 8192)
        if change == "replace":
            other = f"{self.path}.new"
            safetensors.torch.save_file({"t": torch.zeros(1)}, other)
            Path(other).rename(self.path)
        return float(self.tensors["t"].sum())


def graph(path: Path) -> Graph:
    with Pipeline() as builder:
        change = Variable(str)
        model = Model(str(path))
        model.load()
        builder.output(model.total(change))
    return builder.get_pipeline()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"t": torch.ones(ROWS, 256)}, path)
    return path


def test_a_file_cut_short_under_a_worker_is_named(daemon: RunningDaemon, path: Path) -> None:
    content = path.read_bytes()
    with daemon.client() as client:
        client.deploy(graph(path), "cut-short")
        assert client.run("cut-short", "") == [ROWS * 256]
        with pytest.raises(errors.WorkerDied) as caught:
            client.run("cut-short", "truncate")
        assert caught.value.signal == "SIGBUS"
        assert f"weights file {path} changed while it was mapped" in str(caught.value)
        # Nobody else was hurt, and with the file as it was everything is.
        path.write_bytes(content)
        assert client.run("cut-short", "") == [ROWS * 256]
    assert f"weights file {path} changed" in daemon.log()


def test_a_file_replaced_under_a_worker_stays_what_it_was(
    daemon: RunningDaemon, path: Path
) -> None:
    with daemon.client() as client:
        client.deploy(graph(path), "replaced")
        assert client.run("replaced", "replace") == [ROWS * 256]
        assert client.run("replaced", "") == [ROWS * 256]


def test_a_file_cut_short_before_it_is_loaded_is_named(daemon: RunningDaemon, path: Path) -> None:
    os.truncate(path, 8192)
    with daemon.client() as client:
        client.deploy(graph(path), "too-short")
        with pytest.raises(errors.StartupFailed, match=str(path)) as caught:
            client.run("too-short", "")
        assert "TruncatedFile" in str(caught.value)
