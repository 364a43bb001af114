"""The files as one caller sees them: its own. Of those of others it learns nothing.

What is not the caller's is answered as if it were not here, and received as if it were not: whoever
sends a content that is here already sends all of it, and gets the answer of a first upload. So a
guessed digest tells nothing and gives nothing. Callers that see all (``Caller.sees_all``) are
spared this.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager

from pipelined.core.errors import FileDigestMismatch, FileMissing, InvalidRequest
from pipelined.core.file_owners import FileOwners
from pipelined.core.files import FileStatus, FileStore, Received, StoredFile
from pipelined.rpc.caller import caller

_NOTHING = FileStatus(present=False, size=0, received=0)
# Unfinished uploads whose first sender is remembered; of others it has to begin again.
_MOST_PARTIAL = 10_000


class OwnedFiles:
    """The store, for the caller of the task that uses it. Belongs to one event loop.

    Args:
        files: The store.
        owners: Whose the contents are.
    """

    def __init__(self, files: FileStore, owners: FileOwners) -> None:
        self._files = files
        self._owners = owners
        # By digest: who began the upload that is unfinished.
        self._partial: dict[str, str] = {}

    async def receive(
        self, chunks: AsyncIterator[bytes], sha256: str, size: int, offset: int = 0
    ) -> Received:
        """See FileStore."""
        who = caller()
        if who.sees_all or self._owners.owns(who.id, sha256):
            received = await self._files.receive(chunks, sha256, size, offset)
            # Also of who sees all: it stays when others remove what they have of it.
            await self._owners.add(who.id, sha256)
            return received
        status = self._files.status(sha256)
        if not status.present and not status.received:
            self._begin(sha256, who.id)
        resumes = not status.present and self._partial.get(sha256) == who.id
        if offset and not resumes:
            raise InvalidRequest("offset", f"{offset} is after the 0 bytes that are here")
        proof = _Proof(chunks, sha256, size)
        if not status.present:
            received = await self._files.receive(proof, sha256, size, offset)
            if not received.existed and resumes:
                # All of it came from this caller, now or before.
                self._partial.pop(sha256, None)
                await self._owners.add(who.id, sha256)
                return received
        if offset:
            raise InvalidRequest("offset", f"{offset} is after the 0 bytes that are here")
        await proof.complete()
        await self._owners.add(who.id, sha256)
        return Received(existed=False, written=size)

    def status(self, sha256: str) -> FileStatus:
        """See FileStore."""
        who = caller()
        if who.sees_all or self._owners.owns(who.id, sha256):
            return self._files.status(sha256)
        if self._partial.get(sha256) == who.id:
            status = self._files.status(sha256)
            return _NOTHING if status.present else status
        return _NOTHING

    def hold(self, sha256: str, name: str = "") -> AbstractContextManager[StoredFile]:
        """See FileStore."""
        self._check(sha256, name)
        return self._files.hold(sha256, name)

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """See FileStore."""
        self._check(sha256)
        chunks = self._files.read(sha256, offset)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    async def delete(self, sha256: str) -> None:
        """Remove a content; if it belongs to others as well, only from what the caller has."""
        who = caller()
        if who.sees_all:
            await self._files.delete(sha256)
            return
        if self._partial.get(sha256) == who.id and not self._files.status(sha256).present:
            await self._files.delete(sha256)
            del self._partial[sha256]
            return
        self._check(sha256)
        if not self._owners.others(who.id, sha256):
            await self._files.delete(sha256)
        await self._owners.remove(who.id, sha256)

    def _check(self, sha256: str, name: str = "") -> None:
        who = caller()
        if not who.sees_all and not self._owners.owns(who.id, sha256):
            raise FileMissing(sha256, name)

    def _begin(self, sha256: str, owner: str) -> None:
        if len(self._partial) >= _MOST_PARTIAL:
            self._partial.pop(next(iter(self._partial)))
        self._partial[sha256] = owner


class _Proof:
    """The chunks of an upload, which show that the caller has the whole content.

    Args:
        chunks: From the beginning on.
        sha256: What they are said to have.
        size: Their bytes, as announced.
    """

    def __init__(self, chunks: AsyncIterator[bytes], sha256: str, size: int) -> None:
        self._chunks = chunks
        self._sha256 = sha256
        self._size = size
        self._seen = 0
        self._digest = hashlib.sha256()

    def __aiter__(self) -> _Proof:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._seen += len(chunk)
        self._digest.update(chunk)
        return chunk

    async def complete(self) -> None:
        """Take the rest; the errors are those of an upload that the store receives.

        Raises:
            FileDigestMismatch, InvalidRequest: The caller has not sent it.
        """
        async for _ in self:
            if self._seen > self._size:
                what = f"it has more than the announced {self._size} bytes"
                raise FileDigestMismatch(self._sha256, what)
        if self._seen != self._size:
            what = f"ended at byte {self._seen} of the announced {self._size}"
            raise InvalidRequest("data", what)
        if self._digest.hexdigest() != self._sha256:
            raise FileDigestMismatch(self._sha256, "it has another SHA-256")
