"""What the store keeps of submitted runs, and what a failed write leaves of it."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipelined.core.errors import StorageFailed
from pipelined.core.ports import StoredRun
from pipelined.store.database import open_database
from pipelined.store.group_commit import GroupCommit
from pipelined.store.runs import SqliteRunStore


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    path = tmp_path / "pipelined.db"
    await (await open_database(path)).close()
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteRunStore]:
    opened = SqliteRunStore(database)
    yield opened
    await opened.close()


def queued(run_id: str) -> StoredRun:
    return StoredRun(run_id, "d", 1, 1, 1000.0, key=f"key of {run_id}", files=("ab",), priority=-3)


async def test_the_life_of_a_run(store: SqliteRunStore) -> None:
    run = queued("run-1")
    await store.add(run, b"request")
    [kept] = await store.runs()
    assert dataclasses.replace(kept, files=("ab",)) == dataclasses.replace(run, request_bytes=7)
    assert await store.begin("run-1", 1, 1001.0) == b"request"
    assert await store.begin("run-1", 2, 1002.0) == b"request"
    [begun] = await store.runs()
    assert (begun.state, begun.attempts, begun.started_at) == (2, 2, 1002.0)
    end = dataclasses.replace(run, state=3, ended_at=1003.0, execution_seconds=0.5)
    await store.end(end, memoryview(b"outputs"))
    assert await store.response("run-1") == b"outputs"
    # It has ended: nothing changes that, and its request is gone.
    await store.end(dataclasses.replace(run, state=5, ended_at=1.0, status=b"late"), None)
    assert await store.begin("run-1", 9, 9.0) is None
    [ended] = await store.runs()
    assert (ended.state, ended.ended_at, ended.response_bytes) == (3, 1003.0, 7)
    assert (ended.status, ended.attempts) == (b"", 2)
    store.drop_response("run-1")
    await store.add(queued("run-2"), b"")
    assert await store.response("run-1") is None
    assert [each.response_bytes for each in await store.runs()] == [None, None]
    store.forget("run-1")
    await store.add(queued("run-3"), b"")
    assert [each.id for each in await store.runs()] == ["run-2", "run-3"]
    assert await store.begin("run-1", 1, 1.0) is None


async def test_many_writes_at_once_are_kept_by_another_process(
    store: SqliteRunStore, database: Path
) -> None:
    await asyncio.gather(*(store.add(queued(f"run-{n}"), b"x" * n) for n in range(1500)))
    # As a daemon that comes after a crash would see it: nothing was closed.
    other = sqlite3.connect(database)
    found = other.execute(
        "SELECT runs.id, length(request) FROM runs JOIN run_requests USING (id) ORDER BY number"
    ).fetchall()
    other.close()
    assert found == [(f"run-{n}", n) for n in range(1500)]


async def test_a_write_that_fails_is_alone(store: SqliteRunStore) -> None:
    writes = [store.add(queued(run_id), b"x") for run_id in ("a", "b", "a", "c")]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        StorageFailed,
        type(None),
    ]
    assert [each.id for each in await store.runs()] == ["a", "b", "c"]


async def test_who_leaves_has_written_all_the_same(store: SqliteRunStore) -> None:
    writing = asyncio.create_task(store.add(queued("left"), b"x"))
    await asyncio.sleep(0)
    writing.cancel()
    await store.add(queued("after"), b"x")
    assert [each.id for each in await store.runs()] == ["left", "after"]


async def test_a_full_disk_takes_nothing_and_loses_nothing(database: Path) -> None:
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    writer = GroupCommit(connection)
    await writer.do(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 8}"))

    def insert(run_id: str, size: int) -> asyncio.Task[object]:
        def write(c: sqlite3.Connection) -> None:
            c.execute("INSERT INTO run_requests VALUES (?, ?)", (run_id, b"x" * size))

        return asyncio.create_task(writer.do(write, size))

    results = await asyncio.gather(
        insert("small", 10), insert("large", 1_000_000), insert("other", 10), return_exceptions=True
    )
    assert isinstance(results[1], sqlite3.OperationalError)
    assert results[0] is results[2] is None
    await writer.do(lambda c: c.execute("PRAGMA max_page_count = 100000"))
    await insert("large", 1_000_000)
    found = await writer.do(lambda c: c.execute("SELECT id FROM run_requests").fetchall())
    assert sorted(found) == [("large",), ("other",), ("small",)]
    await writer.close()
