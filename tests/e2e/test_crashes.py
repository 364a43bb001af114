"""Processes that die: the run they were on is told, nobody else notices, the next run works."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipeline import Graph, Pipeline, Variable, entity, errors, pipe
from tests.nursery.user_code import hide_children
from tests.running_daemon import POLL_SECONDS, RunningDaemon


@entity
class Counter:
    """Counts the runs of its process."""

    def __init__(self) -> None:
        self.count = 0

    @pipe
    def next(self) -> int:
        self.count += 1
        return self.count


def counter() -> Graph:
    with Pipeline() as builder:
        builder.output(Counter().next())
    return builder.get_pipeline()


@pipe
def report_and_wait(ready: str, release: str) -> int:
    Path(ready).write_text("here")
    while not Path(release).exists():
        time.sleep(0.005)
    return os.getpid()


def waiting() -> Graph:
    with Pipeline() as builder:
        ready = Variable(str)
        release = Variable(str)
        builder.output(report_and_wait(ready, release))
    return builder.get_pipeline()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something outside has happened; the test's own timeout bounds it."""
    while not condition():
        # Spinning would take a core from what is waited for.
        time.sleep(POLL_SECONDS)


def test_worker_killed_in_mid_run(daemon: RunningDaemon, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with daemon.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(counter(), "bystander")
        assert client.run("bystander") == [1]
        client.deploy(waiting(), "victim")
        run = pool.submit(client.run, "victim", str(ready), str(release))
        wait_until(ready.exists)
        [pid] = client.deployment("victim").worker_pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.WorkerDied) as caught:
            run.result()
        assert caught.value.reason == "WORKER_DIED"
        assert caught.value.signal == "SIGKILL"
        assert "SIGKILL" in str(caught.value)
        release.touch()
        [next_pid] = client.run("victim", str(ready), str(release))
        assert next_pid != pid
        # The other deployment is in the same process as before.
        assert client.run("bystander") == [2]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("os._exit(3)", (None, 3)), ("os.kill(os.getpid(), 11)", ("SIGSEGV", None))],
)
def test_worker_that_ends_itself(
    daemon: RunningDaemon, how: str, expected: tuple[str | None, int | None]
) -> None:
    @pipe
    def end(code: str) -> None:
        exec(code, {"os": os})

    with Pipeline() as builder:
        code = Variable(str)
        builder.output(end(code))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "ends")
        with pytest.raises(errors.WorkerDied) as caught:
            client.run("ends", how)
        assert (caught.value.signal, caught.value.exit_code) == expected
        assert client.run("ends", "1 + 1") == [None]
        client.delete("ends")


def test_idle_worker_that_dies_is_replaced(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.deploy(counter(), "replaced")
        client.run("replaced")
        [pid] = client.deployment("replaced").worker_pids
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: client.deployment("replaced").startups == 2)
        client.warm("replaced")
        [other] = client.deployment("replaced").worker_pids
        assert other != pid
        assert client.run("replaced") == [1]


@pipe(on_startup=True)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_worker_that_dies_in_its_startup(daemon: RunningDaemon) -> None:
    with Pipeline() as builder:
        kill_itself()
        builder.output(Counter().next())
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "stillborn")
        for _ in range(2):
            with pytest.raises(errors.WorkerDied) as caught:
                client.run("stillborn")
            assert caught.value.signal == "SIGKILL"
        deployment = client.deployment("stillborn")
        assert deployment.state == "failed"
        assert deployment.failure is not None
        assert "SIGKILL" in deployment.failure.message
        client.delete("stillborn")


def test_nursery_killed(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with own_daemon.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(counter(), "survivor")
        assert client.run("survivor") == [1]
        client.deploy(waiting(), "running")
        run = pool.submit(client.run, "running", str(ready), str(release))
        wait_until(ready.exists)
        nursery = client.info().nursery.pid
        os.kill(nursery, signal.SIGKILL)
        # A run that was under way, and a warm deployment, go on in the same processes.
        assert client.run("survivor") == [2]
        release.touch()
        [pid] = client.deployment("running").worker_pids
        assert run.result() == [pid]
        # A new deployment waits for the next nursery.
        client.deploy(counter(), "newcomer")
        assert client.run("newcomer") == [1]
        assert client.info().nursery.pid != nursery
        # A worker of the dead nursery still tells how it died.
        release.unlink()
        ready.unlink()
        run = pool.submit(client.run, "running", str(ready), str(release))
        wait_until(ready.exists)
        assert client.deployment("running").worker_pids == (pid,)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.WorkerDied) as caught:
            run.result()
        assert caught.value.signal == "SIGKILL"


@pipe
def hide_and_hold_on(folder: str) -> None:
    hide_children(folder)
    (Path(folder) / "holding").touch()
    # For ages in native code, which does not let go of the interpreter.
    re.match("(a+)+$", "a" * 64 + "b")


def test_children_end_with_a_daemon_that_is_killed(
    own_daemon: RunningDaemon, tmp_path: Path
) -> None:
    with Pipeline() as builder:
        builder.output(hide_and_hold_on(Variable(str)))
    with own_daemon.client() as client:
        client.deploy(counter(), "orphan")
        client.run("orphan")
        client.deploy(builder.get_pipeline(), "holding")
    with ThreadPoolExecutor(1) as pool:
        for nursery_too in (False, True):
            with own_daemon.client() as client:
                run = pool.submit(client.run, "holding", str(tmp_path))
                wait_until((tmp_path / "holding").exists)
                (tmp_path / "holding").unlink()
                nursery = client.info().nursery.pid
                children = psutil.Process(own_daemon.pid).children(recursive=True)
                # The nursery, a worker, what that hides, and the other worker the first time.
                assert len(children) == (5 if nursery_too else 6)
                if nursery_too:
                    # It does not end the worker that holds on. The next daemon does.
                    os.kill(nursery, signal.SIGSTOP)
                own_daemon.kill()
                with pytest.raises(errors.Unavailable):
                    run.result()
            if nursery_too:
                os.kill(nursery, signal.SIGKILL)
                own_daemon.start()
            _, alive = psutil.wait_procs(children, timeout=30)
            assert not alive
            if not nursery_too:
                own_daemon.start()
    # The socket of the dead daemon is in the way of nobody, and the deployment is still there.
    with own_daemon.client() as client:
        assert client.run("orphan") == [1]
