"""A disk that is full or broken whenever a test wants it; see tests/cpp/failing_disk."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from tests.cpp import compiling

OPERATIONS = ("create", "write", "synchronize", "truncate", "rename", "make_folder")
_FIELDS = ("seen", "first", "last", "error", "torn")
_WORD_BYTES = 8
_NEVER = (1 << 62, 1 << 62)


class FailingDisk:
    """Fails calls of processes with its environment that change files below a folder.

    Args:
        folder: Below which calls can fail.
        control: A file that is made, unless it is there; outside of the folder.
    """

    def __init__(self, folder: Path, control: Path) -> None:
        self.folder = folder
        self.control = control
        size = _WORD_BYTES * (len(_FIELDS) + 2 * len(OPERATIONS))
        with control.open("a+b") as file:
            file.truncate(size)
            self._words = memoryview(mmap.mmap(file.fileno(), size)).cast("q")
        self.mend()

    @property
    def environment(self) -> Mapping[str, str]:
        """What processes need to be on this disk."""
        return {
            "LD_PRELOAD": str(compiling.build_library("failing_disk")),
            "FAILING_DISK_FOLDER": str(self.folder),
            "FAILING_DISK_CONTROL": str(self.control),
        }

    @property
    def seen(self) -> int:
        """How many calls could have failed so far."""
        return self._get("seen")

    @property
    def failed(self) -> Mapping[str, int]:
        """How many calls have failed, by operation."""
        at = len(_FIELDS) + len(OPERATIONS)
        return dict(zip(OPERATIONS, self._words[at : at + len(OPERATIONS)], strict=True))

    def fill(self, after: int = 0, error: int = errno.ENOSPC) -> None:
        """Be full once so many more calls were made, until ``mend``."""
        self._set("error", error)
        self._set("torn", 0)
        self._fail(self.seen + after, 1 << 62)

    def fail_once(self, after: int, error: int, *, torn: bool = False) -> None:
        """Fail the one call after so many more.

        Args:
            after: Calls that do not fail before it.
            error: With this errno.
            torn: Whether a write that fails has written its first half.
        """
        self._set("error", error)
        self._set("torn", torn)
        self._fail(self.seen + after, self.seen + after + 1)

    def mend(self) -> None:
        """Fail nothing from here on."""
        self._fail(*_NEVER)

    def _fail(self, first: int, last: int) -> None:
        # Never a moment in which more fails than is meant.
        self._set("last", 0)
        self._set("first", first)
        self._set("last", last)

    def _get(self, field: str) -> int:
        return self._words[_FIELDS.index(field)]

    def _set(self, field: str, value: int) -> None:
        self._words[_FIELDS.index(field)] = value


def contents(state: Path) -> Mapping[str, bytes]:
    """Of all the files that matter in a state directory, by their paths in it."""
    paths = (path for path in state.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(state)): path.read_bytes() for path in paths}


def copy_state(source: Path, target: Path) -> None:
    """Make another state directory, of what one has at this moment, as a crash would leave it."""
    for folder, _, names in os.walk(source):
        made = target / Path(folder).relative_to(source)
        made.mkdir(mode=0o700)
        for name in names:
            # The index of the write-ahead log is made anew after a crash.
            if not name.endswith("-shm"):
                (made / name).write_bytes((Path(folder) / name).read_bytes())
