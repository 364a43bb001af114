"""Callers that come in crowds, and leave: who stays is served."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from pipeline import Graph, Pipeline, Variable, entity, errors, pipe
from pipelined.core.shared_limits import QUEUE_LENGTH
from pipelined_api.v1 import runs_pb2, values_pb2
from tests.e2e.test_crashes import counter, wait_until, waiting
from tests.e2e.test_lifecycle import double, single, triple
from tests.running_daemon import RunningDaemon


def test_cancelled_runs_leave_the_queue(daemon: RunningDaemon, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    request = runs_pb2.RunRequest(
        deployment="crowded",
        inputs=[values_pb2.Value(string_value=str(path)) for path in (ready, release)],
    ).SerializeToString()
    with (
        daemon.client() as client,
        grpc.insecure_channel(daemon.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        client.deploy(waiting(), "crowded")

        def full() -> bool:
            try:
                client.run("crowded", str(ready), str(release), timeout=0.2)
            except errors.Overloaded:
                return True
            except errors.DeadlineExceeded:
                return False
            raise AssertionError("it ran, although it was not released")

        run: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        run = channel.unary_unary("/pipelined.v1.Runs/Run")
        first = pool.submit(client.run, "crowded", str(ready), str(release))
        wait_until(ready.exists)
        refused = threading.Event()
        # One more than may wait.
        queued = [run.future(request) for _ in range(QUEUE_LENGTH + 1)]
        for call in queued:
            call.add_done_callback(lambda done: refused.set())
        try:
            refused.wait()
            for call in queued:
                call.cancel()
            # All of them leave, so that there is room again.
            wait_until(lambda: not full())
        finally:
            release.touch()
        [pid] = first.result()
        assert client.run("crowded", str(ready), str(release)) == [pid]
        client.delete("crowded")


def test_a_replaced_version_starts_for_the_runs_that_it_has(tmp_path: Path) -> None:
    # As long as the nursery imports, no worker is started.
    release = tmp_path / "release"
    (tmp_path / "import_that_waits.py").write_text(
        f"import pathlib\nwhile not pathlib.Path({str(release)!r}).exists(): pass\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    options = ["--preload=import_that_waits"]
    daemon = RunningDaemon(tmp_path, options=options, environment=environment)
    try:
        with daemon.client() as client, ThreadPoolExecutor(1) as pool:
            client.deploy(single(double), "overtaken")
            run = pool.submit(client.run, "overtaken", 7)
            wait_until(lambda: client.deployment("overtaken").state == "starting")
            assert client.deploy(single(triple), "overtaken").version == 2
            # Takes the code away that nobody needs.
            client.deploy(counter(), "other")
            client.delete("other")
            release.touch()
            assert run.result() == [14]
            assert client.run("overtaken", 7) == [21]
    finally:
        release.touch()
        daemon.close()


@entity
class OnlyOneStarts:
    def __init__(self, taken: str) -> None:
        self.taken = taken

    @pipe(on_startup=True)
    def load(self) -> None:
        # Only the first process can make the file.
        Path(self.taken).touch(exist_ok=False)

    @pipe
    def wait(self, ready: str, release: str) -> int:
        Path(ready).touch()
        while not Path(release).exists():
            time.sleep(0.005)
        return 1


def only_one_starts(taken: Path) -> Graph:
    with Pipeline() as builder:
        ready = Variable(str)
        release = Variable(str)
        model = OnlyOneStarts(str(taken))
        model.load()
        builder.output(model.wait(ready, release))
    return builder.get_pipeline()


def test_a_run_waits_for_the_instance_that_works(daemon: RunningDaemon, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with daemon.client() as client, ThreadPoolExecutor(2) as pool:
        client.deploy(only_one_starts(tmp_path / "taken"), "lame", instances=2)
        # The longer the other one is not tried again, the shorter a deadline may be.
        for _ in range(5):
            with pytest.raises(errors.StartupFailed, match="FileExistsError"):
                client.warm("lame")
        first = pool.submit(client.run, "lame", str(ready), str(release))
        wait_until(ready.exists)
        second = pool.submit(client.run, "lame", str(ready), str(release), timeout=3.0)
        # Long enough for a refusal, and for nothing else: the only worker is busy.
        with pytest.raises(errors.DeadlineExceeded):
            client.run("lame", str(ready), str(release), timeout=0.2)
        release.touch()
        assert first.result() == [1]
        assert second.result() == [1]
        client.delete("lame")
