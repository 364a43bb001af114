"""Owners of files in SQLite, in the database of the deployments."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipelined.store.environments import Read, Write


class SqliteFileOwnerStore:
    """Implements core's FileOwnerStore. Belongs to one event loop."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write

    async def owners(self) -> Sequence[tuple[str, str]]:
        """See FileOwnerStore."""
        rows = await self._read("read the owners of files", "SELECT sha256, owner FROM file_owners")
        return [(row[0], row[1]) for row in rows]

    async def add(self, sha256: str, owner: str) -> None:
        """See FileOwnerStore."""
        statement = "INSERT OR IGNORE INTO file_owners VALUES (?, ?)"
        await self._write("store the owner of a file", [(statement, (sha256, owner))])

    async def remove(self, sha256: str, owner: str) -> None:
        """See FileOwnerStore."""
        statement = "DELETE FROM file_owners WHERE sha256 = ? AND owner = ?"
        await self._write("forget the owner of a file", [(statement, (sha256, owner))])

    async def forget(self, digests: Collection[str]) -> None:
        """See FileOwnerStore."""
        statement = "DELETE FROM file_owners WHERE sha256 = ?"
        await self._write(
            "forget the owners of files", [(statement, (sha256,)) for sha256 in digests]
        )
