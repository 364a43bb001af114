"""Versions of deployments, and pointers, in SQLite; code in files named for its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import aiosqlite

from pipelined.core.errors import CodeDigestMismatch
from pipelined.core.options import Options
from pipelined.core.references import Pointer
from pipelined.core.specification import Code, Specification
from pipelined.store.code import IncomingFile, in_thread, is_code, prune
from pipelined.store.database import is_there, open_database
from pipelined.store.directory import StateDirectory, StateDirectoryError
from pipelined.store.environments import SqliteEnvironmentStore, Statement
from pipelined.store.failures import decoding, storage
from pipelined.store.file_owners import SqliteFileOwnerStore

# Keys of calls that may still be retried; older ones are forgotten.
IDEMPOTENCY_SECONDS = 24 * 3600.0


class SqliteDeploymentStore:
    """Implements core's DeploymentStore. Belongs to one event loop."""

    def __init__(self, directory: StateDirectory, connection: aiosqlite.Connection) -> None:
        self._directory = directory
        self._connection = connection
        # One transaction at a time on the one connection.
        self._writing = asyncio.Lock()
        # Code that is not to be pruned, and how often it is held.
        self._held: Counter[str] = Counter()
        # Whether the last transaction failed. It may be in the write-ahead log all the same, as far
        # as a crash is concerned, until the next one takes its place there.
        self._in_doubt = False
        # Held while code is published, or what is unused is looked for and removed.
        self._publishing = asyncio.Lock()

    @classmethod
    async def open(cls, directory: StateDirectory) -> SqliteDeploymentStore:
        """Open or make the database in a state directory.

        Raises:
            StateDirectoryError: See ``open_database``; or there is code, but no database.
            StorageFailed: Left-over code cannot be removed.
        """
        if await asyncio.to_thread(_has_lost_database, directory):
            # All of the code would be removed, as what nothing refers to.
            raise StateDirectoryError(
                f"there is no database {str(directory.database)!r}, but there is code of "
                f"deployments in {str(directory.code)!r}. Put the database back, or move the code "
                "away, too, to start with nothing"
            )
        store = cls(directory, await open_database(directory.database))
        try:
            # Nothing is being received yet: what a crash left half-received goes too.
            await store.prune_code(incoming_too=True)
        except BaseException:
            # Its thread would keep the process alive.
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close the database."""
        await self._connection.close()

    def environments(self) -> SqliteEnvironmentStore:
        """The environments, which are in the same database; usable until it is closed."""
        return SqliteEnvironmentStore(self._read, self._write)

    def file_owners(self) -> SqliteFileOwnerStore:
        """The owners of files, which are in the same database; usable until it is closed."""
        return SqliteFileOwnerStore(self._read, self._write)

    async def deployments(self) -> Sequence[Specification]:
        """See DeploymentStore."""
        rows = await self._read(
            "read the deployments",
            "SELECT name, version, digest, schema, code_format, code_size, code_sha256, "
            "environment, created_at, code_target, code_topology, options "
            "FROM versions ORDER BY name, version",
        )
        secrets = await self._secrets()
        with decoding("read the deployments"):
            specifications = [
                Specification(
                    name=row[0],
                    version=row[1],
                    digest=row[2],
                    schema=row[3],
                    code=Code(
                        format=row[4],
                        size=row[5],
                        sha256=row[6],
                        target=row[9],
                        topology=tuple(json.loads(row[10])),
                    ),
                    environment=json.loads(row[7]),
                    created_at=row[8],
                    options=_options(row[11]),
                    secrets=secrets.get((row[0], row[1]), {}),
                )
                for row in rows
            ]
        self._held.update(specification.code.sha256 for specification in specifications)
        return specifications

    async def last_versions(self) -> Mapping[str, int]:
        """See DeploymentStore."""
        rows = await self._read("read the deployments", "SELECT name, last_version FROM names")
        return {row[0]: row[1] for row in rows}

    async def pointers(self) -> Sequence[Pointer]:
        """See DeploymentStore."""
        rows = await self._read(
            "read the pointers",
            "SELECT name, tag, version, locked, created_at, updated_at FROM pointers",
        )
        return [Pointer(row[0], row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows]

    async def last_uses(self) -> Mapping[tuple[str, int], float]:
        """See DeploymentStore."""
        rows = await self._read(
            "read the deployments", "SELECT name, version, used_at FROM last_uses"
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def set_last_uses(self, uses: Mapping[tuple[str, int], float]) -> None:
        """See DeploymentStore."""
        # What has been removed meanwhile is not inserted.
        statement = (
            "INSERT INTO last_uses SELECT name, version, ? FROM versions "
            "WHERE name = ? AND version = ? "
            "ON CONFLICT (name, version) DO UPDATE SET used_at = excluded.used_at"
        )
        await self._write(
            "store what was used",
            [(statement, (at, name, version)) for (name, version), at in uses.items()],
        )

    async def answer(self) -> None:
        """Take the database's write lock as every write does, and give it back.

        Nothing is written, so that it costs no access to the disk.

        Raises:
            StorageFailed: It cannot be had.
        """
        async with self._writing:
            with storage("begin a write"):
                try:
                    await self._connection.execute("BEGIN IMMEDIATE")
                finally:
                    await self._connection.rollback()

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
            specification.created_at,
            code.target,
            json.dumps(code.topology),
            json.dumps(_plain(specification.options)),
        )
        statements: list[Statement] = [
            (
                "INSERT INTO names VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET last_version = excluded.last_version",
                (specification.name, specification.version),
            ),
            (f"INSERT INTO versions VALUES ({', '.join('?' * len(values))})", values),
            *(
                (
                    "INSERT INTO secrets VALUES (?, ?, ?, ?)",
                    (specification.name, specification.version, variable, value),
                )
                for variable, value in specification.secrets.items()
            ),
            *_remembering(idempotency_key, specification),
        ]
        await self._write("store the deployment", statements)

    async def remember(self, idempotency_key: str, specification: Specification) -> None:
        """See DeploymentStore."""
        if statements := _remembering(idempotency_key, specification):
            await self._write("store the idempotency key", statements)

    async def deployed(self, idempotency_key: str, specification: Specification) -> int | None:
        """See DeploymentStore."""
        if not idempotency_key:
            return None
        rows = await self._read(
            "read the idempotency keys",
            "SELECT version FROM idempotency_keys WHERE key = ? AND name = ? AND digest = ?",
            (idempotency_key, specification.name, specification.digest),
        )
        return next((int(row[0]) for row in rows), None)

    async def remove(self, name: str) -> None:
        """See DeploymentStore."""
        tables = ("pointers", "secrets", "versions", "names", "idempotency_keys")
        await self._write(
            "remove the deployment",
            [(f"DELETE FROM {table} WHERE name = ?", (name,)) for table in tables],
        )

    async def remove_version(self, name: str, version: int) -> None:
        """See DeploymentStore."""
        await self._write(
            "remove the version",
            [
                (f"DELETE FROM {table} WHERE name = ? AND version = ?", (name, version))
                for table in ("secrets", "versions")
            ],
        )

    async def set_pointer(self, pointer: Pointer) -> None:
        """See DeploymentStore."""
        values = (
            pointer.name,
            pointer.tag,
            pointer.version,
            int(pointer.locked),
            pointer.created_at,
            pointer.updated_at,
        )
        await self._write(
            "store the pointer",
            [("INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?, ?, ?)", values)],
        )

    async def remove_pointer(self, pointer: Pointer) -> None:
        """See DeploymentStore."""
        await self._write(
            "remove the pointer",
            [("DELETE FROM pointers WHERE name = ? AND tag = ?", (pointer.name, pointer.tag))],
        )

    def code_path(self, code: Code) -> Path:
        """See DeploymentStore."""
        return self._directory.code / code.sha256

    async def missing_code(self, codes: Collection[Code]) -> Collection[Code]:
        """See DeploymentStore."""

        def whole(code: Code) -> bool:
            try:
                return self.code_path(code).stat().st_size == code.size
            except OSError:
                return False

        return await in_thread(lambda: {code for code in codes if not whole(code)})

    async def store_code(self, chunks: AsyncIterator[bytes], code: Code) -> None:
        """See DeploymentStore."""
        with storage("store the code"):
            incoming = IncomingFile(self._directory.code)
            try:
                await in_thread(incoming.open)
                await _receive(incoming, chunks, code)
                async with self._publishing:
                    await in_thread(incoming.publish, self.code_path(code))
                    self._held[code.sha256] += 1
            except BaseException:
                await in_thread(incoming.discard)
                raise

    async def release_code(self, code: Code) -> None:
        """See DeploymentStore."""
        self._held[code.sha256] -= 1
        # Drops what is not above zero.
        self._held = +self._held
        await self.prune_code()

    async def prune_code(self, *, incoming_too: bool = False) -> None:
        """Remove code that is neither held nor that of a version.

        Not after a transaction that failed, until there is another: a crash may bring it back.

        Args:
            incoming_too: Also what was not received to its end.

        Raises:
            StorageFailed: Something cannot be removed.
        """
        async with self._publishing:
            with storage("remove unused code"):
                used = set(self._held)
                # Not in the middle of a transaction that may yet be taken back.
                async with self._writing:
                    if self._in_doubt:
                        return
                    cursor = await self._connection.execute("SELECT code_sha256 FROM versions")
                    used.update(row[0] for row in await cursor.fetchall())
                await in_thread(prune, self._directory.code, used, incoming_too)

    async def _secrets(self) -> Mapping[tuple[str, int], dict[str, str]]:
        """By name and version."""
        rows = await self._read(
            "read the secrets", "SELECT name, version, variable, value FROM secrets"
        )
        found: dict[tuple[str, int], dict[str, str]] = {}
        for name, version, variable, value in rows:
            found.setdefault((name, version), {})[variable] = value
        return found

    async def _read(
        self, operation: str, query: str, values: tuple[object, ...] = ()
    ) -> Sequence[aiosqlite.Row]:
        with storage(operation):
            cursor = await self._connection.execute(query, values)
            return list(await cursor.fetchall())

    async def _write(self, operation: str, statements: Sequence[Statement]) -> None:
        async with self._writing:
            with storage(operation):
                before = self._connection.total_changes
                try:
                    for statement, values in statements:
                        await self._connection.execute(statement, values)
                    await self._connection.commit()
                    if self._connection.total_changes > before:
                        self._in_doubt = False
                except BaseException:
                    self._in_doubt = True
                    await self._connection.rollback()
                    raise


def _has_lost_database(directory: StateDirectory) -> bool:
    return not is_there(directory.database) and any(map(is_code, directory.code.iterdir()))


def _plain(options: Options) -> dict[str, object]:
    """What differs from the defaults, as JSON has it."""
    default = asdict(Options())
    return {name: value for name, value in asdict(options).items() if value != default[name]}


def _options(text: str) -> Options:
    plain = json.loads(text)
    if isinstance(plain.get("gpus"), list):
        plain["gpus"] = tuple(plain["gpus"])
    return Options(**plain)


def _remembering(idempotency_key: str, specification: Specification) -> Sequence[Statement]:
    """What remembers that a key has deployed a version; nothing for the empty key."""
    if not idempotency_key:
        return []
    now = time.time()
    return [
        ("DELETE FROM idempotency_keys WHERE created_at < ?", (now - IDEMPOTENCY_SECONDS,)),
        (
            "INSERT OR REPLACE INTO idempotency_keys (key, name, digest, created_at, version) "
            "VALUES (?, ?, ?, ?, ?)",
            (idempotency_key, specification.name, specification.digest, now, specification.version),
        ),
    ]


async def _receive(incoming: IncomingFile, chunks: AsyncIterator[bytes], code: Code) -> None:
    digest = hashlib.sha256()
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > code.size:
            raise CodeDigestMismatch(f"more than the announced {code.size} bytes")
        # Chunks may be as large as messages.
        await in_thread(digest.update, chunk)
        await in_thread(incoming.write, chunk)
    if size != code.size:
        raise CodeDigestMismatch(f"{size} of the announced {code.size} bytes")
    if digest.hexdigest() != code.sha256:
        raise CodeDigestMismatch("its SHA-256 is not the announced one")
