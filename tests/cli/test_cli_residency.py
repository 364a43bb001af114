"""`pipeline weights` and `pipeline why`, against a real daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline import Client, Pipeline, Variable, entity, errors, pipe
from tests.cli.programs import call, done
from tests.running_daemon import RunningDaemon


@entity
class Weighted:
    def __init__(self, path: str) -> None:
        self.path = path

    @pipe(on_startup=True)
    def load(self) -> None:
        from safetensors.torch import load_file

        self.weights = load_file(self.path)

    @pipe
    def add(self, number: float) -> float:
        return number + float(self.weights["w"].sum())


def deploy(client: Client, name: str, path: Path) -> None:
    with Pipeline() as builder:
        model = Weighted(str(path))
        model.load()
        builder.output(model.add(Variable(float)))
    client.deploy(builder.get_pipeline(), name)


def test_weights_and_reasons(daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(1000)}, path)
    with daemon.client() as client:
        deploy(client, "why-weights", path)
        assert "nobody has asked for it" in done(daemon, "why", "why-weights")
        assert json.loads(done(daemon, "weights", "why-weights", "--json")) == []
        assert client.run("why-weights", 1.0) == [1001.0]
        [row] = json.loads(done(daemon, "weights", "why-weights", "--json"))
        assert (row["deployment"], row["file"]) == ("why-weights:v1", "model.safetensors")
        assert (row["bytes"], row["loaded"]) == (4000, True)
        shown = done(daemon, "weights").splitlines()
        assert any(
            line.split()[:4] == ["why-weights:v1", path.name, "4.00", "kB"] for line in shown
        )
        told = json.loads(done(daemon, "why", "why-weights", "--json"))
        assert (told["state"], told["version"]) == ("warm", 1)
        assert any(reason.startswith("startup 1 was asked for at") for reason in told["reasons"])
        assert "1 of 1 workers live; 1 startups" in told["reasons"]
        client.cool("why-weights")
        assert "its workers have been stopped" in done(daemon, "why", "why-weights")
        [row] = json.loads(done(daemon, "weights", "why-weights", "--json"))
        assert row["loaded"] is False


def test_a_failure_is_a_reason(daemon: RunningDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        deploy(client, "why-failed", tmp_path / "absent.safetensors")
        with pytest.raises(errors.StartupFailed):
            client.warm("why-failed")
    shown = done(daemon, "why", "why-failed")
    assert shown.startswith("why-failed v1 is failed\n")
    assert "its last startup failed in Weighted.load: FileNotFoundError" in shown
    assert call(daemon, "why", "nobody").exit_code == 3
    assert call(daemon, "weights", "nobody").exit_code == 3
