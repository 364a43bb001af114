"""What may be chosen for the workers of a deployment: given, shown, compared and refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import Client, Graph, Pipeline, Variable, errors, pipe
from pipeline.deployment import Options
from tests.running_daemon import RunningDaemon

SECRET = "pssst-4711"


@pipe
def variable_of(name: str) -> str:
    return os.environ.get(name, "")


def environ() -> Graph:
    with Pipeline() as builder:
        builder.output(variable_of(Variable(str)))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def test_options_are_shown_and_compared(client: Client) -> None:
    graph = environ()
    plain = client.deploy(graph, "options")
    assert plain.options == Options()
    chosen: dict[str, Any] = {
        "max_instances": 3,
        "memory": "1.5GiB",
        "threads": 2,
        "gpus": 0,
        "cpu_seconds": 2.5,
        "open_files": 256,
        "queue_length": 0,
        "concurrent_runs": 2,
    }
    first = client.deploy(graph, "options", **chosen)
    assert (first.version, first.instances) == (2, 3)
    assert first.options == Options(0, 3, 3 * 2**29, 2, 0, 2.5, 256, 0, 2)
    assert client.deploy(graph, "options", **chosen) == first
    for name in chosen:
        changed = client.deploy(graph, "options", **(chosen | {name: None}))
        assert changed.version == client.deployment("options").version
        again = client.deploy(graph, "options", **chosen)
        assert again.version == changed.version + 1
        assert again.options == first.options
    assert client.deploy(graph, "options", gpus=["GPU-12ab"]).options.gpus == ("GPU-12ab",)
    assert client.deploy(graph, "options", instances=2).options == Options(2, 2)
    client.delete("options")


def test_secrets_reach_the_worker_and_nobody_else(client: Client, daemon: RunningDaemon) -> None:
    graph = environ()
    deployment = client.deploy(
        graph, "secretive", environment={"A": "open"}, secrets={"TOKEN": SECRET, "B": ""}
    )
    assert (deployment.environment, deployment.secrets) == (("A",), ("B", "TOKEN"))
    assert client.run("secretive", "TOKEN") == [SECRET]
    assert client.run("secretive", "A") == ["open"]
    same = client.deploy(
        graph, "secretive", environment={"A": "open"}, secrets={"TOKEN": SECRET, "B": ""}
    )
    assert same.version == 1
    other = client.deploy(graph, "secretive", environment={"A": "open"}, secrets={"TOKEN": "other"})
    assert other.version == 2
    shown = [*client.list(), *client.versions("secretive"), client.deployment("secretive")]
    assert SECRET not in repr(shown)
    client.delete("secretive")
    assert SECRET not in daemon.log_path.read_text()
    for path in daemon.state_dir.rglob("*.db*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"min_instances": 3, "max_instances": 2}, "min_instances", "more than max"),
        ({"max_instances": 65}, "max_instances", "between 1 and 64"),
        ({"instances": 65}, "max_instances", "between 1 and 64"),
        ({"instances": 2, "min_instances": 1}, "instances", "short for both"),
        ({"instances": "2"}, "instances", "whole number"),
        ({"min_instances": -1}, "min_instances", "below 0"),
        ({"memory": "1MiB"}, "memory", "fewer than 33554432"),
        ({"memory": "4 gigs"}, "memory", "unit"),
        ({"memory": -1}, "memory", "below 0"),
        ({"memory": 2**63}, "memory", "above"),
        ({"threads": 1025}, "threads", "between 1 and 1024"),
        ({"threads": True}, "threads", "whole number"),
        ({"gpus": 65}, "gpus", "between 0 and 64"),
        ({"gpus": 60}, "gpus", "more than this machine has"),
        ({"gpus": [999]}, "gpus", "none of the"),
        ({"gpus": ["../0"]}, "gpus", "neither an index"),
        ({"gpus": [1, "1"]}, "gpus", "twice"),
        ({"gpus": "0"}, "gpus", "how many"),
        ({"cpu_seconds": 0}, "cpu_seconds", "above 0"),
        ({"cpu_seconds": float("nan")}, "cpu_seconds", "above 0"),
        ({"cpu_seconds": 1e9}, "cpu_seconds", "at most"),
        ({"open_files": 63}, "open_files", "between 64"),
        ({"queue_length": 100_001}, "queue_length", "between 0"),
        ({"concurrent_runs": 1001}, "concurrent_runs", "between 1"),
        ({"secrets": {"A": "x"}, "environment": {"A": "y"}}, "secrets.A", "environment, too"),
        ({"secrets": {"A": f"{SECRET}\0"}}, "secrets.A", "NUL"),
        ({"secrets": {SECRET: "A"}}, "secrets", "name of a variable"),
        ({"secrets": {"A": 1}}, "secrets", "str"),
        ({"secrets": {"A": "x" * 2**16}}, "environment and secrets", "more than 65536"),
    ],
)
def test_what_is_out_of_bounds_is_named(
    client: Client, options: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(errors.InvalidInput, match=text) as caught:
        client.deploy(environ(), "out-of-bounds", **options)
    assert caught.value.field == field
    assert SECRET not in str(caught.value)


def test_an_option_that_is_none_is_refused_as_arguments_are(client: Client) -> None:
    misspelt: dict[str, Any] = {"memmory": "1GiB"}
    with pytest.raises(TypeError, match="'memmory'"):
        client.deploy(environ(), "misspelt", **misspelt)
