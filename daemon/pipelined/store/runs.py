"""Submitted runs in SQLite: a row for each, its request until it ends, its outputs after that."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipelined.core.ports import StoredRun
from pipelined.store.failures import storage
from pipelined.store.group_commit import GroupCommit

# Of another connection's transaction.
_BUSY_SECONDS = 30.0
# What the log of changes may have on disk while nothing is written.
_LOG_BYTES = 64 << 20
_COLUMNS = [column.name for column in dataclasses.fields(StoredRun)]


class SqliteRunStore:
    """Implements core's RunStore. Belongs to one event loop.

    Requests and outputs are in tables of their own, so that the rows of ten thousand runs can be
    read without them.

    Args:
        database: Of the current version; see ``open_database``.
    """

    def __init__(self, database: Path) -> None:
        with storage("open the runs"):
            self._writer = GroupCommit(_connected(database))
            self._reader = _connected(database)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="runs-reader")

    async def close(self) -> None:
        """Close the database when all that was asked for has been written."""
        await self._writer.close()
        await asyncio.get_running_loop().run_in_executor(self._reading, self._reader.close)
        self._reading.shutdown(wait=False)

    async def runs(self) -> Sequence[StoredRun]:
        """See RunStore."""

        def read() -> list[StoredRun]:
            query = f"SELECT {', '.join(_COLUMNS)} FROM runs ORDER BY number"
            rows = (dict(zip(_COLUMNS, row, strict=True)) for row in self._reader.execute(query))
            return [StoredRun(**{**row, "files": json.loads(row["files"])}) for row in rows]

        with storage("read the runs"):
            return await asyncio.get_running_loop().run_in_executor(self._reading, read)

    async def add(self, run: StoredRun, request: bytes) -> None:
        """See RunStore."""
        values = (
            run.id,
            run.deployment,
            run.version,
            run.state,
            run.created_at,
            run.delivery,
            run.owner,
            run.key,
            run.digest,
            run.priority,
            run.timeout,
            json.dumps(list(run.files)),
            len(request),
        )

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO runs (id, deployment, version, state, created_at, delivery, owner, "
                "key, digest, priority, timeout, files, request_bytes) "
                f"VALUES ({', '.join('?' * len(values))})",
                values,
            )
            connection.execute("INSERT INTO run_requests VALUES (?, ?)", (run.id, request))

        with storage("store the run"):
            await self._writer.do(write, len(request))

    async def begin(self, run_id: str, attempts: int, started_at: float) -> bytes | None:
        """See RunStore."""

        def write(connection: sqlite3.Connection) -> bytes | None:
            connection.execute(
                "UPDATE runs SET state = 2, attempts = ?, started_at = ? "
                "WHERE id = ? AND ended_at IS NULL",
                (attempts, started_at, run_id),
            )
            row = connection.execute(
                "SELECT request FROM run_requests WHERE id = ?", (run_id,)
            ).fetchone()
            return None if row is None else row[0]

        with storage("store the run"):
            return await self._writer.do(write)

    async def end(self, run: StoredRun, response: bytes | memoryview | None) -> None:
        """See RunStore."""

        def write(connection: sqlite3.Connection) -> None:
            # What has ended stays as it is.
            ended = connection.execute(
                "UPDATE runs SET state = ?, ended_at = ?, execution_seconds = ?, status = ?, "
                "response_bytes = ?, files = '[]' WHERE id = ? AND ended_at IS NULL",
                (
                    run.state,
                    run.ended_at,
                    run.execution_seconds,
                    run.status,
                    None if response is None else len(response),
                    run.id,
                ),
            )
            connection.execute("DELETE FROM run_requests WHERE id = ?", (run.id,))
            if response is not None and ended.rowcount:
                connection.execute("INSERT INTO run_responses VALUES (?, ?)", (run.id, response))

        with storage("store the end of the run"):
            await self._writer.do(write, 0 if response is None else len(response))

    async def response(self, run_id: str) -> bytes | None:
        """See RunStore."""

        def read() -> bytes | None:
            row = self._reader.execute(
                "SELECT response FROM run_responses WHERE id = ?", (run_id,)
            ).fetchone()
            return None if row is None else row[0]

        with storage("read the outputs"):
            return await asyncio.get_running_loop().run_in_executor(self._reading, read)

    def forget(self, run_id: str) -> None:
        """See RunStore."""
        self._writer.begin(partial(_forget, run_id=run_id))

    def drop_response(self, run_id: str) -> None:
        """See RunStore."""
        self._writer.begin(partial(_drop_response, run_id=run_id))


def _connected(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _forget(connection: sqlite3.Connection, run_id: str) -> None:
    for table in ("runs", "run_requests", "run_responses"):
        connection.execute(f"DELETE FROM {table} WHERE id = ?", (run_id,))


def _drop_response(connection: sqlite3.Connection, run_id: str) -> None:
    connection.execute("DELETE FROM run_responses WHERE id = ?", (run_id,))
    connection.execute("UPDATE runs SET response_bytes = NULL WHERE id = ?", (run_id,))
