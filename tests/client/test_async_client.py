"""AsyncClient does what Client does: the same methods, the same results, the same errors."""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import pipeline
from pipeline import AsyncClient, Client, File, Graph, Pipeline, Variable, entity, errors, pipe
from pipeline._files import AsyncFiles, Files
from pipeline.timeline import Stage
from pipelined_api.limits import FILE_CHUNK_BYTES
from tests.client.aborting_daemon import AbortingDaemon
from tests.running_daemon import RunningDaemon

LARGE = 3 * FILE_CHUNK_BYTES + 5


@entity
class Counter:
    @pipe(on_startup=True)
    def load(self) -> None:
        self.offset = 10

    @pipe
    def add(self, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return number + self.offset


@pipe
def count(limit: int, closed: str) -> Iterator[int]:
    try:
        yield from range(limit)
    finally:
        Path(closed).touch()


@pipe
def double(source: File, folder: str) -> File:
    path = Path(folder) / "doubled.bin"
    path.write_bytes(source.read() * 2)
    return File(path)


@pipe
def wait_for(path: str, go: str) -> str:
    Path(path).touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return "done"


def adding() -> Graph:
    with Pipeline() as builder:
        number = Variable(int, title="number", le=1000)
        counter = Counter()
        counter.load()
        builder.output(counter.add(number))
    return builder.get_pipeline()


def of(function: Callable[..., Any], **types: Any) -> Graph:
    with Pipeline() as builder:
        builder.output(function(**{name: Variable(type_) for name, type_ in types.items()}))
    return builder.get_pipeline()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@asynccontextmanager
async def connected(daemon: RunningDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.address) as client:
        yield client


@pytest.mark.parametrize(("blocking", "awaited"), [(Client, AsyncClient), (Files, AsyncFiles)])
def test_both_have_the_same_methods(blocking: type, awaited: type) -> None:
    def methods(cls: type) -> dict[str, list[inspect.Parameter]]:
        members = inspect.getmembers(cls, inspect.isfunction)
        return {
            name: list(inspect.signature(function).parameters.values())
            for name, function in members
            if not name.startswith("_")
        }

    expected = methods(blocking)
    # Makes a File whose reads block.
    expected.pop("referred", None)
    if "close" in expected:
        expected["aclose"] = expected.pop("close")
    assert methods(awaited) == expected


def test_deploy_run_and_ask(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with connected(daemon) as client:
            assert client.address == daemon.address
            deployed = await client.deploy(adding(), "async-adding")
            assert (deployed.name, deployed.version, deployed.state) == ("async-adding", 1, "cold")
            stages: list[Stage] = []
            timeline = await client.warm("async-adding", on_progress=stages.append)
            assert stages
            assert timeline == await client.timeline("async-adding")
            assert await client.run("async-adding", 1) == [11]
            assert await client.run("async-adding", number=2, timeout=60) == [12]
            assert await asyncio.gather(
                *(client.run("async-adding", number) for number in range(20))
            ) == [[number + 10] for number in range(20)]
            assert "async-adding" in [each.name for each in await client.list()]
            assert (await client.info()).api_version
            assert (await client.deployment("async-adding")).startups == 1
            await client.delete("async-adding")
            with pytest.raises(errors.NotFound):
                await client.deployment("async-adding")

    run(main)


def test_errors_are_those_of_the_other(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with connected(daemon) as client:
            await client.deploy(adding(), "async-errors")
            with pytest.raises(errors.InvalidInput) as invalid:
                await client.run("async-errors", 1001)
            assert (invalid.value.field, invalid.value.bound) == ("number", "le=1000")
            with pytest.raises(errors.RunFailed) as failed:
                await client.run("async-errors", -1)
            assert failed.value.node == "Counter.add"
            assert "ValueError: negative" in failed.value.remote_traceback
            with pytest.raises(errors.NotFound, match="nobody"):
                await client.run("nobody")
            with pytest.raises(errors.DeadlineExceeded):
                await client.run("async-errors", 1, timeout=0)

    run(main)


def test_streams(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(daemon) as client:
            await client.deploy(of(count, limit=int, closed=str), "async-count")
            whole = tmp_path / "whole"
            stream = await client.stream("async-count", 5, str(whole))
            assert [row async for row in stream] == [[0], [1], [2], [3], [4]]
            assert whole.exists()
            closed = tmp_path / "closed"
            async with await client.stream("async-count", 10**9, str(closed)) as stream:
                assert await anext(stream) == [0]
            # One worker: this run begins when the other has ended.
            await client.run("async-count", 0, str(tmp_path / "third"))
            assert closed.exists()

    run(main)


def test_files_go_both_ways(daemon: RunningDaemon, tmp_path: Path) -> None:
    content = bytes(range(256)) * (LARGE // 256)
    source = tmp_path / "source.bin"
    source.write_bytes(content)

    async def main() -> None:
        sent: list[int] = []
        async with AsyncClient(
            daemon.address, on_upload=lambda file, done, size: sent.append(done)
        ) as client:
            await client.deploy(of(double, source=File, folder=str), "async-double")
            [result] = await client.run("async-double", File(source), str(tmp_path))
            assert sent[-1] == len(content)
            assert isinstance(result, File)
            assert await asyncio.to_thread(result.read) == content * 2
            target = io.BytesIO()
            await client.files.download(result.sha256, target)
            assert target.getvalue() == content * 2
            assert (await client.files.stat(result.sha256)).size == 2 * len(content)
            assert await client.files.upload(File(source)) == File(source).sha256
            await client.files.delete(result.sha256)
            assert not (await client.files.stat(result.sha256)).present

    run(main)


def test_a_cancelled_task_is_cancelled(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"

    async def main() -> None:
        async with connected(own_daemon) as client:
            await client.deploy(of(wait_for, path=str, go=str), "async-wait")
            task = asyncio.create_task(client.run("async-wait", str(begun), str(go)))
            await asyncio.to_thread(_wait_until, begun.exists)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go.touch()
            assert await client.run("async-wait", str(begun), str(go)) == ["done"]

    run(main)


def test_closing_ends_the_calls_under_way(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"

    async def main() -> None:
        client = AsyncClient(own_daemon.address)
        await client.deploy(of(wait_for, path=str, go=str), "async-close")
        task = asyncio.create_task(client.run("async-close", str(begun), str(go)))
        await asyncio.to_thread(_wait_until, begun.exists)
        await client.aclose()
        go.touch()
        with pytest.raises(errors.Cancelled):
            await task
        with pytest.raises(errors.PipelineError, match="closed"):
            await client.info()
        await client.aclose()

    run(main)


def test_nobody_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(f"unix:{tmp_path}/nobody") as client:
            with pytest.raises(errors.Unavailable, match="no daemon answers"):
                await client.info()

    run(main)


def test_a_lost_answer_is_asked_for_again(server: AbortingDaemon) -> None:
    unavailable = threading.Event()

    def behaviour(context: Any) -> None:
        if not unavailable.is_set():
            unavailable.set()
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")

    server.behaviour = behaviour

    async def main() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.warns(errors.DeploymentWarning, match="numpy"):
                await client.deploy(adding(), "twice")
        first, second = server.deploy_keys
        assert first == second != ""

    run(main)


def test_the_library_names_both() -> None:
    assert pipeline.AsyncClient is AsyncClient
    assert "AsyncClient" in dir(pipeline)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
