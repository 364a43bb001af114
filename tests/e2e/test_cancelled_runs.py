"""Runs that are ended from outside, whichever call began them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.rpc import code_pb2

from pipeline import Pipeline, Variable, errors, pipe
from pipelined_api.limits import MAX_INLINE_FILE_BYTES
from pipelined_api.v1 import runs_pb2
from tests.e2e.held_runs import Paths, first, graph_of, repeated, second, two_nodes
from tests.e2e.runs_stub import (
    LONG,
    cancel,
    encoded,
    ended,
    get,
    listed,
    outputs,
    runs_of,
    submit,
    told,
)
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon


@pipe
def endless(ready: str, closed: str) -> Iterator[int]:
    try:
        while True:
            Path(ready).write_text("here")
            yield 1
    finally:
        Path(closed).write_text("closed")


@pipe
def large_elements(closed: str) -> Iterator[bytes]:
    try:
        while True:
            yield bytes(MAX_INLINE_FILE_BYTES)
    finally:
        Path(closed).write_text("closed")


def test_a_queued_run_that_is_cancelled_never_begins(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(two_nodes(), "cancel-queued")
        running = submit(stub, "cancel-queued", *paths.inputs)
        wait_until(paths.ready.exists)
        queued = submit(stub, "cancel-queued", *paths.inputs)
        assert queued.state == runs_pb2.RUN_STATE_QUEUED
        assert cancel(stub, queued.run_id).state == runs_pb2.RUN_STATE_CANCELLED
        response = get(stub, queued.run_id)
        found = told(response.status)
        assert (found.code, found.reason) == (code_pb2.CANCELLED, "RUN_CANCELLED")
        paths.release.touch()
        assert ended(stub, running.run_id).run.state == runs_pb2.RUN_STATE_SUCCEEDED
        # No error, and no change.
        for run_id, state in (
            (queued.run_id, runs_pb2.RUN_STATE_CANCELLED),
            (running.run_id, runs_pb2.RUN_STATE_SUCCEEDED),
        ):
            assert cancel(stub, run_id).state == state
        third = submit(stub, "cancel-queued", *paths.inputs)
        assert ended(stub, third.run_id).run.state == runs_pb2.RUN_STATE_SUCCEEDED
        assert paths.reached.read_text() == "reached\n" * 2
        assert not get(stub, queued.run_id).run.HasField("started_at")


def test_a_running_run_that_is_cancelled_begins_no_further_node(
    daemon: RunningDaemon, paths: Paths
) -> None:
    with (
        daemon.client() as client,
        runs_of(daemon) as stub,
        ThreadPoolExecutor(1) as pool,
    ):
        client.deploy(two_nodes(), "cancel-running")
        run = submit(stub, "cancel-running", *paths.inputs)
        waiter = pool.submit(get, stub, run.run_id, LONG)
        wait_until(paths.ready.exists)
        pids = [*client.deployment("cancel-running").worker_pids]
        assert cancel(stub, run.run_id).state == runs_pb2.RUN_STATE_CANCELLED
        # Before the node that is being executed has ended.
        assert waiter.result().run.state == runs_pb2.RUN_STATE_CANCELLED
        next_run = submit(stub, "cancel-running", *paths.inputs)
        assert next_run.state == runs_pb2.RUN_STATE_QUEUED
        paths.release.touch()
        assert outputs(ended(stub, next_run.run_id)) == pids
        assert paths.reached.read_text() == "reached\n"


def test_a_large_request_is_cancelled_like_any_other(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        with Pipeline() as builder:
            text, ready, release, reached = (Variable(str) for _ in range(4))
            builder.output(second(first(ready, release), reached), repeated(text, 1))
        client.deploy(builder.get_pipeline(), "cancel-large")
        run = submit(stub, "cancel-large", "x" * 3_000_000, *paths.inputs)
        wait_until(paths.ready.exists)
        cancel(stub, run.run_id)
        paths.release.touch()
        other = submit(stub, "cancel-large", "x", *paths.inputs)
        ended(stub, other.run_id)
        assert paths.reached.read_text() == "reached\n"


def test_the_caller_of_a_cancelled_run_is_told(daemon: RunningDaemon, paths: Paths) -> None:
    with (
        daemon.client() as client,
        runs_of(daemon) as stub,
        ThreadPoolExecutor(1) as pool,
    ):
        client.deploy(two_nodes(), "cancel-called")
        call = pool.submit(client.run, "cancel-called", *paths.inputs)
        wait_until(paths.ready.exists)
        [run] = listed(stub, "cancel-called")
        assert (run.state, run.submitted) == (runs_pb2.RUN_STATE_RUNNING, False)
        cancel(stub, run.run_id)
        with pytest.raises(errors.Cancelled) as caught:
            call.result()
        assert caught.value.reason == "RUN_CANCELLED"
        assert caught.value.metadata == {"run_id": run.run_id}
        paths.release.touch()
        client.run("cancel-called", *paths.inputs)
        assert paths.reached.read_text() == "reached\n"


@pytest.mark.parametrize("streamed", [True, False])
def test_the_generators_of_a_cancelled_run_are_closed(
    daemon: RunningDaemon, tmp_path: Path, streamed: bool
) -> None:
    name = f"cancel-stream-{streamed}"
    ready, closed = tmp_path / "ready", tmp_path / "closed"
    with daemon.client() as client, runs_of(daemon) as stub, ThreadPoolExecutor(1) as pool:
        client.deploy(graph_of(endless, str, str), name)
        inputs = (str(ready), str(closed))
        call = pool.submit(
            lambda: list(client.stream(name, *inputs)) if streamed else client.run(name, *inputs)
        )
        wait_until(ready.exists)
        [run] = listed(stub, name)
        cancel(stub, run.run_id)
        with pytest.raises(errors.Cancelled) as caught:
            call.result()
        assert caught.value.metadata == {"run_id": run.run_id}
        wait_until(closed.exists)


def test_a_stream_whose_reader_is_slow_can_be_cancelled(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(large_elements, str), "cancel-slow")
        stream = client.stream("cancel-slow", str(closed))
        next(stream)
        [run] = listed(stub, "cancel-slow")
        cancel(stub, run.run_id)
        # The worker is released though nobody reads.
        wait_until(closed.exists)
        with pytest.raises(errors.Cancelled) as caught:
            list(stream)
        assert caught.value.reason == "RUN_CANCELLED"


def test_a_caller_that_leaves_ends_its_run(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(two_nodes(), "left")
        client.warm("left")
        request = runs_pb2.RunRequest(deployment="left", inputs=encoded(*paths.inputs))
        call = stub.Run.future(request)
        wait_until(paths.ready.exists)
        [run] = listed(stub, "left")
        call.cancel()
        wait_until(lambda: listed(stub, "left")[0].state == runs_pb2.RUN_STATE_CANCELLED)
        paths.release.touch()
        client.run("left", *paths.inputs)
        assert paths.reached.read_text() == "reached\n"
        assert "caller has gone" in told(get(stub, run.run_id).status).message
