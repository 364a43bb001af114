"""Runs that go on by themselves, and what runs printed: the client against a real daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import AsyncClient, Client, File, Graph, Pipeline, Variable, entity, errors, pipe
from pipeline.runs import LogLine, Run
from tests.running_daemon import RunningDaemon

LARGE = 2**21


@entity
class Talker:
    @pipe(on_startup=True)
    def load(self) -> None:
        print("loading")  # noqa: T201

    @pipe
    def talk(self, word: str, times: int) -> str:
        for index in range(times):
            print(f"{word} {index}")  # noqa: T201
        return word * times


@pipe
def hold(begun: str, go: str) -> str:
    print("holding")  # noqa: T201
    Path(begun).touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return "let go"


@pipe
def after(text: str) -> str:
    print("after")  # noqa: T201
    return text


@pipe
def fail(text: str) -> str:
    raise LookupError(f"nothing called {text}")


@pipe
def double(source: File, folder: str) -> File:
    path = Path(folder) / "doubled.bin"
    path.write_bytes(source.read() * 2)
    return File(path)


def talking() -> Graph:
    with Pipeline() as builder:
        word, times = Variable(str, title="word"), Variable(int, title="times", le=100)
        talker = Talker()
        talker.load()
        builder.output(talker.talk(word, times))
    return builder.get_pipeline()


def of(*functions: Callable[..., Any], **types: Any) -> Graph:
    first, *rest = functions
    with Pipeline() as builder:
        value = first(*(Variable(type_, title=name) for name, type_ in types.items()))
        for function in rest:
            value = function(value)
        builder.output(value)
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_submitted_run_gives_its_outputs_later(client: Client) -> None:
    client.deploy(talking(), "submit-talk")
    run = client.submit("submit-talk", "ab", times=2, timeout=600)
    assert isinstance(run, Run)
    assert run.deployment == "submit-talk"
    assert run.result(timeout=60) == ["abab"]
    assert run.status() == "succeeded"
    info = run.info()
    assert info.ended
    assert info.submitted
    assert info.started_at is not None
    assert info.ended_at is not None
    assert info.created_at <= info.started_at <= info.ended_at
    assert (info.version, info.execution_seconds > 0) == (1, True)
    # Whoever has the id has the run, as often as they like.
    assert client.get_run(run.id).result() == ["abab"]
    assert [each.id for each in client.runs("submit-talk")][0] == run.id


def test_what_a_run_printed(client: Client) -> None:
    client.deploy(talking(), "submit-logs")
    first = client.submit("submit-logs", "one", 2)
    second = client.submit("submit-logs", "two", 3)
    assert second.result(60) == ["twotwotwo"]
    assert [str(line) for line in first.logs()] == ["one 0", "one 1"]
    assert [str(line) for line in second.logs(follow=True)] == ["two 0", "two 1", "two 2"]
    assert [line.text for line in second.logs(tail=1)] == ["two 2"]
    [line] = second.logs(tail=1)
    assert isinstance(line, LogLine)
    assert (line.run_id, line.note) == (second.id, False)
    texts = [line.text for line in client.logs("submit-logs")]
    assert texts == ["loading", "one 0", "one 1", "two 0", "two 1", "two 2"]


def test_lines_come_while_the_run_goes_on(client: Client, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    client.deploy(of(hold, after, begun=str, go=str), "submit-follow")
    run = client.submit("submit-follow", str(begun), str(go))
    with run.logs(follow=True) as lines:
        assert next(lines).text == "holding"
        assert run.status() == "running"
        with pytest.raises(errors.DeadlineExceeded, match=run.id):
            run.result(timeout=0)
        go.touch()
        assert [line.text for line in lines] == ["after"]
    assert run.result() == ["let go"]


def test_failures_are_those_of_run(client: Client) -> None:
    client.deploy(of(fail, text=str), "submit-fail")
    run = client.submit("submit-fail", "x")
    with pytest.raises(errors.RunFailed) as later:
        run.result(60)
    with pytest.raises(errors.RunFailed) as at_once:
        client.run("submit-fail", "x")
    assert later.value.message == at_once.value.message
    assert later.value.node == at_once.value.node == "fail"
    assert "LookupError: nothing called x" in later.value.remote_traceback
    assert later.value.metadata["run_id"] == run.id
    info = run.info()
    assert (info.state, info.reason) == ("failed", "RUN_FAILED")
    assert "nothing called x" in info.message
    assert [each.id for each in client.runs("submit-fail", states=["failed"])][1] == run.id


def test_cancelling(client: Client, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    client.deploy(of(hold, after, begun=str, go=str), "submit-cancel")
    running = client.submit("submit-cancel", str(begun), str(go))
    queued = client.submit("submit-cancel", str(begun), str(go))
    wait_until(begun.exists)
    assert queued.cancel().state == "cancelled"
    assert running.cancel().state == "cancelled"
    for run in (running, queued):
        with pytest.raises(errors.Cancelled):
            run.result(60)
        assert run.status() == "cancelled"
    go.touch()
    # The worker does not go on to the next node, and takes the next run.
    assert client.run("submit-cancel", str(begun), str(go)) == ["let go"]
    assert [line.text for line in running.logs()] == ["holding"]
    assert list(queued.logs()) == []
    assert running.cancel().state == "cancelled"


def test_the_same_key_is_the_same_run(client: Client) -> None:
    client.deploy(talking(), "submit-key")
    first = client.submit("submit-key", "a", 1, idempotency_key="submit-key-1")
    again = client.submit("submit-key", "a", 1, idempotency_key="submit-key-1")
    assert again.id == first.id
    assert first.result(60) == ["a"]
    with pytest.raises(errors.AlreadyExists):
        client.submit("submit-key", "b", 1, idempotency_key="submit-key-1")
    assert client.submit("submit-key", "a", 1).id != first.id
    assert len(client.runs("submit-key")) == 2


def test_what_is_refused(client: Client) -> None:
    client.deploy(talking(), "submit-refuse")
    with pytest.raises(errors.InvalidInput) as invalid:
        client.submit("submit-refuse", "a", 101)
    assert (invalid.value.field, invalid.value.bound) == ("times", "le=100")
    with pytest.raises(errors.InvalidInput, match="not above 0"):
        client.submit("submit-refuse", "a", 1, timeout=0)
    with pytest.raises(errors.NotFound):
        client.submit("submit-nobody")
    with pytest.raises(errors.NotFound):
        client.get_run("nobody")
    with pytest.raises(errors.NotFound):
        list(client.logs("submit-nobody"))
    with pytest.raises(errors.InvalidInput, match="'finished' is no state"):
        client.runs(states=["finished"])
    for limit in (0, 1001):
        with pytest.raises(errors.InvalidInput, match="limit"):
            client.runs(limit=limit)


def test_a_timeout_of_its_own(client: Client, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    client.deploy(of(hold, begun=str, go=str), "submit-timeout")
    run = client.submit("submit-timeout", str(begun), str(go), timeout=0.2)
    with pytest.raises(errors.DeadlineExceeded):
        run.result(60)
    assert run.info().reason == "DEADLINE_EXCEEDED"
    go.touch()


def test_large_files_go_with_it(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"s" * LARGE)
    client.deploy(of(double, source=File, folder=str), "submit-files")
    [result] = client.submit("submit-files", File(source), str(tmp_path)).result(60)
    assert isinstance(result, File)
    assert result.read() == b"s" * 2 * LARGE


def test_on_asyncio(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.address) as client:
            await client.deploy(talking(), "submit-async")
            runs = [await client.submit("submit-async", str(each), 2) for each in range(4)]
            results = await asyncio.gather(*(run.result(60) for run in runs))
            assert results == [[f"{each}{each}"] for each in range(4)]
            assert await runs[0].status() == "succeeded"
            assert [line.text async for line in runs[1].logs(follow=True)] == ["1 0", "1 1"]
            assert (await (await client.get_run(runs[2].id)).info()).deployment == "submit-async"
            assert len(await client.runs("submit-async", states=["succeeded"])) == 4
            async with client.logs("submit-async", follow=True) as lines:
                assert (await anext(lines)).text == "loading"
            assert (await runs[3].cancel()).state == "succeeded"

    asyncio.run(main())
