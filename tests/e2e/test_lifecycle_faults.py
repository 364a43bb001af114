"""What is lost or full under a daemon: it is told, little is taken meanwhile, and it passes."""

from __future__ import annotations

import resource
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2

from pipeline import Graph, Pipeline, errors, pipe
from tests.e2e.held_runs import Paths, graph_of, repeated, two_nodes
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon, check_health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# More than the log of changes has, and than may be written below.
LARGE = 8_000_000
ROOM = 4_000_000


@pipe
def empty() -> str:
    return ""


def quick() -> Graph:
    with Pipeline() as builder:
        builder.output(empty())
    return builder.get_pipeline()


def test_a_disk_without_room_for_answers_and_code_that_is_lost(own_daemon: RunningDaemon) -> None:
    process = psutil.Process(own_daemon.pid)
    with own_daemon.client() as client:
        client.deploy(graph_of(repeated, str, int), "answers")
        assert client.run("answers", "a", 1) == ["a"]
        largest = max(path.stat().st_size for path in own_daemon.state_dir.glob("*.db*"))
        before = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (largest + ROOM, before[1]))
        runs = [client.submit("answers", "a", LARGE) for _ in range(20)]
        wait_until(lambda: runs[0].info().state == "running")
        # Later than all of them, but for those that are left waiting.
        assert client.run("answers", "b", 1) == ["b"]
        states = [run.info().state for run in runs]
        assert set(states) == {"running", "queued"}
        # Each has its answer in the daemon's memory.
        assert states.count("running") < states.count("queued")
        process.rlimit(resource.RLIMIT_FSIZE, before)
        for run in runs:
            assert run.result() == ["a" * LARGE]

        # Of the versions that there are each has code of its own.
        client.deploy(quick(), "lost")
        [code] = [
            path
            for path in (own_daemon.state_dir / "code").iterdir()
            if path.stat().st_size == min(p.stat().st_size for p in path.parent.iterdir())
        ]
        away = code.rename(own_daemon.state_dir / "away")
        with grpc.insecure_channel(own_daemon.address) as channel:
            run = client.submit("lost")
            wait_until(lambda: client.deployment("lost").state == "failed")
            assert check_health(channel, "deployments/lost").status == NOT_SERVING
            # It is tried again after longer and longer pauses, and nothing is held against the run.
            away.rename(code)
            assert run.result() == [""]
            assert client.deployment("lost").startups < 10
            assert check_health(channel, "deployments/lost").status == SERVING
    code.rename(away)
    own_daemon.restart()
    with (
        own_daemon.client() as client,
        grpc.insecure_channel(own_daemon.address) as channel,
    ):
        assert check_health(channel, "deployments/answers").status == SERVING
        assert check_health(channel, "deployments/lost").status == NOT_SERVING
        failure = client.deployment("lost").failure
        assert failure is not None
        assert (failure.type, failure.message[:23]) == ("StorageFailed", "could not read the code")
        with pytest.raises(errors.PipelineError, match="could not read the code"):
            client.run("lost")
        away.rename(code)
        assert client.run("lost") == [""]
        assert check_health(channel, "deployments/lost").status == SERVING


def test_where_no_run_may_wait(daemon: RunningDaemon, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with (
        daemon.client() as client,
        grpc.insecure_channel(daemon.address) as channel,
    ):
        client.deploy(two_nodes(), "unqueued", queue_length=0)
        assert check_health(channel, "deployments/unqueued").status == SERVING
        # The first one waits for its worker all the same.
        run = client.submit("unqueued", *paths.inputs)
        wait_until(paths.ready.exists)
        assert check_health(channel, "deployments/unqueued").status == NOT_SERVING
        with pytest.raises(errors.Overloaded):
            client.run("unqueued", *paths.inputs)
        paths.release.touch()
        run.result()
        assert check_health(channel, "deployments/unqueued").status == SERVING
        client.run("unqueued", *paths.inputs)
        client.delete("unqueued")
