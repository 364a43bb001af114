"""What runs and workers print, from their pipe to whoever asks for it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2

from pipeline import Pipeline, Variable, entity, errors, pipe
from pipelined.core.printed import MAX_BYTES, MAX_LINES
from pipelined_api.v1 import runs_pb2, runs_pb2_grpc
from tests.e2e.held_runs import Paths, graph_of
from tests.e2e.runs_stub import cancel, ended, listed, refused, runs_of, submit
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon


@entity
class Talking:
    """Says something when it is started."""

    @pipe(on_startup=True, run_once=True)
    def start(self) -> None:
        print("starting\nhalf a line", end="")  # noqa: T201

    @pipe
    def say(self, what: str) -> str:
        print(f"to be said: {what}")  # noqa: T201
        print(f"an error: {what}", file=sys.stderr)  # noqa: T201
        sys.stdout.write("no end ü")
        return what


@pipe
def say_more(what: str) -> str:
    print(f", more: {what}")  # noqa: T201
    return what


@pipe
def say_and_wait(ready: str, release: str) -> int:
    print("before")  # noqa: T201
    Path(ready).write_text("here")
    while not Path(release).exists():
        time.sleep(0.005)
    print("after")  # noqa: T201
    return os.getpid()


@pipe
def flood(lines: int, length: int) -> int:
    for number in range(lines):
        print(str(number).rjust(length, "."))  # noqa: T201
    return lines


@pipe
def counted(limit: int) -> Iterator[int]:
    for number in range(limit):
        print(f"element {number}")  # noqa: T201
        yield number


def deploy_talking(daemon: RunningDaemon, name: str) -> None:
    with Pipeline() as builder:
        what = Variable(str)
        talking = Talking()
        talking.start()
        builder.output(say_more(talking.say(what)))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), name)


def lines_of(stub: runs_pb2_grpc.RunsStub, request: runs_pb2.LogsRequest) -> list[runs_pb2.LogLine]:
    return [line for response in stub.Logs(request) for line in response.lines]


def texts_of(
    stub: runs_pb2_grpc.RunsStub,
    run_id: str,
    *,
    follow: bool = False,
    tail: int | None = None,
) -> list[str]:
    request = runs_pb2.LogsRequest(run_id=run_id, follow=follow, tail=tail)
    return [line.text for line in lines_of(stub, request)]


def said(what: str) -> list[str]:
    return [f"to be said: {what}", f"an error: {what}", f"no end ü, more: {what}"]


def test_lines_belong_to_the_run_that_printed_them(daemon: RunningDaemon) -> None:
    deploy_talking(daemon, "talking")
    with daemon.client() as client, runs_of(daemon) as stub:
        submitted = [submit(stub, "talking", f"s{number}") for number in range(20)]
        client.run("talking", "called")
        for number, run in enumerate(submitted):
            ended(stub, run.run_id)
            assert texts_of(stub, run.run_id) == said(f"s{number}")
        called = next(run for run in listed(stub, "talking") if not run.submitted)
        lines = lines_of(stub, runs_pb2.LogsRequest(run_id=called.run_id))
        assert [line.text for line in lines] == said("called")
        assert {line.run_id for line in lines} == {called.run_id}
        assert {line.note for line in lines} == {False}
        # The whole life of the worker, in its order.
        everything = lines_of(stub, runs_pb2.LogsRequest(deployment="talking"))
        assert [(line.text, line.run_id) for line in everything[:2]] == [
            ("starting", ""),
            ("half a line", ""),
        ]
        assert len({line.worker for line in everything}) == 1
        for reference in ("talking:latest", "talking:v1"):
            assert lines_of(stub, runs_pb2.LogsRequest(deployment=reference)) == everything
        by_run = [
            line.text for run in submitted for line in everything if line.run_id == run.run_id
        ]
        assert by_run == [text for number in range(20) for text in said(f"s{number}")]
        times = [line.time.ToNanoseconds() for line in everything]
        assert times == sorted(times)
        assert called.created_at.ToNanoseconds() <= lines[0].time.ToNanoseconds()


def test_lines_without_an_end_are_of_their_run(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(Talking().say, str), "endless-lines")
        for number in range(3):
            run = submit(stub, "endless-lines", str(number))
            ended(stub, run.run_id)
            assert texts_of(stub, run.run_id) == [
                f"to be said: {number}",
                f"an error: {number}",
                "no end ü",
            ]


def test_the_newest_lines(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(flood, int, int), "tailed")
        run = submit(stub, "tailed", 1000, 1)
        ended(stub, run.run_id)
        all_lines = [str(number) for number in range(1000)]
        assert texts_of(stub, run.run_id) == all_lines
        assert texts_of(stub, run.run_id, tail=3) == all_lines[-3:]
        assert texts_of(stub, run.run_id, tail=0) == []
        assert texts_of(stub, run.run_id, tail=5000, follow=True) == all_lines
        request = runs_pb2.LogsRequest(deployment="tailed", tail=2)
        assert [line.text for line in lines_of(stub, request)] == all_lines[-2:]


def test_lines_come_while_the_run_goes_on(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(say_and_wait, str, str), "followed")
        run = submit(stub, "followed", *paths.inputs[:2])
        follower = stub.Logs(runs_pb2.LogsRequest(run_id=run.run_id, follow=True))
        whole = stub.Logs(runs_pb2.LogsRequest(deployment="followed", follow=True))
        assert [line.text for line in next(follower).lines] == ["before"]
        assert [line.text for line in next(whole).lines] == ["before"]
        wait_until(paths.ready.exists)
        assert texts_of(stub, run.run_id) == ["before"]
        paths.release.touch()
        assert [line.text for line in next(follower).lines] == ["after"]
        # It ends with the run.
        assert list(follower) == []
        assert [line.text for line in next(whole).lines] == ["after"]
        # That of the deployment goes on.
        client.run("followed", *paths.inputs[:2])
        assert next(whole).lines[0].text == "before"
        whole.cancel()
        with pytest.raises(grpc.RpcError):
            list(whole)
        assert whole.code() is grpc.StatusCode.CANCELLED


def test_a_follower_of_a_cancelled_run_is_released(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(say_and_wait, str, str), "followed-cancelled")
        runs = [submit(stub, "followed-cancelled", *paths.inputs[:2]) for _ in range(2)]
        followers = [
            stub.Logs(runs_pb2.LogsRequest(run_id=run.run_id, follow=True)) for run in runs
        ]
        assert [line.text for line in next(followers[0]).lines] == ["before"]
        for run, follower in zip(runs, followers, strict=True):
            cancel(stub, run.run_id)
            assert list(follower) == []
        paths.release.touch()
        # What it printed after that is its own all the same.
        other = submit(stub, "followed-cancelled", *paths.inputs[:2])
        ended(stub, other.run_id)
        for run_id in (runs[0].run_id, other.run_id):
            assert texts_of(stub, run_id) == ["before", "after"]
        assert texts_of(stub, runs[1].run_id) == []


@pytest.mark.parametrize(("lines", "length"), [(3 * MAX_LINES, 1), (1000, 4000)])
def test_of_a_flood_the_newest_lines_are_kept(
    daemon: RunningDaemon, lines: int, length: int
) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(flood, int, int), "flooding")
        run = submit(stub, "flooding", lines, length)
        assert ended(stub, run.run_id).run.state == runs_pb2.RUN_STATE_SUCCEEDED
        [note, *kept] = lines_of(stub, runs_pb2.LogsRequest(run_id=run.run_id))
        most = min(MAX_LINES, MAX_BYTES // length)
        assert note.note
        assert note.text == f"… {lines - most} lines not kept …"
        assert [int(line.text.lstrip(".") or 0) for line in kept] == [*range(lines - most, lines)]


def test_a_slow_reader_holds_up_nobody(daemon: RunningDaemon) -> None:
    lines = 40 * MAX_LINES // 10
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(flood, int, int), "slowly-read")
        run = submit(stub, "slowly-read", lines, 1000)
        follower = stub.Logs(runs_pb2.LogsRequest(run_id=run.run_id, follow=True))
        first = next(follower)
        # It ends though nobody reads on.
        assert ended(stub, run.run_id).run.state == runs_pb2.RUN_STATE_SUCCEEDED
        come = [*first.lines, *(line for response in follower for line in response.lines)]
        notes = [int(line.text.split()[1]) for line in come if line.note]
        assert notes
        assert sum(notes) + len(come) - len(notes) == lines
        numbers = [int(line.text.lstrip(".") or 0) for line in come if not line.note]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == lines - 1


def test_what_a_worker_printed_before_it_died(daemon: RunningDaemon, paths: Paths) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(say_and_wait, str, str), "dying")
        run = submit(stub, "dying", *paths.inputs[:2])
        wait_until(paths.ready.exists)
        [pid] = client.deployment("dying").worker_pids
        os.kill(pid, signal.SIGKILL)
        response = ended(stub, run.run_id)
        assert response.run.error.reason == "WORKER_DIED"
        assert texts_of(stub, run.run_id) == ["before"]


@entity
class Unstartable:
    """Says why it cannot be started."""

    @pipe(on_startup=True, run_once=True)
    def start(self) -> None:
        print("no fuel", end="")  # noqa: T201
        raise ValueError("no fuel")

    @pipe
    def say(self, what: str) -> str:
        return what


def test_a_startup_that_fails_has_its_lines(daemon: RunningDaemon) -> None:
    with Pipeline() as builder:
        what = Variable(str)
        unstartable = Unstartable()
        unstartable.start()
        builder.output(unstartable.say(what))
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(builder.get_pipeline(), "unstartable")
        with pytest.raises(errors.StartupFailed) as caught:
            client.run("unstartable", "x")
        [run] = listed(stub, "unstartable")
        assert caught.value.metadata["run_id"] == run.run_id
        assert not run.HasField("started_at")
        lines = lines_of(stub, runs_pb2.LogsRequest(deployment="unstartable"))
        assert ("no fuel", "") in [(line.text, line.run_id) for line in lines]
        assert texts_of(stub, run.run_id) == []


def test_streams_have_lines_too(daemon: RunningDaemon) -> None:
    with daemon.client() as client, runs_of(daemon) as stub:
        client.deploy(graph_of(counted, int), "counted-aloud")
        assert list(client.stream("counted-aloud", 50)) == [[number] for number in range(50)]
        [run] = listed(stub, "counted-aloud")
        assert texts_of(stub, run.run_id) == [f"element {number}" for number in range(50)]


def test_whose_lines_there_are_not(daemon: RunningDaemon) -> None:
    with runs_of(daemon) as stub:
        for request, code, reason in (
            (runs_pb2.LogsRequest(run_id="none"), code_pb2.NOT_FOUND, "RUN_NOT_FOUND"),
            (runs_pb2.LogsRequest(deployment="no"), code_pb2.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
            (runs_pb2.LogsRequest(), code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ):
            error, _ = refused(lambda request=request: lines_of(stub, request))  # type: ignore[misc]
            assert (error.code, error.reason) == (code, reason)
