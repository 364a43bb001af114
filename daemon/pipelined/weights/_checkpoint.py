"""An open weights file: when it is read ahead, and the record of what was taken from it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from pipelined.weights import _mapped_files, _moves, _records
from pipelined.weights._extension import extension
from pipelined.weights._locks import ForkLock
from pipelined.weights._tensors import adopt, adopt_all

if TYPE_CHECKING:
    import torch

    from pipelined._weights import Checkpoint


class OpenCheckpoint:
    """A file that stays mapped for as long as a tensor of it lives. Thread-safe.

    Raises OSError, FormatError; for an unknown name SafetensorError, with the words of safetensors.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        started = time.monotonic()
        self._checkpoint = extension.Checkpoint(os.fsencode(path))
        self._lock = ForkLock()
        self._taken: set[str] = set()
        self._taken_bytes = 0
        self._record = _records.Record(
            str(Path(path).absolute()),
            started,
            self._checkpoint.source,
            self._checkpoint.progress,
        )
        self._is_recorded = False
        self._reading_ahead = False
        self.file = _mapped_files.MappedFile(self._checkpoint, self._record)
        _mapped_files.register(self.file)

    def names(self) -> list[str]:
        """Return the tensors' names in alphabetical order."""
        return self._checkpoint.names()

    def names_by_offset(self) -> list[str]:
        """Return the tensors' names in the order of the file."""
        return self._checkpoint.names_by_offset()

    def metadata(self) -> dict[str, str] | None:
        """Return the header's free-form part, or None."""
        return self._checkpoint.metadata()

    def dtype(self, name: str) -> str:
        """Return a dtype as the format spells it."""
        try:
            return self._checkpoint.dtype(name)
        except KeyError:
            raise _missing(name) from None

    def shape(self, name: str) -> list[int]:
        """Return a shape in elements."""
        try:
            return self._checkpoint.shape(name)
        except KeyError:
            raise _missing(name) from None

    def nbytes(self, name: str) -> int:
        """Return a size in bytes."""
        try:
            return self._checkpoint.nbytes(name)
        except KeyError:
            raise _missing(name) from None

    @property
    def path(self) -> str:
        """The file's path."""
        return self._path

    @property
    def mapped(self) -> Checkpoint:
        """The file in memory, for whoever keeps it there."""
        return self._checkpoint

    def want(self, name: str) -> None:
        """Take note that a tensor will be asked for. Raises as `tensor` does."""
        self.dtype(name)
        self.file.want(name)

    def part(self, name: str, index: Any) -> torch.Tensor:
        """Return a part of a tensor, indexed as torch does."""
        return self.tensor(name)[index]

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor, which keeps the file mapped."""
        dtype = self.dtype(name)
        capsule = self._checkpoint.tensor(name)
        self._take(name)
        _moves.watch()
        return adopt(capsule, dtype)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors in the order of the file; starts to read it ahead."""
        self.read_ahead()
        _moves.watch()
        return adopt_all(self._checkpoint.tensors())

    def read_ahead(self) -> None:
        """Start to read the file into memory, for somebody who wants all of it."""
        self.file.want_all()
        self._read_ahead()

    def _take(self, name: str) -> None:
        if self._reading_ahead:
            return
        self.file.want(name)
        record = self._recorded()
        with self._lock:
            if name not in self._taken:
                self._taken.add(name)
                self._taken_bytes += self._checkpoint.nbytes(name)
            enough = len(self._taken) >= _mapped_files.TENSORS_BEFORE_THE_WHOLE
            taken = self._taken_bytes
            record.bytes_taken = max(taken, record.bytes_taken)
        if enough or taken == self._checkpoint.progress.total_bytes:
            self._read_ahead()

    def _read_ahead(self) -> None:
        self._recorded().bytes_taken = self._checkpoint.progress.total_bytes
        # What is on its way to a device is wanted there, and read for it.
        if not self.file.is_moving:
            self._checkpoint.populate()
            self._reading_ahead = True

    def _recorded(self) -> _records.Record:
        with self._lock:
            if not self._is_recorded:
                self._is_recorded = True
                _records.add(self._record)
        return self._record


def takes_all(index: object) -> bool:
    """Whether an index, as torch takes it, takes all of a tensor."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is ... or part == slice(None) for part in parts)


def _missing(name: str) -> SafetensorError:
    return SafetensorError(f"File does not contain tensor {name}")
