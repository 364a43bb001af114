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
        user: Whom the folders belong to, by number; None for the daemon's own.

    Attributes:
        owner: A name for that, which tells nothing of it.
    """

    def __init__(self, owner: Path | None = None, user: int | None = None) -> None:
        self._user = user
        name = os.fsencode(owner.resolve()) if owner is not None else secrets.token_bytes(16)
        self._owner = owner
        self._parent: str | None = None
        self.owner = hashlib.sha256(name).hexdigest()[:16]
        self._prefix = f"pipelined-worker-{self.owner}-"

    def make(self) -> str:
        """Return the path of a new one.

        Raises:
            StorageFailed: It cannot be made.
        """
        try:
            folder = tempfile.mkdtemp(prefix=self._prefix, dir=self._parent)
            if self._user is not None:
                os.chown(folder, self._user, -1)
            return folder
        except OSError as error:
            reason = error.strerror or "unknown"
            raise StorageFailed("make a temporary folder", reason) from None

    def close(self) -> None:
        """Remove what all of them were in."""
        if self._parent is not None:
            self.remove(self._parent)

    @staticmethod
    def remove(path: str) -> None:
        """Remove one. What a process of the worker's own still writes is not waited for."""
        shutil.rmtree(path, ignore_errors=True)

    def remove_stale(self) -> None:
        """Remove those that a daemon before this one has left; to be called before any is made.

        Raises:
            StorageFailed: The system's folder for temporary files cannot be written.
        """
        for path in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):
            with contextlib.suppress(OSError):
                # Anybody can make something of that name here.
                if path.lstat().st_uid in (os.getuid(), self._user):
                    self.remove(str(path))
        # Workers are kept from the owner's folder, and so from what is made in the folders around
        # it once they are there: then theirs have to be in one that is there before.
        temporary = Path(tempfile.gettempdir()).resolve()
        if self._owner is not None and temporary in self._owner.resolve().parents:
            self._parent = tempfile.mkdtemp(prefix=self._prefix)
            Path(self._parent).chmod(0o711)
