"""Which files are mapped, and which tensor of which of them begins at an address.

The registry keeps no file mapped: it knows a file for as long as a tensor or a handle of it lives.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pipelined.weights import _records
from pipelined.weights._device_load import DeviceLoad
from pipelined.weights._extension import extension

if TYPE_CHECKING:
    from pipelined._weights import Checkpoint

# Whoever asks for a second tensor will ask for the rest. One alone is what accelerate takes from a
# model that it keeps on the disk, opening the file each time: loading all of it would be a waste.
TENSORS_BEFORE_THE_WHOLE = 2


class MappedFile:
    """What outlives the handle of a file: what was wanted of it, and where it is going.

    `record` is the file's line in the timeline. Thread-safe.
    """

    def __init__(self, checkpoint: Checkpoint, record: _records.Record) -> None:
        self.record = record
        self._weak = extension.WeakCheckpoint(checkpoint)
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._enough = min(TENSORS_BEFORE_THE_WHOLE, len(checkpoint.names_by_offset()))
        self._wants_all = False
        self._loads: WeakValueDictionary[int, DeviceLoad] = WeakValueDictionary()

    @property
    def begin(self) -> int:
        """The address of the first byte of the tensors."""
        return self._weak.begin

    def mapped(self) -> Checkpoint | None:
        """Return the file, or None once it is mapped no longer."""
        return self._weak.lock()

    def name_at(self, address: int) -> str | None:
        """Return which tensor begins at an address. Means nothing once the file is not mapped."""
        return self._weak.name_at(address)

    def want(self, name: str) -> None:
        """Take note that somebody asked for a tensor, be it only for its description."""
        if not self._wants_all:
            with self._lock:
                self._wanted.add(name)
                self._wants_all = len(self._wanted) >= self._enough

    def want_all(self) -> None:
        """Take note that somebody asked for all tensors."""
        self._wants_all = True

    @property
    def wants_all(self) -> bool:
        """Whether it is worth it to load the whole file."""
        return self._wants_all

    @property
    def is_moving(self) -> bool:
        """Whether the file is on its way to a device."""
        return any(load.is_under_way for load in list(self._loads.values()))

    def load_onto(self, ordinal: int) -> DeviceLoad | None:
        """Return the load onto a device, for the caller to hold; None where it would be a waste.

        That is while another device has been given some tensors and not yet all: a model that is
        spread over devices would have all its weights on each.
        """
        with self._lock:
            found = self._loads.get(ordinal)
            if found is None:
                if not all(load.gave_all for load in self._loads.values()):
                    return None
                found = DeviceLoad(self.record, ordinal)
                self._loads[ordinal] = found
            return found


_lock = threading.Lock()
# In the order of their addresses, which `_begins` has.
_files: list[MappedFile] = []
_begins: list[int] = []
_prune_at = 64


def register(file: MappedFile) -> None:
    """Make a file known."""
    global _prune_at
    with _lock:
        if len(_files) >= _prune_at:
            alive = [known for known in _files if known.mapped() is not None]
            _files[:] = alive
            _begins[:] = [known.begin for known in alive]
            _prune_at = max(64, 2 * len(alive))
        at = bisect_left(_begins, file.begin)
        _files.insert(at, file)
        _begins.insert(at, file.begin)


def find(address: int) -> tuple[MappedFile, Checkpoint, str] | None:
    """Return the file that is mapped around an address, and the tensor that begins there."""
    with _lock:
        at = bisect_right(_begins, address) - 1
        while at >= 0:
            checkpoint = _files[at].mapped()
            if checkpoint is not None:
                name = _files[at].name_at(address)
                return None if name is None else (_files[at], checkpoint, name)
            # Gone; a larger one may be mapped over where it was.
            del _files[at], _begins[at]
            at -= 1
    return None


def live() -> list[Checkpoint]:
    """Return the files that are mapped now, in the order of their addresses."""
    with _lock:
        mapped = [file.mapped() for file in _files]
    return [checkpoint for checkpoint in mapped if checkpoint is not None]


def _after_fork() -> None:
    # The thread that held it in the parent does not exist in a forked child, and may have been
    # about to change the second list after the first.
    global _lock
    _lock = threading.Lock()
    _begins[:] = [file.begin for file in _files]


os.register_at_fork(after_in_child=_after_fork)
