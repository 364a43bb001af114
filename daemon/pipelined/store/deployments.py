"""Deployments in SQLite, their code in files named for its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiosqlite

from pipelined.core.errors import CodeDigestMismatch, StorageFailed
from pipelined.core.specification import Code, Specification
from pipelined.store.database import open_database
from pipelined.store.directory import StateDirectory

# Keys of calls that may still be retried; older ones are forgotten.
IDEMPOTENCY_SECONDS = 24 * 3600.0
INCOMING = ".incoming-"


@contextmanager
def _storage(operation: str) -> Iterator[None]:
    """Turn what the system says into a StorageFailed without paths."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(operation, error.strerror or type(error).__name__) from error
    except sqlite3.Error as error:
        raise StorageFailed(operation, str(error)) from error


class SqliteDeploymentStore:
    """Implements core's DeploymentStore. Belongs to one event loop."""

    def __init__(self, directory: StateDirectory, connection: aiosqlite.Connection) -> None:
        self._directory = directory
        self._connection = connection
        # One transaction at a time on the one connection.
        self._writing = asyncio.Lock()
        # Code that was received and is not referred to yet: not to be pruned.
        self._received: set[str] = set()

    @classmethod
    async def open(cls, directory: StateDirectory) -> SqliteDeploymentStore:
        """Open or make the database in a state directory.

        Raises:
            StateDirectoryError: See ``open_database``.
            StorageFailed: Left-over code cannot be removed.
        """
        store = cls(directory, await open_database(directory.database))
        # Nothing is being received yet: what a crash left half-received goes too.
        await store.prune_code(incoming_too=True)
        return store

    async def close(self) -> None:
        """Close the database."""
        await self._connection.close()

    async def deployments(self) -> Sequence[Specification]:
        """See DeploymentStore."""
        with _storage("read the deployments"):
            cursor = await self._connection.execute(
                "SELECT name, version, digest, schema, code_format, code_size, code_sha256, "
                "environment, instances, created_at FROM deployments ORDER BY name"
            )
            rows = await cursor.fetchall()
        return [
            Specification(
                name=row[0],
                version=row[1],
                digest=row[2],
                schema=row[3],
                code=Code(format=row[4], size=row[5], sha256=row[6]),
                environment=json.loads(row[7]),
                instances=row[8],
                created_at=row[9],
            )
            for row in rows
        ]

    async def add(self, specification: Specification, idempotency_key: str) -> None:
        """See DeploymentStore."""
        code = specification.code
        values = (
            specification.name,
            specification.version,
            specification.digest,
            specification.schema,
            code.format,
            code.size,
            code.sha256,
            json.dumps(dict(specification.environment)),
            specification.instances,
            specification.created_at,
        )
        now = time.time()
        statements: list[tuple[str, tuple[object, ...]]] = [
            (f"INSERT OR REPLACE INTO deployments VALUES ({', '.join('?' * len(values))})", values)
        ]
        if idempotency_key:
            key = (idempotency_key, specification.name, specification.digest, now)
            statements += [
                (
                    "DELETE FROM idempotency_keys WHERE created_at < ?",
                    (now - IDEMPOTENCY_SECONDS,),
                ),
                ("INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?)", key),
            ]
        await self._write("store the deployment", statements)
        self._received.discard(code.sha256)

    async def seen(self, idempotency_key: str, specification: Specification) -> bool:
        """See DeploymentStore."""
        if not idempotency_key:
            return False
        with _storage("read the idempotency keys"):
            cursor = await self._connection.execute(
                "SELECT 1 FROM idempotency_keys WHERE key = ? AND name = ? AND digest = ?",
                (idempotency_key, specification.name, specification.digest),
            )
            return await cursor.fetchone() is not None

    async def remove(self, name: str) -> None:
        """See DeploymentStore."""
        await self._write(
            "remove the deployment",
            [
                ("DELETE FROM deployments WHERE name = ?", (name,)),
                ("DELETE FROM idempotency_keys WHERE name = ?", (name,)),
            ],
        )

    def code_path(self, code: Code) -> Path:
        """See DeploymentStore."""
        return self._directory.code / code.sha256

    async def store_code(self, chunks: AsyncIterator[bytes], code: Code) -> None:
        """See DeploymentStore."""
        with _storage("store the code"):
            descriptor, name = await asyncio.to_thread(
                tempfile.mkstemp, prefix=INCOMING, dir=self._directory.code
            )
            temporary = Path(name)
            try:
                await self._receive(descriptor, chunks, code)
                self._received.add(code.sha256)
                await asyncio.to_thread(self._publish, descriptor, temporary, self.code_path(code))
            finally:
                os.close(descriptor)
                await asyncio.to_thread(temporary.unlink, missing_ok=True)

    async def prune_code(self, *, incoming_too: bool = False) -> None:
        """See DeploymentStore; ``incoming_too`` removes what was not received to its end."""
        with _storage("remove unused code"):
            cursor = await self._connection.execute("SELECT code_sha256 FROM deployments")
            used = {row[0] for row in await cursor.fetchall()} | self._received
            await asyncio.to_thread(self._prune, used, incoming_too)

    def _prune(self, used: set[str], incoming_too: bool) -> None:
        for path in self._directory.code.iterdir():
            incoming = path.name.startswith(INCOMING)
            if path.name not in used and (incoming_too or not incoming):
                path.unlink(missing_ok=True)

    async def _receive(self, descriptor: int, chunks: AsyncIterator[bytes], code: Code) -> None:
        digest = hashlib.sha256()
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > code.size:
                raise CodeDigestMismatch(f"more than the announced {code.size} bytes")
            digest.update(chunk)
            await asyncio.to_thread(_write_all, descriptor, chunk)
        if size != code.size:
            raise CodeDigestMismatch(f"{size} of the announced {code.size} bytes")
        if digest.hexdigest() != code.sha256:
            raise CodeDigestMismatch("its SHA-256 is not the announced one")

    def _publish(self, descriptor: int, temporary: Path, target: Path) -> None:
        os.fsync(descriptor)
        temporary.rename(target)
        folder = os.open(self._directory.code, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def _write(
        self, operation: str, statements: Sequence[tuple[str, tuple[object, ...]]]
    ) -> None:
        async with self._writing:
            with _storage(operation):
                try:
                    for statement, values in statements:
                        await self._connection.execute(statement, values)
                    await self._connection.commit()
                except BaseException:
                    await self._connection.rollback()
                    raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
