"""Health says SERVING only of what a run sent now would be executed by."""

from __future__ import annotations

import os
import resource
import signal

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2

from pipeline import Pipeline, errors
from tests.e2e.health import watch
from tests.e2e.test_crashes import Counter, counter, kill_itself
from tests.running_daemon import RunningDaemon, check_health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_what_cannot_be_started_does_not_serve(own_daemon: RunningDaemon) -> None:
    process = psutil.Process(own_daemon.pid)
    with (
        own_daemon.client() as client,
        grpc.insecure_channel(own_daemon.address) as channel,
    ):
        for name in ("warm", "cold"):
            client.deploy(counter(), name)
        assert client.run("warm") == [1]
        with watch(channel, "deployments/cold") as cold:
            assert next(cold) == SERVING
            # No further file, and so no process, can be had; and the nursery dies.
            _, hard = process.rlimit(resource.RLIMIT_NOFILE)
            before = process.rlimit(resource.RLIMIT_NOFILE)
            process.rlimit(resource.RLIMIT_NOFILE, (3, hard))
            os.kill(client.info().nursery.pid, signal.SIGKILL)
            assert next(cold) == NOT_SERVING
            # Runs of what is warm are executed.
            assert check_health(channel, "deployments/warm").status == SERVING
            assert check_health(channel).status == SERVING
            assert client.run("warm") == [2]
            with pytest.raises(errors.PipelineError) as caught:
                client.run("cold", timeout=1)
            assert isinstance(caught.value, (errors.DeadlineExceeded, errors.Unavailable))
            process.rlimit(resource.RLIMIT_NOFILE, before)
            assert next(cold) == SERVING
            assert client.run("cold") == [1]


def test_what_failed_to_start_does_not_serve(daemon: RunningDaemon) -> None:
    with Pipeline() as builder:
        kill_itself()
        builder.output(Counter().next())
    with (
        daemon.client() as client,
        grpc.insecure_channel(daemon.address) as channel,
        watch(channel, "deployments/unfit") as unfit,
    ):
        assert next(unfit) == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        client.deploy(builder.get_pipeline(), "unfit")
        assert next(unfit) == SERVING
        with pytest.raises(errors.WorkerDied):
            client.run("unfit")
        assert next(unfit) == NOT_SERVING
        assert check_health(channel).status == SERVING
        # The next version has not failed.
        client.deploy(counter(), "unfit")
        assert next(unfit) == SERVING
        client.delete("unfit")
