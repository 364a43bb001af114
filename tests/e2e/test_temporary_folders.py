"""Nothing that is temporary outlives the worker that it was for, however that ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipeline import Directory, File, errors, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.files import graph_of, on_disk
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon


@pipe
def use_and_wait(stored: File, folder: Directory, ready: str, release: str) -> int:
    assert stored.path.exists()
    assert folder.path.exists()
    made = File.from_bytes(b"made", name="small")
    assert made.path.exists()
    Path(ready).write_text("here")
    while not Path(release).exists():
        time.sleep(0.005)
    return os.getpid()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def running(tmp_path: Path, temporary: Path) -> Iterator[RunningDaemon]:
    environment = {"TMPDIR": str(temporary)}
    daemon = RunningDaemon(tmp_path, options=QUICK_PRELOAD, environment=environment)
    yield daemon
    daemon.close()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("pipeline*")}


@pytest.mark.parametrize("victim", ["worker", "daemon"])
def test_what_a_run_had_of_temporary_files_goes_with_its_worker(
    running: RunningDaemon, tmp_path: Path, temporary: Path, victim: str
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    (tmp_path / "folder").mkdir()
    on_disk(tmp_path / "folder")
    inputs = (on_disk(tmp_path), Directory(tmp_path / "folder"), str(ready), str(release))
    with running.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(graph_of(use_and_wait, File, Directory, str, str), "victim")
        run = pool.submit(client.run, "victim", *inputs)
        wait_until(ready.exists)
        [pid] = client.deployment("victim").worker_pids
        worker = psutil.Process(pid)
        assert len(left_in(temporary)) == 1
        if victim == "worker":
            os.kill(pid, signal.SIGKILL)
        else:
            running.kill()
        with pytest.raises(errors.PipelineError):
            run.result()
    worker.wait(60)
    if victim == "worker":
        # The next worker has a folder of its own.
        wait_until(lambda: len(left_in(temporary)) <= 1)
        assert running.stop() == 0
    wait_until(lambda: not left_in(temporary))
    running.start()


def test_what_a_daemon_and_its_worker_left_that_died_together_goes_with_the_next_start(
    running: RunningDaemon, tmp_path: Path, temporary: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    (tmp_path / "folder").mkdir()
    inputs = (on_disk(tmp_path), Directory(tmp_path / "folder"), str(ready), str(release))
    # Named like ours, and not ours.
    other = temporary / "pipelined-worker-other"
    other.mkdir()
    with running.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(graph_of(use_and_wait, File, Directory, str, str), "together")
        run = pool.submit(client.run, "together", *inputs)
        wait_until(ready.exists)
        [pid] = client.deployment("together").worker_pids
        worker = psutil.Process(pid)
        # It cannot notice the end of the daemon any more.
        worker.suspend()
        running.kill()
        worker.kill()
        with pytest.raises(errors.PipelineError):
            run.result()
    worker.wait(60)
    assert len(left_in(temporary)) == 2
    running.start()
    assert left_in(temporary) == {other.name}
