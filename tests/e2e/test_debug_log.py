"""What `pipelined serve --debug` must not write."""

from __future__ import annotations

from pathlib import Path

from pipeline import Graph, Pipeline, pipe
from tests.conftest import QUICK_PRELOAD
from tests.running_daemon import RunningDaemon


@pipe
def nothing() -> None:
    pass


def graph() -> Graph:
    with Pipeline() as builder:
        builder.output(nothing())
    return builder.get_pipeline()


def test_values_of_variables_are_not_in_the_log(tmp_path: Path) -> None:
    running = RunningDaemon(tmp_path, options=(*QUICK_PRELOAD, "--debug"))
    try:
        with running.client() as client:
            client.deploy(graph(), "secretive", environment={"TOKEN": "swordfish"})
            client.run("secretive")
        running.restart()
    finally:
        running.close()
    log = running.log()
    assert "[debug" in log
    assert "secretive" in log
    assert "swordfish" not in log
