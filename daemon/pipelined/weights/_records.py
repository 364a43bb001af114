"""What this process has loaded: the source of the timeline's weights stages."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pipelined.weights._locks import ForkLock

if TYPE_CHECKING:
    from pipelined._weights import Progress

# A program that opens its file again for each tensor must not grow for ever.
_LIMIT = 4096


@dataclass(frozen=True)
class Load:
    """One file from which tensors were taken, as it stands now.

    `bytes` counts the tensors' bytes: of the whole file once it is being read ahead, else of the
    tensors that were asked for. `started` is on CLOCK_MONOTONIC; `seconds` run from there until the
    whole file was in memory, and are None before, or when that will never be. Of a file that went
    to a device, they are those of the load onto it, wherever the file was mapped besides. `source`
    is where the bytes were when the file was opened: "disk", "page cache" or "unknown". `error` is
    why reading ahead stopped, or None.
    """

    path: str
    name: str
    bytes: int
    started: float
    seconds: float | None
    source: str
    error: str | None


class Record:
    """A load while it happens. Holds no memory of the file. Thread-safe."""

    def __init__(self, path: str, started: float, source: str, progress: Progress) -> None:
        self._path = path
        self._started = started
        self._source = source
        self._progress = progress
        # When the load onto a device began, and how far it is.
        self._device: tuple[float, Progress] | None = None
        self.bytes_taken = 0

    @property
    def path(self) -> str:
        """The file's path, absolute."""
        return self._path

    def on_device(self, started: float, progress: Progress) -> None:
        """Take note that the whole file is being loaded onto a device."""
        self._device = started, progress
        self.bytes_taken = progress.total_bytes

    def not_on_device(self) -> None:
        """Take note that it came to nothing."""
        self._device = None

    def snapshot(self) -> Load:
        """Describe the load as it stands now."""
        started, progress = self._device or (self._started, self._progress)
        finished, error = progress.finished, progress.error
        return Load(
            path=self._path,
            name=PurePath(self._path).name,
            bytes=self.bytes_taken,
            started=started,
            seconds=None if finished is None else max(0.0, finished - started),
            source=self._source,
            error=os.strerror(error) if error else None,
        )


_lock = ForkLock()
_records: deque[Record] = deque(maxlen=_LIMIT)


def add(record: Record) -> None:
    """Keep a record; of very many, the latest."""
    with _lock:
        _records.append(record)


def loads() -> list[Load]:
    """Return the loads since the last reset, in the order of their first tensors."""
    with _lock:
        records = list(_records)
    return [record.snapshot() for record in records]


def reset_loads() -> None:
    """Forget the loads so far."""
    with _lock:
        _records.clear()
