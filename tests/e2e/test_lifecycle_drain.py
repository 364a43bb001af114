"""A daemon that is drained: what it still does, what it says, and how it is hurried."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from pipeline import errors, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.health import watch
from tests.e2e.held_runs import graph_of
from tests.e2e.test_crashes import counter, wait_until, waiting
from tests.running_daemon import STOP_SECONDS, RunningDaemon

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Longer than any test may take: nothing ends because it is over.
ENDLESS = [*QUICK_PRELOAD, "--drain-seconds=1000"]


def test_drained_by_request_it_finishes_what_runs_and_says_so(tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    daemon = RunningDaemon(tmp_path, options=ENDLESS)
    try:
        with (
            daemon.client() as client,
            ThreadPoolExecutor(2) as pool,
            grpc.insecure_channel(daemon.address) as channel,
            watch(channel, "") as whole,
            watch(channel, "deployments/waiting") as one,
        ):
            client.deploy(waiting(), "waiting")
            client.deploy(counter(), "other")
            assert next(whole) == SERVING
            wait_until(lambda: next(one) == SERVING)
            assert not client.info().draining
            with pytest.raises(errors.InvalidInput, match="seconds"):
                client.drain(-1)

            run = pool.submit(client.run, "waiting", str(ready), str(release))
            wait_until(ready.exists)
            draining = pool.submit(client.drain)
            assert (next(whole), next(one)) == (NOT_SERVING, NOT_SERVING)
            info = client.info()
            assert (info.draining, info.not_serving_reason) == (True, "draining")
            for refused in (
                lambda: client.run("other"),
                lambda: client.submit("other"),
                lambda: client.warm("other"),
                lambda: client.deploy(counter(), "another"),
            ):
                with pytest.raises(errors.Unavailable) as caught:
                    refused()
                assert caught.value.reason == "DRAINING"
            assert not draining.done()

            release.touch()
            assert len(run.result()) == 1
            assert draining.result().unfinished_runs == 0
        assert daemon.process.wait(STOP_SECONDS) == 0
    finally:
        daemon.close()


def test_a_drain_is_hurried_by_another(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    daemon = RunningDaemon(tmp_path, options=ENDLESS)
    try:
        with daemon.client() as client, ThreadPoolExecutor(1) as pool:
            client.deploy(waiting(), "endless")
            run = pool.submit(client.run, "endless", str(ready), str(tmp_path / "never"))
            wait_until(ready.exists)
            daemon.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.info().draining)
            assert client.drain(0).unfinished_runs == 1
            with pytest.raises(errors.Unavailable, match="shutting down"):
                run.result()
        assert daemon.process.wait(STOP_SECONDS) == 0
    finally:
        daemon.close()


@pipe
def stubborn(ready: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(ready).touch()
    while True:
        pass


def test_a_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    daemon = RunningDaemon(tmp_path, options=ENDLESS)
    try:
        with daemon.client() as client, ThreadPoolExecutor(1) as pool:
            client.deploy(graph_of(stubborn, str), "stubborn")
            run = pool.submit(client.run, "stubborn", str(ready))
            wait_until(ready.exists)
            daemon.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.info().draining)
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises(errors.Unavailable) as caught:
                run.result()
            assert caught.value.reason == "DRAINING"
        assert daemon.process.wait(STOP_SECONDS) == 0
    finally:
        daemon.close()
