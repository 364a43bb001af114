"""What callers get wrong is refused by name, and what they may give arrives as it is."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from pipeline import AsyncClient, Client, Graph, Pipeline, Variable, errors, pipe
from tests.running_daemon import RunningDaemon


class Mode(str, enum.Enum):
    FAST = "fast"


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pipe
def same(value: Any) -> Any:
    return value


@pipe
def text(value: str) -> str:
    return value


@pipe
def mute(value: int) -> int:
    raise Mute


@pipe
def wait(path: str) -> str:
    import os
    import time

    print("waiting", flush=True)  # noqa: T201
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)
    return path


def of(function: Callable[..., Any], kind: Any) -> Graph:
    with Pipeline() as builder:
        builder.output(function(Variable(kind, title="value")))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


@pytest.mark.parametrize("remote", [False, True])
def test_a_value_that_contains_itself_is_invalid_input(daemon: RunningDaemon, remote: bool) -> None:
    value: list[object] = []
    value.append(value)
    graph = of(same, Any)
    with Client(daemon.address) as client:
        client.deploy(graph, "arguments-same")
        run = (lambda: client.run("arguments-same", value)) if remote else lambda: graph.run(value)
        with pytest.raises(errors.InvalidInput, match="deep, or contains itself"):
            run()


def test_the_member_of_an_enum_of_strings_arrives_as_its_text(daemon: RunningDaemon) -> None:
    graph = of(text, str)
    with Client(daemon.address) as client:
        client.deploy(graph, "arguments-text")
        assert client.run("arguments-text", Mode.FAST) == ["fast"] == graph.run(Mode.FAST)


def test_an_exception_that_has_no_text_is_still_a_failed_run() -> None:
    with pytest.raises(errors.RunFailed, match="mute raised Mute") as caught:
        of(mute, int).run(1)
    assert isinstance(caught.value.__cause__, Mute)


@pytest.mark.parametrize("name", ["timeout", "priority"])
def test_an_input_that_is_called_as_an_argument_is_given_by_position(
    client: Client, name: str
) -> None:
    with Pipeline() as builder:
        builder.output(text(Variable(str, title=name)))
    client.deploy(builder.get_pipeline(), "arguments-named")
    given = cast("Any", {name: "soon"})
    calls: list[Callable[[], object]] = [
        lambda: client.run("arguments-named", **given),
        lambda: client.submit("arguments-named", **given),
        lambda: list(client.stream("arguments-named", **given)),
    ]
    for call in calls:
        with pytest.raises(errors.InvalidInput, match="given by its position") as caught:
            call()
        assert caught.value.field == name
    assert client.run("arguments-named", "soon") == ["soon"]


@pytest.mark.parametrize("timeout", [1e10, 1e300, float("inf")])
def test_a_timeout_of_any_length_is_not_over_at_once(daemon: RunningDaemon, timeout: float) -> None:
    async def run() -> list[object]:
        async with AsyncClient(daemon.address) as client:
            return await client.run("arguments-text", "long", timeout=timeout)

    with Client(daemon.address) as client:
        client.deploy(of(text, str), "arguments-text")
        assert client.run("arguments-text", "long", timeout=timeout) == ["long"]
        assert client.warm("arguments-text", timeout=timeout)
    assert asyncio.run(run()) == ["long"]


def test_closing_says_so_to_calls_of_other_threads(daemon: RunningDaemon, tmp_path: Any) -> None:
    end = tmp_path / "end"
    caught: list[BaseException] = []
    with Client(daemon.address) as other, Client(daemon.address) as client:
        other.deploy(of(wait, str), "arguments-wait")

        def call() -> None:
            try:
                client.run("arguments-wait", str(end))
            except errors.PipelineError as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        try:
            with other.logs("arguments-wait", follow=True) as lines:
                assert next(lines).text == "waiting"
            client.close()
            thread.join(60)
        finally:
            end.touch()
    assert [type(error) for error in caught] == [errors.Cancelled]
    assert str(caught[0]) == "the call was cancelled: its client was closed"


def test_what_a_client_is_given_wrongly_is_named(daemon: RunningDaemon) -> None:
    graph = of(text, str)
    with Client(daemon.address) as client:
        deployment = client.deploy(graph, "arguments-text")
        with Pipeline() as builder:
            builder.output(text(Variable(str, title="value")))
        with pytest.raises(errors.InvalidInput, match=r"get_pipeline\(\).*not Pipeline"):
            client.deploy(cast(Graph, builder), "arguments-text")
        with pytest.raises(errors.InvalidInput, match="has to be a str, not Deployment"):
            client.run(cast(str, deployment), "x")
        with pytest.raises(errors.InvalidInput, match="instances 0 is below 1"):
            client.deploy(graph, "arguments-text", instances=0)
        with pytest.raises(errors.InvalidInput, match="tail -1 is below 0"):
            list(client.logs("arguments-text", tail=-1))
        with pytest.raises(errors.InvalidInput, match="idempotency key is empty"):
            client.submit("arguments-text", "x", idempotency_key="")


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("timeout", lambda client: client.run("same", 1, timeout="5")),
        ("timeout", lambda client: client.run("same", 1, timeout=float("nan"))),
        ("timeout", lambda client: client.submit("same", 1, timeout="5")),
        ("timeout", lambda client: client.warm("same", timeout="5")),
        ("timeout", lambda client: client.files.stat("0" * 64, timeout="5")),
        ("seconds", lambda client: client.drain("5")),
        ("idempotency_key", lambda client: client.submit("same", 1, idempotency_key=5)),
        ("name", lambda client: client.deploy(of(text, str), 5)),
        ("name", lambda client: client.warm(5)),
        ("name", lambda client: list(client.logs(5))),
        ("environment", lambda client: client.deploy(of(text, str), "x", environment="A=1")),
        ("environment", lambda client: client.deploy(of(text, str), "x", environment={"A": 1})),
        ("requirements", lambda client: client.deploy(of(text, str), "x", requirements="numpy")),
        ("run_id", lambda client: client.get_run(5)),
        ("limit", lambda client: client.runs(limit="3")),
        ("tail", lambda client: list(client.logs("same", tail="1"))),
        ("pointer", lambda client: client.create_pointer(5, "same:v1")),
        ("name", lambda client: client.environment(5)),
    ],
)
def test_a_value_of_another_type_is_named(
    client: Client, field: str, call: Callable[[Client], object]
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        call(client)
    assert caught.value.field == field
    assert caught.value.reason == ""


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("address", {"address": 5}),
        ("token", {"address": "localhost:1", "token": 5}),
        ("ca", {"address": "localhost:1", "ca": 5}),
    ],
)
def test_a_client_of_another_type_is_named(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Client(**arguments)
    assert caught.value.field == field


def test_a_client_of_another_event_loop_is_refused(daemon: RunningDaemon) -> None:
    client = AsyncClient(daemon.address)

    async def ask() -> None:
        await client.info()

    asyncio.run(ask())
    with pytest.raises(errors.PipelineError, match="make one for each loop"):
        asyncio.run(ask())


def test_a_reference_where_all_versions_are_meant(client: Client) -> None:
    for call in (
        lambda: client.versions("same:v1"),
        lambda: client.runs("same:v1"),
        lambda: client.pointers("same:v1"),
    ):
        with pytest.raises(errors.InvalidInput, match="give 'same'"):
            call()


def test_a_str_where_a_list_is_meant(client: Client) -> None:
    with pytest.raises(errors.InvalidInput, match="a list of states"):
        client.runs(states="failed")
    with pytest.raises(errors.InvalidInput, match="a list of requirements"):
        client.check_requirements("numpy")


def test_no_time_is_no_call(client: Client) -> None:
    for call in (
        lambda: client.warm("nobody", timeout=0),
        lambda: client.files.stat("0" * 64, timeout=0),
    ):
        with pytest.raises(errors.DeadlineExceeded, match="before the call began"):
            call()
