"""Environments in SQLite, in the database of the deployments."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

import aiosqlite

from pipelined.core.environments import Environment
from pipelined.store.failures import decoding

Statement = tuple[str, tuple[object, ...]]


# Both take the name of the operation, for the StorageFailed that they raise. One queries the
# database; the other executes statements in one transaction.
Read = Callable[[str, str], Awaitable[Sequence[aiosqlite.Row]]]
Write = Callable[[str, Sequence[Statement]], Awaitable[None]]


class SqliteEnvironmentStore:
    """Implements core's EnvironmentStore. Belongs to one event loop."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write

    async def environments(self) -> Sequence[Environment]:
        """See EnvironmentStore."""
        rows = await self._read(
            "read the environments",
            "SELECT name, requirements, created_at, updated_at FROM environments ORDER BY name",
        )
        with decoding("read the environments"):
            return [Environment(row[0], tuple(json.loads(row[1])), row[2], row[3]) for row in rows]

    async def set(self, environment: Environment) -> None:
        """See EnvironmentStore."""
        values = (
            environment.name,
            json.dumps(environment.requirements),
            environment.created_at,
            environment.updated_at,
        )
        await self._write(
            "store the environment",
            [("INSERT OR REPLACE INTO environments VALUES (?, ?, ?, ?)", values)],
        )

    async def remove(self, name: str) -> None:
        """See EnvironmentStore."""
        await self._write(
            "remove the environment", [("DELETE FROM environments WHERE name = ?", (name,))]
        )
