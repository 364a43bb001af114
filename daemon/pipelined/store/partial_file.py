"""A content that is being received, in a file of its own. What is here blocks."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CHUNK_BYTES = 1 << 20


class PartialFile:
    """The first bytes of a content, on disk; more can be appended, also after a restart.

    Args:
        path: Made if it is not there.

    Attributes:
        size: Bytes that are there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._digest = hashlib.sha256()
        self.size = 0

    def open(self) -> None:
        """Open it and read what is there, whose digest nobody has noted."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        while chunk := os.read(self._descriptor, CHUNK_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of the data."""
        self._digest.update(data)
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.size += written
            view = view[written:]

    def hexdigest(self) -> str:
        """Of what is there."""
        return self._digest.hexdigest()

    def publish(self, target: Path) -> None:
        """Give it its name, durably and read-only; it has none if this fails."""
        # Workers of another user open it anew by descriptor. By its path nobody else can: the
        # folders are for their owner alone.
        os.fchmod(self._descriptor, 0o444)
        os.fsync(self._descriptor)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.rename(target)
        try:
            for folder in (target.parent, target.parent.parent):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError:
            # Whoever asks for it next must not be told that it is here for good.
            target.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Remove it from the disk."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it as it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
