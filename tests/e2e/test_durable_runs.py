"""Submitted runs and what ends the processes that are to execute them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from pipeline import Client, File, Graph, errors, pipe
from pipelined_api.limits import MAX_INLINE_FILE_BYTES
from pipelined_api.v1 import files_pb2, files_pb2_grpc, runs_pb2, runs_pb2_grpc, values_pb2
from tests.conftest import QUICK_PRELOAD
from tests.e2e.held_runs import Paths, graph_of, repeated, two_nodes
from tests.e2e.runs_stub import (
    cancel,
    encoded,
    ended,
    get,
    listed,
    outputs,
    refused,
    runs_of,
    submit,
    told,
)
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon

SUCCEEDED = runs_pb2.RUN_STATE_SUCCEEDED
FAILED = runs_pb2.RUN_STATE_FAILED
AT_LEAST_ONCE = runs_pb2.DELIVERY_AT_LEAST_ONCE
# Of the loop of crashes.
CRASHES = 4


@pipe
def fail(text: str) -> str:
    raise ValueError(f"no {text}")


@pipe
def die(marks: str) -> int:
    with Path(marks).open("a") as file:
        file.write("tried\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@pipe
def mark(marks: str, text: str) -> str:
    with Path(marks).open("a") as file:
        file.write(f"{text}\n")
    return text


@pipe
def held_size(file: File, ready: str, release: str) -> int:
    Path(ready).touch()
    while not Path(release).exists():
        pass
    return file.path.stat().st_size


@pipe
def hold(ready: str, release: str, marks: str, text: str) -> str:
    if ready:
        Path(ready).touch()
    while release and not Path(release).exists():
        pass
    with Path(marks).open("a") as file:
        file.write(f"{text}\n")
    print(text)  # noqa: T201  # it is what the pipe prints
    return text


def holding() -> Graph:
    """Takes the paths ready and release, which may be empty, marks, and a text."""
    return graph_of(hold, str, str, str, str)


def again(
    stub: runs_pb2_grpc.RunsStub, deployment: str, *inputs: object, priority: int = 0
) -> runs_pb2.RunInfo:
    """Submit a run that is to be executed at least once."""
    request = runs_pb2.SubmitRequest(
        deployment=deployment,
        inputs=encoded(*inputs),
        delivery=AT_LEAST_ONCE,
        priority=priority,
    )
    return stub.Submit(request).run


def upload(daemon: RunningDaemon, data: bytes) -> values_pb2.Value:
    """Store a file, and return what refers to it."""
    sha256 = hashlib.sha256(data).digest()
    header = files_pb2.UploadHeader(sha256=sha256, size=len(data), name="a.bin")
    with grpc.insecure_channel(daemon.address) as channel:
        parts = [files_pb2.UploadRequest(header=header)]
        parts += [
            files_pb2.UploadRequest(data=data[start : start + 2**20])
            for start in range(0, len(data), 2**20)
        ]
        files_pb2_grpc.FilesStub(channel).Upload(iter(parts))
    return values_pb2.Value(
        file_value=values_pb2.File(name="a.bin", sha256=sha256, size=len(data), stored=True)
    )


def test_what_was_accepted_survives_a_crash(
    own_daemon: RunningDaemon, tmp_path: Path, paths: Paths
) -> None:
    marks, ready, release = (tmp_path / name for name in ("marks", "again-ready", "again-release"))
    with own_daemon.client() as client, runs_of(own_daemon) as stub:
        client.deploy(graph_of(repeated, str, int), "ended")
        client.deploy(graph_of(fail, str), "failing")
        client.deploy(two_nodes(), "once")
        client.deploy(holding(), "again")
        client.deploy(graph_of(held_size, File, str, str), "file")
        succeeded = submit(stub, "ended", "x", 3_000_000)
        failed = submit(stub, "failing", "luck")
        before = [ended(stub, run.run_id) for run in (succeeded, failed)]
        once = submit(stub, "once", *paths.inputs, key="first")
        queued = submit(stub, "once", *paths.inputs, key="second")
        cancelled = cancel(stub, submit(stub, "once", *paths.inputs).run_id)
        repeatable = again(stub, "again", str(ready), str(release), str(marks), "done")
        data = os.urandom(2 * MAX_INLINE_FILE_BYTES)
        held = stub.Submit(
            runs_pb2.SubmitRequest(
                deployment="file",
                inputs=[upload(own_daemon, data), *encoded(str(ready), str(release))],
                delivery=AT_LEAST_ONCE,
            )
        ).run
        wait_until(lambda: paths.ready.exists() and ready.exists())
        wait_until(lambda: get(stub, held.run_id).run.state == runs_pb2.RUN_STATE_RUNNING)
    own_daemon.kill()
    paths.ready.unlink()
    own_daemon.start()
    with own_daemon.client() as client, runs_of(own_daemon) as stub:
        # What had ended is told as it was.
        assert [get(stub, run.run_id) for run in (succeeded, failed)] == before
        assert get(stub, cancelled.run_id).run == cancelled
        response = ended(stub, once.run_id)
        found = told(response.status)
        assert (response.run.state, response.run.attempts) == (FAILED, 1)
        assert found.reason == response.run.error.reason == "RUN_INTERRUPTED"
        assert found.metadata["run_id"] == once.run_id
        with pytest.raises(errors.WorkerDied, match="not executed again"):
            client.get_run(once.run_id).result()
        # A key stands for the same run.
        assert submit(stub, "once", *paths.inputs, key="first").run_id == once.run_id
        assert submit(stub, "once", *paths.inputs, key="second").run_id == queued.run_id
        error, _ = refused(lambda: submit(stub, "once", "a", "b", "c", key="second"))
        assert error.reason == "IDEMPOTENCY_KEY_REUSED"
        wait_until(paths.ready.exists)
        # The file that a run refers to cannot be taken away from it.
        with grpc.insecure_channel(own_daemon.address) as channel:
            delete = files_pb2.FilesDeleteRequest(sha256=hashlib.sha256(data).digest())
            error, _ = refused(lambda: files_pb2_grpc.FilesStub(channel).Delete(delete))
            assert error.reason == "FILE_IN_USE"
        release.touch()
        paths.release.touch()
        assert ended(stub, queued.run_id).run.state == SUCCEEDED
        assert ended(stub, queued.run_id).run.attempts == 1
        assert paths.reached.read_text() == "reached\n"
        assert ended(stub, repeatable.run_id).run.attempts == 2
        assert marks.read_text() == "done\n"
        assert outputs(ended(stub, held.run_id)) == [len(data)]
        assert client.get_run(held.run_id).info().delivery == "at_least_once"
        for number, run in enumerate(reversed((succeeded, failed, once, queued, cancelled))):
            assert listed(stub, "", 100)[number + 2].run_id == run.run_id


def test_who_comes_first_after_a_crash(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    marks, ready, release = (tmp_path / name for name in ("marks", "ready", "release"))
    with own_daemon.client() as client, runs_of(own_daemon) as stub:
        client.deploy(holding(), "ordered")
        running = again(stub, "ordered", str(ready), str(release), str(marks), "first")
        wait_until(ready.exists)
        runs = [
            client.submit("ordered", "", "", str(marks), text, priority=priority)
            for text, priority in (("a", 0), ("b", 5), ("c", -5), ("d", 5), ("e", 0))
        ]
        gone = [submit(stub, "ordered", "", "", str(marks), "gone") for _ in range(2)]
        cancel(stub, gone[0].run_id)
        late = submit(stub, "ordered", "", "", str(marks), "late", timeout=0.5)
        assert listed(stub, "ordered", 1) == [late]
        with pytest.raises(errors.InvalidInput) as caught:
            client.submit("ordered", "", "", str(marks), "f", priority=11)
        assert (caught.value.field, caught.value.bound) == ("priority", "le=10")
        with pytest.raises(errors.InvalidInput, match="by its position"):
            client.run("ordered", "", "", str(marks), "f", priority="high")  # type: ignore[arg-type]
        with pytest.raises(errors.InvalidInput, match="at_least_once"):
            client.submit("ordered", "", "", "", "", delivery="twice")  # type: ignore[arg-type]
        error, _ = refused(
            lambda: stub.Run(runs_pb2.RunRequest(deployment="ordered", priority=-11))
        )
        assert error.metadata["field"] == "priority"
    own_daemon.kill()
    # Its time is over before the daemon is back.
    time.sleep(0.5)
    own_daemon.start()
    with own_daemon.client() as client, runs_of(own_daemon) as stub:
        assert told(ended(stub, late.run_id).status).reason == "DEADLINE_EXCEEDED"
        assert cancel(stub, gone[1].run_id).state == runs_pb2.RUN_STATE_CANCELLED
        release.touch()
        for run in runs:
            client.get_run(run.id).result()
        assert ended(stub, running.run_id).run.attempts == 2
        # The one that was begun had come first: 5 steps of priority are less than its age only if
        # it is older than 150 seconds.
        assert marks.read_text().split() == ["b", "d", "first", "a", "e", "c"]


def test_a_run_that_kills_its_worker_has_so_many_attempts(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(die, str), "deadly")
        for run, attempts, in_all in (
            (submit(stub, "deadly", str(marks)), 1, 1),
            (again(stub, "deadly", str(marks)), 3, 4),
        ):
            response = ended(stub, run.run_id)
            assert (response.run.state, response.run.attempts) == (FAILED, attempts)
            assert told(response.status).reason == "WORKER_DIED"
            assert marks.read_text() == "tried\n" * in_all
        client.delete("deadly")


def test_runs_of_what_is_deleted_or_replaced(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub, ThreadPoolExecutor(1) as pool:
        client.deploy(two_nodes(), "pinned")
        running = again(stub, "pinned", *paths.inputs)
        wait_until(paths.ready.exists)
        queued = submit(stub, "pinned", *paths.inputs)
        # The next version has other inputs: those that wait are of the one before.
        assert client.deploy(graph_of(repeated, str, int), "pinned").version == 2
        newest = submit(stub, "pinned", "x", 2)
        assert outputs(ended(stub, newest.run_id)) == ["xx"]
        assert get(stub, queued.run_id).run.state == runs_pb2.RUN_STATE_QUEUED
        deletion = pool.submit(client.delete, "pinned")
        wait_until(lambda: not [d for d in client.list() if d.name == "pinned"])
        paths.release.touch()
        states = [ended(stub, run.run_id) for run in (running, queued)]
        # What was being cooled for its successor had to wait, and is deleted now.
        assert [state.run.state for state in states] == [SUCCEEDED, FAILED]
        assert told(states[1].status).reason == "DEPLOYMENT_DELETED"
        deletion.result()


def test_cancelled_and_late_runs_whose_worker_heeds_nothing(tmp_path: Path) -> None:
    config = tmp_path / "pipelined.toml"
    config.write_text("[limits]\nkill_grace = 0.2\nupload_idle = 0.3\nqueue_length = 3\n")
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, f"--config={config}"])
    marks, ready = tmp_path / "marks", tmp_path / "ready"
    never = str(tmp_path / "never")
    try:
        with daemon.client() as client, runs_of(daemon) as stub:
            client.deploy(holding(), "deaf")
            pids: list[int] = []
            for number, how in enumerate(("cancel", "timeout", "leave")):
                ready.unlink(missing_ok=True)
                inputs = (str(ready), never, str(marks), "deaf")
                if how == "leave":
                    request = runs_pb2.RunRequest(deployment="deaf", inputs=encoded(*inputs))
                    call = stub.Run.future(request)
                else:
                    timeout = 0.0 if how == "cancel" else 3.0
                    run = submit(stub, "deaf", *inputs, timeout=timeout)
                next_run = submit(stub, "deaf", "", "", str(marks), str(number))
                wait_until(ready.exists)
                pids += client.deployment("deaf").worker_pids
                if how == "cancel":
                    assert cancel(stub, run.run_id).state == runs_pb2.RUN_STATE_CANCELLED
                elif how == "leave":
                    call.cancel()
                # What waited is executed by another worker.
                assert outputs(ended(stub, next_run.run_id)) == [str(number)]
                if how == "timeout":
                    assert told(ended(stub, run.run_id).status).reason == "DEADLINE_EXCEEDED"
            assert len(set(pids)) == 3
            found = client.deployment("deaf")
            assert (found.state, found.startups) == ("warm", 4)
            assert daemon.log().count("worker killed: it did not end its run") == 3
            assert marks.read_text().split() == ["0", "1", "2"]
            # The last word on its uploads: one that stands still ends.
            with grpc.insecure_channel(daemon.address) as channel:
                stalled = threading.Event()

                def parts() -> Iterator[files_pb2.UploadRequest]:
                    header = files_pb2.UploadHeader(sha256=bytes(32), size=9, name="a")
                    yield files_pb2.UploadRequest(header=header)
                    stalled.wait()

                error, _ = refused(lambda: files_pb2_grpc.FilesStub(channel).Upload(parts()))
                stalled.set()
                assert error.reason == "UPLOAD_STALLED"
            # Who follows what a deployment prints comes to an end when that is deleted.
            with client.logs("deaf", follow=True) as lines:
                assert next(lines).text == "0"
                client.delete("deaf")
                assert [line.text for line in lines] == ["1", "2"]
    finally:
        daemon.close()


def test_crashes_at_any_instant(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    """Every accepted run has one end, and those that may run once have run at most once."""
    marks, seed = tmp_path / "marks", random.randrange(2**32)
    chance = random.Random(seed)
    accepted: dict[str, str] = {}
    numbers = iter(range(1_000_000))
    ends: dict[str, int] = {}
    with own_daemon.client() as client:
        client.deploy(graph_of(mark, str, str), "storm", instances=2)

    def load(stop: threading.Event) -> None:
        with Client(own_daemon.address) as client:
            while not stop.is_set():
                text = f"{chance.choice(('once', 'again'))}-{next(numbers)}"
                delivery = "at_most_once" if text.startswith("once") else "at_least_once"
                try:
                    run = client.submit(
                        "storm",
                        str(marks),
                        text,
                        delivery=delivery,  # type: ignore[arg-type]
                        priority=chance.randint(-10, 10),
                    )
                    accepted[run.id] = text
                    info = run.info()
                except (errors.Unavailable, errors.Cancelled, errors.Overloaded):
                    continue
                if info.ended:
                    ends[info.id] = hash((info.state, info.reason, info.message))

    for _ in range(CRASHES):
        stop = threading.Event()
        loaders = [threading.Thread(target=load, args=(stop,)) for _ in range(3)]
        before = len(accepted)
        with own_daemon.client() as client:
            client.warm("storm")
        for loader in loaders:
            loader.start()
        wait_until(lambda before=before: len(accepted) > before + 20)  # type: ignore[misc]
        time.sleep(chance.random() * 0.3)
        own_daemon.kill()
        stop.set()
        for loader in loaders:
            loader.join()
        own_daemon.start()
    attempts: dict[str, int] = {}
    succeeded: set[str] = set()
    with own_daemon.client() as client:
        for run_id, text in accepted.items():
            run = client.get_run(run_id)
            with contextlib.suppress(errors.WorkerDied):
                assert run.result(60) == [text]
            info = run.info()
            assert info.reason in ("", "RUN_INTERRUPTED"), f"seed {seed}"
            attempts[text] = info.attempts
            if info.state == "succeeded":
                succeeded.add(text)
            if run_id in ends:
                assert hash((info.state, info.reason, info.message)) == ends[run_id]
        # Those that were accepted, but whose callers were not told so, end as well.
        for info in client.runs(states=["queued", "running"], limit=1000):
            with contextlib.suppress(errors.WorkerDied):
                client.get_run(info.id).result(60)
        assert not client.runs(states=["queued", "running"])
    executed = Counter(marks.read_text().split())
    assert succeeded
    for text in succeeded:
        assert executed[text] >= 1
    for text, count in executed.items():
        assert count <= attempts.get(text, 1) <= (1 if text.startswith("once") else 3)
