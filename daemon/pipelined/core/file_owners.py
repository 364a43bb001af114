"""Whose the kept contents are.

A content belongs to whoever has sent all of it, and to the owner of a run that gave it back: each
of them has known it. Knowing its digest is not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from pipelined.core.files import OutputKeeper


class FileOwnerStore(Protocol):
    """Keeps owners across restarts. Every method raises StorageFailed."""

    async def owners(self) -> Sequence[tuple[str, str]]:
        """All pairs of a digest and an owner."""

    async def add(self, sha256: str, owner: str) -> None:
        """Keep a pair, durably; it may be there."""

    async def remove(self, sha256: str, owner: str) -> None:
        """Forget a pair."""

    async def forget(self, digests: Collection[str]) -> None:
        """Forget all owners of these contents."""


class FileOwners:
    """The owners of contents. Belongs to one event loop.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: FileOwnerStore) -> None:
        self._store = store
        self._owners: dict[str, set[str]] = {}

    async def recover(self) -> None:
        """Read what the store has, once and before anything else. Raises StorageFailed."""
        for sha256, owner in await self._store.owners():
            self._owners.setdefault(sha256, set()).add(owner)

    def owns(self, owner: str, sha256: str) -> bool:
        """Whether a content belongs to it."""
        return owner in self._owners.get(sha256, ())

    def others(self, owner: str, sha256: str) -> bool:
        """Whether a content belongs to anybody else."""
        return not self._owners.get(sha256, set()) <= {owner}

    async def add(self, owner: str, sha256: str) -> None:
        """Let a content belong to it. Raises StorageFailed."""
        if not self.owns(owner, sha256):
            await self._store.add(sha256, owner)
            self._owners.setdefault(sha256, set()).add(owner)

    async def remove(self, owner: str, sha256: str) -> None:
        """Let a content not belong to it any more. Raises StorageFailed."""
        if self.owns(owner, sha256):
            await self._store.remove(sha256, owner)
            self._owners[sha256].discard(owner)

    async def prune(self, is_kept: Callable[[str], bool]) -> None:
        """Forget the owners of contents that are not here any more. Raises StorageFailed."""
        gone = [sha256 for sha256 in self._owners if not is_kept(sha256)]
        if gone:
            await self._store.forget(gone)
            for sha256 in gone:
                self._owners.pop(sha256, None)


class OwningKeeper:
    """Keeps the files that runs give back, for the owners of the runs; an OutputKeeper.

    Args:
        files: Keeps their contents.
        owners: Whose they are.
        owner_of: Of the run of an id; None if it is not remembered.
    """

    def __init__(
        self, files: OutputKeeper, owners: FileOwners, owner_of: Callable[[str], str | None]
    ) -> None:
        self._files = files
        self._owners = owners
        self._owner_of = owner_of

    async def keep(self, descriptor: int, sha256: str, size: int, run_id: str = "") -> None:
        """See OutputKeeper."""
        await self._files.keep(descriptor, sha256, size, run_id)
        if (owner := self._owner_of(run_id)) is not None:
            await self._owners.add(owner, sha256)
