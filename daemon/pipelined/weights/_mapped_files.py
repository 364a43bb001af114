"""Which files are mapped, and which tensor of which of them begins at an address.

The registry keeps no file mapped: it knows a file for as long as a tensor or a handle of it lives.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pipelined.weights import _records
from pipelined.weights._device_load import DeviceLoad
from pipelined.weights._extension import extension
from pipelined.weights._locks import ForkLock

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
        self._lock = ForkLock()
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


_lock = ForkLock()
# Where the files begin, in the order of their addresses, and the files. Never changed but replaced,
# both at once: looking a tensor up takes no lock, and may interrupt everything else here.
_known: tuple[tuple[int, ...], tuple[MappedFile, ...]] = ((), ())


def register(file: MappedFile) -> None:
    """Make a file known, and forget those that are mapped no longer."""
    global _known
    with _lock:
        files = [*(known for known in _known[1] if known.mapped() is not None), file]
        files.sort(key=_begin_of)
        _known = tuple(map(_begin_of, files)), tuple(files)


def find(address: int) -> tuple[MappedFile, Checkpoint, str] | None:
    """Return the file that is mapped around an address, and the tensor that begins there."""
    begins, files = _known
    for at in range(bisect_right(begins, address) - 1, -1, -1):
        checkpoint = files[at].mapped()
        if checkpoint is not None:
            name = files[at].name_at(address)
            return None if name is None else (files[at], checkpoint, name)
        # Gone; a larger one may be mapped over where it was.
    return None


def live() -> list[Checkpoint]:
    """Return the files that are mapped now, in the order of their addresses."""
    mapped = [file.mapped() for file in _known[1]]
    return [checkpoint for checkpoint in mapped if checkpoint is not None]


def _begin_of(file: MappedFile) -> int:
    return file.begin
