"""The folders for what workers have of temporary files: made and removed by the daemon."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from pipelined.core.errors import StorageFailed


class TemporaryFolders:
    """One folder for each worker, in the system's folder for such files.

    Args:
        owner: Of them all: only one daemon at a time has it. One that was killed together with its
            workers leaves folders, which the next one with the same owner finds by their names.
            None if there is no such next one.

    Attributes:
        owner: A name for it, which tells nothing of it.
    """

    def __init__(self, owner: Path | None = None) -> None:
        name = os.fsencode(owner.resolve()) if owner is not None else secrets.token_bytes(16)
        self.owner = hashlib.sha256(name).hexdigest()[:16]
        self._prefix = f"pipelined-worker-{self.owner}-"

    def make(self) -> str:
        """Return the path of a new one.

        Raises:
            StorageFailed: It cannot be made.
        """
        try:
            return tempfile.mkdtemp(prefix=self._prefix)
        except OSError as error:
            reason = error.strerror or "unknown"
            raise StorageFailed("make a temporary folder", reason) from None

    @staticmethod
    def remove(path: str) -> None:
        """Remove one. What a process of the worker's own still writes is not waited for."""
        shutil.rmtree(path, ignore_errors=True)

    def remove_stale(self) -> None:
        """Remove those that a daemon before this one has left; to be called before any is made."""
        for path in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):
            with contextlib.suppress(OSError):
                # Anybody can make something of that name here.
                if path.lstat().st_uid == os.getuid():
                    self.remove(str(path))
