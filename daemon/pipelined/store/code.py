"""The files that code is kept in, named for its SHA-256. What is here blocks, but ``in_thread``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ParamSpec, TypeVar

INCOMING = ".incoming-"
_SHA256 = re.compile("[0-9a-f]{64}")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def in_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call in a thread. Who is cancelled meanwhile waits for its end, and may then tidy up.

    ``asyncio.to_thread`` alone leaves the thread at work on a file descriptor that its caller
    closes, and that may be another file by the time it is written to.
    """
    return await to_end(asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs)))


async def to_end(task: asyncio.Future[Result]) -> Result:
    """Wait for the end of something, also if cancelled meanwhile."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class IncomingFile:
    """Code while it is received. End it with ``publish`` or ``discard``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self._path: Path | None = None

    def open(self) -> None:
        """Make the file, under a name that is not taken for received code."""
        self._descriptor, name = tempfile.mkstemp(prefix=INCOMING, dir=self._folder)
        self._path = Path(name)

    def write(self, data: bytes) -> None:
        """Append all of the data."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def publish(self, target: Path) -> None:
        """Give the file its name, durably, and close it."""
        assert self._path is not None
        os.fsync(self._descriptor)
        self._path.rename(target)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._close()

    def discard(self) -> None:
        """Close the file and remove it, if it is still there."""
        self._close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def is_code(path: Path) -> bool:
    """Whether this is received code, by its name."""
    return _SHA256.fullmatch(path.name) is not None


def prune(folder: Path, used: Collection[str], incoming_too: bool) -> None:
    """Remove received code that is not used; what is not ours is left alone."""
    for path in folder.iterdir():
        incoming = incoming_too and path.name.startswith(INCOMING)
        if incoming or (is_code(path) and path.name not in used):
            path.unlink(missing_ok=True)
