"""Contents of files, kept by their SHA-256: what the domain needs of the store of them.

Digests are 64 lower-case hexadecimal digits, as ``checked_digest`` makes them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelined.core.errors import InvalidRequest

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What may be kept.

    Attributes:
        file_bytes: In one file.
        store_bytes: In all files together, with what is being received.
        ttl_seconds: How long a file that nothing uses is kept after its last use.
    """

    file_bytes: int = 16 << 30
    store_bytes: int = 64 << 30
    ttl_seconds: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A content that is here as long as it is held.

    Attributes:
        sha256: Its digest.
        path: Where it is; only the daemon opens it.
        size: Its bytes.
    """

    sha256: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is here of a content: all of it, or the bytes that have been received."""

    present: bool
    size: int
    received: int


@dataclass(frozen=True, slots=True)
class Received:
    """How an upload ended: whether the content was here before, and the bytes that it wrote."""

    existed: bool
    written: int


class OutputKeeper(Protocol):
    """Keeps the files that workers give back."""

    async def keep(self, descriptor: int, sha256: str, size: int, run_id: str = "") -> None:
        """Copy the content of an open file, unless it is here; the caller closes it.

        The run is the one that gave it back.

        Raises:
            FileTooLarge, FilesFull: There is no room for it.
            FileDigestMismatch: It is not what it is said to be.
            StorageFailed: It cannot be written.
        """


class FileStore(OutputKeeper, Protocol):
    """Keeps contents across restarts. Every method raises StorageFailed."""

    async def receive(
        self, chunks: AsyncIterator[bytes], sha256: str, size: int, offset: int = 0
    ) -> Received:
        """Keep a content whose bytes from ``offset`` on come in chunks.

        Of one digest one is received at a time. What a broken stream has brought stays.

        Raises:
            FileTooLarge, FilesFull: There is no room for it.
            FileDigestMismatch: It is not what it is said to be; nothing of it stays.
            InvalidRequest: It begins after what is here, or ends early.
        """

    def status(self, sha256: str) -> FileStatus:
        """What is here of a content; counts as a use of it."""

    def hold(
        self, sha256: str, name: str = "", *, expired_too: bool = False
    ) -> AbstractContextManager[StoredFile]:
        """Keep a content from being removed inside a ``with``; counts as a use of it.

        One whose time is over counts as gone, unless it was held when the daemon ended.

        Raises:
            FileMissing: It is not here; the name is for the message.
        """

    def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a content in chunks, from an offset on.

        Raises:
            FileMissing: It is not here.
            InvalidRequest: The offset is beyond its end.
        """

    async def delete(self, sha256: str) -> None:
        """Remove a content, whole or not.

        Raises:
            FileMissing: Nothing of it is here.
            FileInUse: It is held, or being received.
        """


def checked_digest(sha256: bytes) -> str:
    """Return a digest as hexadecimal digits.

    Raises:
        InvalidRequest: It has not 32 bytes.
    """
    if len(sha256) != DIGEST_BYTES:
        raise InvalidRequest("sha256", f"has {len(sha256)} bytes and not {DIGEST_BYTES}")
    return sha256.hex()
