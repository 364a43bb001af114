"""Where the content of a File may be, if not on the disk. Part of ``pipeline.objects.files``."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from pipeline import _fetching
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["AtUrl", "BufferReader", "InDaemon", "Remote"]


class Remote(Protocol):
    """A content that is elsewhere."""

    @property
    def size(self) -> int | None:
        """Bytes in it; None if nobody knows before it is fetched."""

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of it; empty if nobody knows before it is fetched."""

    def fetch(self, target: BinaryIO) -> None:
        """Write the content, and make sure that it is the right one."""


@dataclass(frozen=True)
class AtUrl:
    """What is at a URL."""

    url: str
    sha256: str
    size: int | None = None

    def fetch(self, target: BinaryIO) -> None:
        """Fetch it."""
        _fetching.fetch(self.url, target, self.sha256)


@dataclass(frozen=True)
class InDaemon:
    """What only the daemon has."""

    sha256: str
    size: int | None = None

    def fetch(self, target: BinaryIO) -> None:
        """Say that it cannot be had."""
        raise PipelineError(
            f"the content with sha256 {self.sha256} is in the daemon: give the File as an input of "
            "a run there, or get it with client.files.download"
        )


class BufferReader(io.RawIOBase):
    """Reads memory without a copy of all of it."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it has a position."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._content)}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        """Read what fits; returns the number of bytes."""
        part = self._content[self._at : self._at + len(memoryview(buffer))]
        memoryview(buffer)[: len(part)] = part
        self._at += len(part)
        return len(part)
