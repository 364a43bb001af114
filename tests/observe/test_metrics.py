"""Metrics of a real daemon: what they count, that they are bounded, and where they are served."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from pathlib import Path

import pytest

from pipeline.errors import PipelineError, RunFailed, WorkerDied
from tests.observe.conftest import Observed
from tests.observe.pipelines import dying, failing, traced, waiting

PIPELINED = str(Path(sys.executable).with_name("pipelined"))


def test_runs_and_startups_are_counted(observed: Observed) -> None:
    with observed.daemon.client() as client:
        client.deploy(traced(), "counted")
        for number in range(3):
            client.run("counted", number)
        client.deploy(failing(), "counted-failing")
        with pytest.raises(RunFailed):
            client.run("counted-failing", 1)
    counted = {"deployment": "counted"}
    assert observed.value("pipelined_runs_total", state="succeeded", **counted) == 3
    assert observed.value("pipelined_runs_total", state="failed", **counted) == 0
    failed = {"deployment": "counted-failing", "state": "failed"}
    assert observed.value("pipelined_runs_total", **failed) == 1
    assert observed.value("pipelined_run_starts_total", start="cold", **counted) == 1
    assert observed.value("pipelined_run_starts_total", start="warm", **counted) == 2
    assert observed.value("pipelined_run_seconds_count", **counted) == 3
    assert observed.value("pipelined_run_seconds_bucket", le="+Inf", **counted) == 3
    assert observed.value("pipelined_run_queue_seconds_count", **counted) == 3
    assert observed.value("pipelined_startups_total", outcome="succeeded", **counted) == 1
    node = observed.value("pipelined_startup_stage_seconds_count", stage="node", **counted)
    assert node == 1
    assert observed.value("pipelined_instances", state="warm", **counted) == 1
    assert observed.value("pipelined_calls_failed_total", reason="RUN_FAILED") >= 1
    for kind in ("resident", "anonymous"):
        assert observed.value("pipelined_worker_memory_bytes", kind=kind, **counted) > 10**6
    assert observed.value("process_open_fds") > 5
    assert observed.value("pipelined_event_loop_lag_seconds_count") > 0
    assert observed.value("pipelined_nursery_state", state="ready") == 1


def test_queues_are_seen_while_they_last(observed: Observed, tmp_path: Path) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    os.mkfifo(release)
    waits = {"deployment": "queue"}
    with observed.daemon.client() as client:
        client.deploy(waiting(), "queue")
        runs = [client.submit("queue", str(started), str(release)) for _ in range(3)]
        while not started.exists():
            time.sleep(0.01)
        assert observed.value("pipelined_runs_running", **waits) == 1
        assert observed.value("pipelined_runs_queued", **waits) == 2
        assert observed.value("pipelined_submitted_runs_queued", **waits) == 2
        runs[2].cancel()
        assert observed.value("pipelined_runs_queued", **waits) == 1
        for run in runs[:2]:
            release.open("w").close()
            run.result()
        client.delete("queue")
    assert observed.value("pipelined_runs_running", **waits) == 0


def test_what_is_deleted_is_forgotten(observed: Observed) -> None:
    with observed.daemon.client() as client:
        client.deploy(traced(), "passing")
        client.run("passing", 1)
        assert 'deployment="passing"' in observed.get("/metrics")
        client.delete("passing")
        assert 'deployment="passing"' not in observed.get("/metrics")
        # Names that nobody has deployed leave nothing behind.
        with pytest.raises(PipelineError):
            client.run("never-was", 1)
        assert "never-was" not in observed.get("/metrics")


def test_deaths_of_workers_are_counted(observed: Observed) -> None:
    with observed.daemon.client() as client:
        client.deploy(dying(), "mortal")
        with pytest.raises(WorkerDied):
            client.run("mortal", 1)
        [mortal] = [each for each in client.stats().deployments if each.name == "mortal"]
        client.delete("mortal")
    assert mortal.restarts == 1
    [line] = [
        line
        for line in observed.log()
        if line["event"] == "worker died" and line["deployment"] == "mortal"
    ]
    assert line["how"] == "killed by SIGKILL"


def test_a_scrape_does_not_hold_up_runs(observed: Observed) -> None:
    with observed.daemon.client() as client:
        client.deploy(traced(), "beside")
        client.run("beside", 1)
        scrapes = [threading.Thread(target=observed.get, args=("/metrics",)) for _ in range(4)]
        for scrape in scrapes:
            scrape.start()
        for number in range(20):
            assert client.run("beside", number)
        for scrape in scrapes:
            scrape.join()
        # Connections that say nothing take all there are, and no more.
        host, _, port = observed.metrics_address.rpartition(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(20)]
        assert client.run("beside", 2)
        for connection in silent:
            connection.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert observed.get("/healthz") == "serving\n"
            break
        except OSError:
            # They have not been noticed to be gone.
            assert time.monotonic() < deadline


def test_health_over_http(observed: Observed) -> None:
    assert observed.get("/healthz") == "serving\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        observed.get("/")
    with caught.value as answer:
        assert answer.code == 404


def serve(folder: Path, metrics: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to refuse."""
    config = folder / "pipelined.toml"
    config.write_text(metrics)
    return subprocess.run(
        [
            *(PIPELINED, "serve", f"--config={config}", f"--state-dir={folder}/state"),
            *(f"--address=unix:{folder}/s", "--preload=json"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use_is_refused(observed: Observed, tmp_path: Path) -> None:
    result = serve(tmp_path, f'[metrics]\naddress = "{observed.metrics_address}"\n')
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"pipelined: cannot serve metrics on {observed.metrics_address}: Address already in use"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[metrics]\naddress = "0.0.0.0:9464"', ["metrics", "0.0.0.0:9464", "off_loopback"]),
        ('[metrics]\naddress = "unix:/tmp/m"', ["metrics.address", "not host:port"]),
        ('[metrics]\naddress = "9464"', ["metrics.address", "'9464'"]),
        ('[traces]\nendpoint = "localhost:4317"', ["traces.endpoint", "http"]),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    from pipelined.configuration import ConfigurationError, load

    file = tmp_path / "pipelined.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file, {})
    assert [word for word in words if word not in str(caught.value)] == []
