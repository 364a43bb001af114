"""The hosted SDK's names: what works, and how the rest refuses."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import pytest

from pipeline import Pipeline, Variable, errors, pipe
from pipeline.cloud import (
    compute_requirements,
    environments,
    files,
    logs,
    pipelines,
    pointers,
    runs,
)
from pipeline.objects import Graph
from tests.running_daemon import RunningDaemon


@pipe
def double(number: int) -> int:
    return 2 * number


def graph() -> Graph:
    with Pipeline() as builder:
        number = Variable(int)
        builder.output(double(number))
    return builder.get_pipeline()


NOT_SERVED: dict[str, Callable[[], object]] = {
    "environments.create_environment": lambda: environments.create_environment("e", ["torch"]),
    "files.upload_file": lambda: files.upload_file("a.txt"),
    "runs.get_run": lambda: runs.get_run("run_1"),
    "runs.poll_for_run_completion": lambda: runs.poll_for_run_completion("run_1"),
    "pointers.create_pointer": lambda: pointers.create_pointer("a:prod", "a"),
    "logs.get_run_logs": lambda: logs.get_run_logs("run_1"),
    "pipelines.stream_pipeline": lambda: pipelines.stream_pipeline("a"),
    "pipelines.run_pipeline(async_run=True)": lambda: pipelines.run_pipeline("a", async_run=True),
    "pipelines.run_pipeline": lambda: pipelines.run_pipeline("a:prod"),
    "pipelines.upload_pipeline(accelerators=…)": lambda: pipelines.upload_pipeline(
        graph(), "a", accelerators=[compute_requirements.Accelerator.nvidia_l4]
    ),
    "pipelines.upload_pipeline": lambda: pipelines.upload_pipeline(graph(), "a:latest"),
}


@pytest.mark.parametrize("name", NOT_SERVED)
def test_what_is_not_served_names_itself_and_the_version(name: str) -> None:
    with pytest.raises(errors.NotServed) as caught:
        NOT_SERVED[name]()
    assert f"pipeline.cloud.{name} is not served by pipelined {version('pipelined')}" in str(
        caught.value
    )


def test_accelerators_are_strings_too() -> None:
    assert compute_requirements.Accelerator("nvidia_h100") == "nvidia_h100"


def test_upload_and_run(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINED_ADDRESS", daemon.address)
    uploaded = pipelines.upload_pipeline(graph(), "cloud-double")
    assert (uploaded.id, uploaded.version) == ("cloud-double", 1)
    run = pipelines.run_pipeline(uploaded.id, 21)
    assert run.outputs_formatted() == [42]
