"""Runs that stream: from the generator in the worker to the iterator of the caller."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Graph, Pipeline, Stream, Variable, errors, pipe
from pipeline.objects.graph import ABSENT
from pipelined.worker.flow import MAX_AHEAD_MESSAGES
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon


@pipe
def count(limit: int) -> Iterator[int]:
    yield from range(limit)


@pipe
def length(limit: int) -> int:
    return limit


@pipe
def squares(limit: int) -> Stream[int]:
    return Stream(number**2 for number in range(limit // 2))


@pipe
def doubled(numbers: Iterator[int]) -> Iterator[int]:
    for number in numbers:
        yield 2 * number


@pipe
def failing(limit: int) -> Iterator[int]:
    yield from range(limit)
    raise ValueError("ran dry")


@pipe
def mistyped(limit: int) -> Iterator[int]:
    yield limit
    yield "not a number"  # type: ignore[misc]


@pipe(run_once=True)
def once(limit: int) -> Iterator[int]:
    yield from range(limit)


@pipe
def not_a_stream(limit: int) -> Stream[int]:
    return [limit]  # type: ignore[return-value]


@pipe
def undecided(limit: int) -> Iterable[int]:
    yield limit


@pipe
def unannotated(limit):  # type: ignore[no-untyped-def]
    yield limit


@pipe
def unsendable(limit: int) -> Iterator[Any]:
    yield limit
    yield object()


@pipe
def handshake(fifo: str, closed: str) -> Iterator[int]:
    try:
        with Path(fifo).open() as lines:
            yield 0
            # Written by the caller when it has the element.
            while (line := lines.readline()) != "end\n":
                yield int(line)
    finally:
        Path(closed).write_text("closed")


@pipe
def large(progress: str, closed: str) -> Iterator[np.ndarray[Any, Any]]:
    try:
        for number in range(200):
            Path(progress).write_text(str(number + 1))
            yield np.full(2**20, number % 256, np.uint8)
    finally:
        Path(closed).write_text("closed")


@pipe
def endless(closed: str) -> Iterator[int]:
    try:
        while True:
            yield os.getpid()
    finally:
        Path(closed).write_text("closed")


def build(*pipes: Callable[..., Any]) -> Graph:
    """All take the number `limit`."""
    with Pipeline() as builder:
        limit = Variable(int)
        for each in pipes:
            builder.output(each(limit))
    return builder.get_pipeline()


def chained() -> Graph:
    with Pipeline() as builder:
        limit = Variable(int)
        builder.output(doubled(count(limit)), length(limit))
    return builder.get_pipeline()


def of_paths(function: Callable[..., Any], names: int) -> Graph:
    with Pipeline() as builder:
        paths = [Variable(str, title=f"path_{number}") for number in range(names)]
        builder.output(function(*paths))
    return builder.get_pipeline()


GRAPHS = {
    "one": build(count),
    "static": build(length, count),
    "two": build(count, length, squares),
    "chained": chained(),
    "nothing-streams": build(length),
    "run-once": build(once, length),
    "generator-by-code": build(undecided, unannotated),
}


def outcome(rows: Iterator[list[Any]]) -> list[Any]:
    """All rows, and how it failed."""
    seen: list[Any] = []
    try:
        seen.extend(rows)
    except errors.RunFailed as error:
        seen.append(error.node)
    return seen


@pytest.mark.parametrize("name", GRAPHS)
def test_remote_is_as_local(daemon: RunningDaemon, name: str) -> None:
    graph = GRAPHS[name]
    with daemon.client() as client:
        client.deploy(graph, f"streams-{name}")
        for limit in (3, 0, 5):
            local = list(graph.stream(limit))
            assert list(client.stream(f"streams-{name}", limit)) == local
            assert client.run(f"streams-{name}", limit) == graph.run(limit)


def test_rows() -> None:
    """What README and docstrings promise, spelt out."""
    assert list(GRAPHS["one"].stream(2)) == [[0], [1]]
    assert list(GRAPHS["one"].stream(0)) == []
    assert list(GRAPHS["static"].stream(2)) == [[2, ABSENT], [ABSENT, 0], [ABSENT, 1]]
    assert list(GRAPHS["static"].stream(0)) == [[0, ABSENT]]
    assert list(GRAPHS["two"].stream(3)) == [
        [ABSENT, 3, ABSENT],
        [0, ABSENT, 0],
        [1, ABSENT, ABSENT],
        [2, ABSENT, ABSENT],
    ]
    assert GRAPHS["two"].run(3) == [[0, 1, 2], 3, [0]]
    # Kept as it was in the first run that reached it.
    assert build(once).run(2) == [[0, 1]]


def test_a_thousand_elements(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.deploy(GRAPHS["one"], "thousand")
        assert [number for [number] in client.stream("thousand", 1000)] == [*range(1000)]


@pytest.mark.parametrize(
    ("function", "elements", "type_", "text"),
    [
        (failing, [[0], [1], [2]], "ValueError", "ran dry"),
        (mistyped, [[3]], "TypeError", "element 1: .*integer.*got str"),
        (not_a_stream, [], "TypeError", "annotated to return a stream, returned list"),
    ],
)
def test_failure_midway(
    daemon: RunningDaemon, function: Any, elements: list[Any], type_: str, text: str
) -> None:
    graph = build(function)
    name = function.__name__
    with daemon.client() as client:
        client.deploy(graph, name)
        assert outcome(client.stream(name, 3)) == outcome(graph.stream(3)) == [*elements, name]
        with pytest.raises(errors.RunFailed, match=text) as caught:
            list(client.stream(name, 3))
        with pytest.raises(errors.RunFailed, match=text):
            client.run(name, 3)
        with pytest.raises(errors.RunFailed, match=text):
            graph.run(3)
        assert caught.value.remote_traceback is not None
        assert type_ in caught.value.remote_traceback


@pipe
def large_then_fail(closed: str) -> Iterator[bytes]:
    try:
        for _ in range(10):
            yield b"x" * 10_000
        raise ValueError("ran dry")
    finally:
        Path(closed).write_text("closed")


def test_a_failure_overtakes_no_element(daemon: RunningDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.deploy(of_paths(large_then_fail, 1), "overtaking")
        stream = client.stream("overtaking", str(tmp_path / "closed"))
        next(stream)
        # All has happened before the reader goes on.
        wait_until((tmp_path / "closed").exists)
        wait_until(lambda: client.deployment("overtaking").runs_failed == 1)
        assert len(outcome(stream)) == 9 + 1


@pytest.mark.parametrize("twice", ["outputs", "arguments"])
def test_a_stream_read_twice_is_refused(twice: str) -> None:
    with Pipeline() as builder:
        numbers = count(Variable(int))
        other = numbers if twice == "outputs" else doubled(numbers)
        builder.output(numbers, other)
    with pytest.raises(errors.GraphError, match="can be read only once"):
        builder.get_pipeline()


def test_a_stream_is_no_value() -> None:
    with Pipeline(), pytest.raises(errors.GraphError, match="annotated int"):
        length(count(Variable(int)))  # type: ignore[arg-type]


def test_an_element_that_cannot_be_sent(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.deploy(build(unsendable), "unsendable")
        stream = client.stream("unsendable", 1)
        assert next(stream) == [1]
        with pytest.raises(errors.PipelineError, match=r"outputs\[0\]\[1\]"):
            next(stream)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A fifo, and a descriptor to write to it that does not wait for a reader."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    yield path, descriptor
    os.close(descriptor)


def test_elements_come_one_by_one(
    daemon: RunningDaemon, tmp_path: Path, fifo: tuple[Path, int]
) -> None:
    (path, lines), closed = fifo, tmp_path / "closed"
    with daemon.client() as client:
        client.deploy(of_paths(handshake, 2), "handshake")
        with client.stream("handshake", str(path), str(closed)) as stream:
            assert next(stream) == [0]
            # The generator goes on only when this is written.
            os.write(lines, b"7\n")
            assert next(stream) == [7]
            assert not closed.exists()
        # It may or may not have heard of the end by now.
        os.write(lines, b"end\n")
        wait_until(closed.exists)


def test_closing_closes_the_generator(daemon: RunningDaemon, tmp_path: Path) -> None:
    graph = of_paths(endless, 1)
    with graph.stream(str(tmp_path / "local")) as local:
        assert next(local) == [os.getpid()]
        assert not (tmp_path / "local").exists()
    assert (tmp_path / "local").exists()
    assert list(local) == []

    with daemon.client() as client:
        client.deploy(graph, "endless")
        stream = client.stream("endless", str(tmp_path / "closed"))
        [pid] = next(stream)
        stream.close()
        assert list(stream) == []
        wait_until((tmp_path / "closed").exists)
        # The same worker takes the next run.
        with client.stream("endless", str(tmp_path / "again")) as again:
            assert next(again) == [pid]
        wait_until((tmp_path / "again").exists)


def test_a_client_that_goes_away(daemon: RunningDaemon, tmp_path: Path) -> None:
    client = daemon.client()
    client.deploy(of_paths(endless, 1), "left-alone")
    stream = client.stream("left-alone", str(tmp_path / "closed"))
    next(stream)
    client.close()
    wait_until((tmp_path / "closed").exists)
    with pytest.raises(errors.PipelineError):
        list(stream)


def test_a_deadline_midway(daemon: RunningDaemon, tmp_path: Path, fifo: tuple[Path, int]) -> None:
    (path, lines), closed = fifo, tmp_path / "closed"
    with daemon.client() as client:
        client.deploy(of_paths(handshake, 2), "deadline")
        client.warm("deadline")
        stream = client.stream("deadline", str(path), str(closed), timeout=1)
        assert next(stream) == [0]
        with pytest.raises(errors.DeadlineExceeded):
            next(stream)
        os.write(lines, b"end\n")
        wait_until(closed.exists)


def test_a_worker_killed_midway(daemon: RunningDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.deploy(of_paths(endless, 1), "killed-midway")
        stream = client.stream("killed-midway", str(tmp_path / "closed"))
        [pid] = next(stream)
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.WorkerDied):
            list(stream)


def test_a_slow_reader_holds_up_the_generator(daemon: RunningDaemon, tmp_path: Path) -> None:
    progress, closed = tmp_path / "progress", tmp_path / "closed"
    # What gRPC buffers for a reader of its own accord, in elements of 1 MiB.
    in_transport = 16
    with daemon.client() as client:
        client.deploy(of_paths(large, 2), "slow-reader")
        with client.stream("slow-reader", str(progress), str(closed)) as stream:
            for taken in range(1, 101):
                [element] = next(stream)
                assert isinstance(element, np.ndarray)
                assert element[-1] == taken - 1
                made = int(progress.read_text() or 0)
                assert made <= taken + in_transport + MAX_AHEAD_MESSAGES
        wait_until(closed.exists)


def test_two_at_once(daemon: RunningDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.deploy(of_paths(endless, 1), "two-at-once", instances=2)
        with (
            client.stream("two-at-once", str(tmp_path / "a")) as one,
            client.stream("two-at-once", str(tmp_path / "b")) as other,
        ):
            pids = {next(stream)[0] for stream in (one, other, one, other)}
        assert len(pids) == 2
        wait_until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())


def test_inputs_are_validated_before_anything_is_sent(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.deploy(GRAPHS["one"], "validated")
        with pytest.raises(errors.InvalidInput):
            client.stream("validated", "three")
        with pytest.raises(errors.NotFound):
            client.stream("no-such-stream", 3)
        assert client.deployment("validated").startups == 0
        assert "stream" in client.info().features
