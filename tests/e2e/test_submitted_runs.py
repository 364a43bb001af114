"""Runs that nobody waits for, and what becomes of any run."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from pipeline import File, pipe
from pipelined.core.shared_limits import QUEUE_LENGTH
from pipelined_api.limits import MAX_INLINE_FILE_BYTES
from pipelined_api.v1 import files_pb2, files_pb2_grpc, runs_pb2, values_pb2
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
from tests.e2e.test_crashes import wait_until, waiting
from tests.running_daemon import RunningDaemon


@pipe
def fail(text: str) -> str:
    raise ValueError(f"no {text}")


@pipe
def size_of(file: File, release: str) -> int:
    while not Path(release).exists():
        time.sleep(0.005)
    return file.path.stat().st_size


def test_a_submitted_run_and_its_outputs(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        assert {"submit", "logs"} <= set(client.info().features)
        client.deploy(waiting(), "submitted")
        run = submit(stub, "submitted", *paths.inputs[:2])
        assert (run.deployment, run.version, run.submitted) == ("submitted", 1, True)
        assert run.state in (runs_pb2.RUN_STATE_QUEUED, runs_pb2.RUN_STATE_RUNNING)
        wait_until(paths.ready.exists)
        now = get(stub, run.run_id, 0.01)
        assert now.run.state == runs_pb2.RUN_STATE_RUNNING
        assert now.WhichOneof("outcome") is None
        assert not now.run.HasField("ended_at")
        paths.release.touch()
        then = ended(stub, run.run_id)
        assert then.run.state == runs_pb2.RUN_STATE_SUCCEEDED
        assert then.response.run_id == run.run_id
        assert then.run.execution_seconds == then.response.execution_seconds > 0
        times = [then.run.created_at, then.run.started_at, then.run.ended_at]
        assert times == sorted(times, key=lambda time: time.ToNanoseconds())
        assert outputs(then) == [*client.deployment("submitted").worker_pids]
        # They stay.
        assert outputs(get(stub, run.run_id)) == outputs(then)
        info = stub.Get(runs_pb2.RunsGetRequest(run_id=run.run_id, info_only=True))
        assert (info.run, info.WhichOneof("outcome")) == (then.run, None)


def test_outputs_that_travel_beside_the_messages(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(repeated, str, int), "large-submitted")
        run = submit(stub, "large-submitted", "x" * 3_000_000, 5)
        assert outputs(ended(stub, run.run_id)) == ["x" * 15_000_000]


def test_a_failure_is_told_as_run_tells_it(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(fail, str), "failing-submitted")
        request = runs_pb2.RunRequest(deployment="failing-submitted", inputs=encoded("luck"))
        called, _ = refused(lambda: stub.Run(request))
        run = submit(stub, "failing-submitted", "luck")
        response = ended(stub, run.run_id)
        assert response.run.state == runs_pb2.RUN_STATE_FAILED
        assert response.run.error.reason == "RUN_FAILED"
        found = told(response.status)
        assert response.run.error.message == found.message == called.message
        assert (found.code, found.reason) == (called.code, called.reason)
        assert found.traceback == called.traceback != ""
        assert found.metadata == {**called.metadata, "run_id": run.run_id}


def test_inputs_are_validated_at_once(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(repeated, str, int), "validated-submitted")
        error, _ = refused(lambda: submit(stub, "validated-submitted", "x", "three"))
        assert (error.code, error.reason) == (code_pb2.INVALID_ARGUMENT, "INVALID_INPUT")
        error, _ = refused(lambda: submit(stub, "no-such-deployment"))
        assert error.reason == "DEPLOYMENT_NOT_FOUND"
        error, _ = refused(lambda: submit(stub, "validated-submitted", "x", 1, timeout=-1))
        assert error.metadata["field"] == "timeout_seconds"
        error, _ = refused(lambda: submit(stub, "validated-submitted", "x", 1, key="k" * 257))
        assert error.metadata["field"] == "idempotency_key"
        assert listed(stub, "validated-submitted") == []
        assert client.deployment("validated-submitted").startups == 0


def test_a_key_makes_a_retry_safe(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(two_nodes(), "keyed")
        client.deploy(two_nodes(), "keyed-too")
        run = submit(stub, "keyed", *paths.inputs, key="key-1")
        with ThreadPoolExecutor(4) as pool:
            again = [
                pool.submit(submit, stub, "keyed", *paths.inputs, key="key-1", timeout=60)
                for _ in range(4)
            ]
            assert {each.result().run_id for each in again} == {run.run_id}
        for deployment, inputs in (("keyed", ("a", "b", "c")), ("keyed-too", paths.inputs)):
            with pytest.raises(grpc.RpcError):
                submit(stub, deployment, *inputs, key="key-1")
            error, _ = refused(lambda d=deployment, i=inputs: submit(stub, d, *i, key="key-1"))  # type: ignore[misc]
            assert error.code == code_pb2.ALREADY_EXISTS
            assert error.reason == "IDEMPOTENCY_KEY_REUSED"
            assert error.metadata["run_id"] == run.run_id
        paths.release.touch()
        ended(stub, run.run_id)
        # Neither its end nor that of its deployment changes what the key stands for.
        client.delete("keyed")
        assert submit(stub, "keyed", *paths.inputs, key="key-1").run_id == run.run_id
        assert paths.reached.read_text() == "reached\n"


def test_a_run_has_its_time(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(two_nodes(), "timed")
        running = submit(stub, "timed", *paths.inputs)
        wait_until(paths.ready.exists)
        queued = submit(stub, "timed", *paths.inputs, timeout=0.05)
        response = ended(stub, queued.run_id)
        assert response.run.state == runs_pb2.RUN_STATE_FAILED
        assert not response.run.HasField("started_at")
        found = told(response.status)
        assert (found.code, found.reason) == (code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert found.metadata["run_id"] == queued.run_id
        paths.release.touch()
        ended(stub, running.run_id)
        assert paths.reached.read_text() == "reached\n"


def test_runs_are_listed_whoever_made_them(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(repeated, str, int), "listed")
        client.run("listed", "x", 2)
        list(client.stream("listed", "x", 2))
        submitted = submit(stub, "listed", "x", 2)
        ended(stub, submitted.run_id)
        refused(lambda: stub.Run(runs_pb2.RunRequest(deployment="listed", inputs=encoded(1, 2))))
        runs = listed(stub, "listed")
        assert [run.submitted for run in runs] == [True, False, False]
        assert runs[0].run_id == submitted.run_id
        assert {run.state for run in runs} == {runs_pb2.RUN_STATE_SUCCEEDED}
        assert all(run.execution_seconds > 0 for run in runs)
        assert listed(stub, "listed", 1) == runs[:1]
        assert listed(stub, "")[:3] == runs
        request = runs_pb2.RunsListRequest(deployment="listed", states=[runs_pb2.RUN_STATE_FAILED])
        assert not stub.List(request).runs
        # What the caller got is not kept as well.
        response = get(stub, runs[1].run_id)
        assert response.run == runs[1]
        found = told(response.status)
        assert (found.code, found.reason) == (code_pb2.NOT_FOUND, "OUTPUTS_NOT_KEPT")
        for bad in (
            runs_pb2.RunsListRequest(limit=1001),
            runs_pb2.RunsListRequest(states=[17]),  # type: ignore[list-item]
        ):
            error, _ = refused(lambda bad=bad: stub.List(bad))  # type: ignore[misc]
            assert error.reason == "INVALID_REQUEST"


def test_every_run_tells_its_id(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(fail, str), "telling")
        client.deploy(graph_of(repeated, str, int), "telling-well")
        run = runs_pb2.RunRequest(deployment="telling", inputs=encoded("x"))
        stream = runs_pb2.StreamRequest(deployment="telling", inputs=encoded("x"))
        calls: list[Callable[[], object]] = [lambda: stub.Run(run), lambda: [*stub.Stream(stream)]]
        for call in calls:
            error, trailing = refused(call)
            [newest] = listed(stub, "telling", 1)
            assert error.metadata["run_id"] == trailing["pipelined-run-id"] == newest.run_id
            assert newest.state == runs_pb2.RUN_STATE_FAILED
        request = runs_pb2.RunRequest(deployment="telling-well", inputs=encoded("x", 1))
        response, call_ = stub.Run.with_call(request)
        assert dict(call_.trailing_metadata() or ())["pipelined-run-id"] == response.run_id


def test_a_full_queue_refuses(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(two_nodes(), "full")
        submit(stub, "full", *paths.inputs)
        wait_until(paths.ready.exists)
        request = runs_pb2.SubmitRequest(deployment="full", inputs=encoded(*paths.inputs))
        submits = [stub.Submit.future(request) for _ in range(QUEUE_LENGTH)]
        queued = [each.result().run.run_id for each in submits]
        error, _ = refused(lambda: submit(stub, "full", *paths.inputs, key="refused"))
        assert (error.code, error.reason) == (code_pb2.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        # It was not made: neither is it listed, nor does its key stand for it.
        assert len(listed(stub, "full", 1000)) == 1000
        assert error.metadata["run_id"] not in {run.run_id for run in listed(stub, "full", 1000)}
        for run_id in queued:
            cancel(stub, run_id)
        run = submit(stub, "full", *paths.inputs, key="refused")
        paths.release.touch()
        assert ended(stub, run.run_id).run.state == runs_pb2.RUN_STATE_SUCCEEDED
        assert paths.reached.read_text() == "reached\n" * 2


def test_a_file_is_held_until_the_run_is_over(
    daemon: RunningDaemon, tmp_path: Path, paths: Paths
) -> None:
    data = os.urandom(2 * MAX_INLINE_FILE_BYTES)
    sha256 = hashlib.sha256(data).digest()
    wire = values_pb2.Value(
        file_value=values_pb2.File(name="a.bin", sha256=sha256, size=len(data), stored=True)
    )
    with (
        daemon.client() as client,
        runs_of(daemon) as stub,
        grpc.insecure_channel(daemon.address) as channel,
    ):
        files = files_pb2_grpc.FilesStub(channel)
        header = files_pb2.UploadHeader(sha256=sha256, size=len(data), name="a.bin")
        half = len(data) // 2
        files.Upload(
            iter(
                [
                    files_pb2.UploadRequest(header=header),
                    files_pb2.UploadRequest(data=data[:half]),
                    files_pb2.UploadRequest(data=data[half:]),
                ]
            )
        )
        client.deploy(graph_of(size_of, File, str), "holding")
        request = runs_pb2.SubmitRequest(
            deployment="holding", inputs=[wire, *encoded(str(paths.release))]
        )
        runs = [stub.Submit(request).run.run_id for _ in range(2)]
        delete = files_pb2.FilesDeleteRequest(sha256=sha256)
        error, _ = refused(lambda: files.Delete(delete))
        assert error.reason == "FILE_IN_USE"
        paths.release.touch()
        for run_id in runs:
            assert outputs(ended(stub, run_id)) == [len(data)]
        files.Delete(delete)
        error, _ = refused(lambda: stub.Submit(request))
        assert error.reason == "FILE_NOT_FOUND"


def test_what_is_not_remembered(daemon: RunningDaemon) -> None:
    with runs_of(daemon) as stub:
        for call in (get, cancel):
            error, _ = refused(lambda call=call: call(stub, "no-such-run"))  # type: ignore[misc]
            assert (error.code, error.reason) == (code_pb2.NOT_FOUND, "RUN_NOT_FOUND")
        error, _ = refused(lambda: get(stub, "no-such-run", -1.0))
        assert error.metadata["field"] == "wait_seconds"


def test_outputs_make_room_for_newer_ones(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--run-store-size=1MB"])
    try:
        with daemon.client() as client, runs_of(daemon) as stub:
            client.deploy(graph_of(repeated, str, int), "small-store")
            runs = [submit(stub, "small-store", "x", 700_000).run_id for _ in range(2)]
            assert outputs(ended(stub, runs[1])) == ["x" * 700_000]
            response = get(stub, runs[0])
            assert response.run.state == runs_pb2.RUN_STATE_SUCCEEDED
            assert told(response.status).reason == "OUTPUTS_NOT_KEPT"
    finally:
        daemon.close()


def test_a_run_is_forgotten_after_its_time(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--run-ttl=0.2s"])
    try:
        with daemon.client() as client, runs_of(daemon) as stub:
            client.deploy(graph_of(repeated, str, int), "short-lived")
            run = submit(stub, "short-lived", "x", 1)
            wait_until(lambda: listed(stub, "short-lived") == [])
            assert client.deployment("short-lived").runs_succeeded == 1
            error, _ = refused(lambda: get(stub, run.run_id))
            assert error.reason == "RUN_NOT_FOUND"
    finally:
        daemon.close()


def test_a_daemon_that_stops_lets_submitted_runs_end(
    own_daemon: RunningDaemon, paths: Paths
) -> None:
    with own_daemon.client() as client, runs_of(own_daemon) as stub, ThreadPoolExecutor(1) as pool:
        client.deploy(two_nodes(), "draining-submitted")
        run = submit(stub, "draining-submitted", *paths.inputs)
        wait_until(paths.ready.exists)
        waiter = pool.submit(ended, stub, run.run_id)
        stopping = pool_of_one_more(own_daemon)
        wait_until(lambda: client.deployment("draining-submitted").state == "draining")
        error, _ = refused(lambda: submit(stub, "draining-submitted", *paths.inputs))
        assert error.reason == "DRAINING"
        paths.release.touch()
        assert waiter.result().run.state == runs_pb2.RUN_STATE_SUCCEEDED
        assert stopping.result() == 0


def pool_of_one_more(daemon: RunningDaemon) -> Any:
    """The exit code of a daemon that is asked to stop, in the future."""
    pool = ThreadPoolExecutor(1)
    stopping = pool.submit(daemon.stop)
    pool.shutdown(wait=False)
    return stopping
