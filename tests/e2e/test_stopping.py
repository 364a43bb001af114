"""A daemon that is told to stop keeps to its own time, and one that cannot log goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from pipeline import Client, Pipeline, entity, errors, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_crashes import counter, wait_until, waiting
from tests.running_daemon import STOP_SECONDS, RunningDaemon, check_health


def test_runs_of_a_replaced_version_do_not_hold_up_the_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--drain-seconds=0"])
    with daemon.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(waiting(), "replaced")
        run = pool.submit(client.run, "replaced", str(ready), str(tmp_path / "never"))
        wait_until(ready.exists)
        assert client.deploy(counter(), "replaced").version == 2
        # Less than a replaced version may take as long as the daemon lives.
        daemon.close()
        with pytest.raises(errors.NotFound, match="'replaced' has been replaced by version 2"):
            run.result()


def test_runs_that_do_not_end_in_time_are_told_why(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--drain-seconds=0"])
    with daemon.client() as client, ThreadPoolExecutor(2) as pool:
        client.deploy(waiting(), "endless")
        run = pool.submit(client.run, "endless", str(ready), str(tmp_path / "never"))
        wait_until(ready.exists)
        daemon.close()
        with pytest.raises(errors.Unavailable, match="shutting down") as caught:
            run.result()
        assert caught.value.reason == "DRAINING"


def test_a_log_that_nobody_reads_does_not_stop_it(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    read_end, write_end = os.pipe()
    command = [str(Path(sys.executable).with_name("pipelined")), "serve", "--debug"]
    options = [f"--address={address}", f"--state-dir={tmp_path / 'state'}", "--preload=numpy"]
    process = subprocess.Popen([*command, *options], stderr=write_end)
    os.close(write_end)
    os.close(read_end)
    try:
        with grpc.insecure_channel(address) as channel:
            status = check_health(channel, timeout=STOP_SECONDS).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        with Client(address) as client:
            client.deploy(counter(), "unheard")
            assert client.run("unheard") == [1]
            # What it has to say about this must not keep it from doing something about it.
            nursery = client.info().nursery.pid
            os.kill(nursery, signal.SIGKILL)
            client.deploy(counter(), "unheard-too")
            assert client.run("unheard-too") == [1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0


@entity
class Unhurried:
    def __init__(self, ready: str, release: str) -> None:
        self.ready, self.release = ready, release

    @pipe(on_startup=True)
    def load(self) -> None:
        Path(self.ready).touch()
        while not Path(self.release).exists():
            time.sleep(0.005)

    @pipe
    def answer(self) -> str:
        return "here"


def test_a_startup_that_is_given_up_ends_quietly(daemon: RunningDaemon, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with Pipeline() as builder:
        model = Unhurried(str(ready), str(release))
        model.load()
        builder.output(model.answer())
    with daemon.client() as client, ThreadPoolExecutor(2) as pool:
        client.deploy(builder.get_pipeline(), "unhurried")
        warming = pool.submit(client.warm, "unhurried")
        wait_until(ready.exists)
        deleting = pool.submit(client.delete, "unhurried")
        wait_until(lambda: all(one.name != "unhurried" for one in client.list()))
        # What the worker reports now, nobody waits for any more.
        release.touch()
        deleting.result()
        with pytest.raises(errors.NotFound, match="'unhurried' has been deleted"):
            warming.result()
    assert "broke the protocol" not in daemon.log()
