"""The state directory: made, checked and held by one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class StateDirectoryError(Exception):
    """The state directory cannot be used; the text names it and says why."""


class StateDirectory:
    """A directory that no other daemon uses while this object is open.

    Layout: ``pipelined.db`` (SQLite), ``code/SHA256`` (one file for each graph's code), ``files``
    (see ``store/files.py``), ``lock``.

    Raises:
        StateDirectoryError: It cannot be made or written, or another daemon holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "pipelined.db"
        self.code = path / "code"
        self.files = path / "files"
        try:
            # What is in it is for its owner alone; `mode` is not for parents.
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.code.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"state directory {str(path)!r} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.access(self.code, os.W_OK | os.X_OK) or not os.access(path, os.W_OK):
                raise StateDirectoryError(f"state directory {str(path)!r} is not writable")
        except BlockingIOError:
            os.close(self._lock)
            raise StateDirectoryError(
                f"state directory {str(path)!r} is in use by another daemon"
            ) from None
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let another daemon use it."""
        os.close(self._lock)

    def __enter__(self) -> StateDirectory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
