"""Weights in the memory of a CUDA device."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError

from pipelined.weights import _devices, _records
from pipelined.weights._progress import FileProgress, LoadProgress, ProgressCallback
from pipelined.weights._tensors import adopt

if TYPE_CHECKING:
    import torch

    from pipelined._weights import DeviceCheckpoint

State = Literal["loading", "enqueued", "awake", "asleep", "failed"]

# Signals, and an event that ends the load, are looked at so often.
_MILLISECONDS_BETWEEN_LOOKS = 50


@dataclass(frozen=True)
class ArenaStats:
    """What an arena holds and what it took. Bytes and seconds; no seconds before the first time.

    `resident_bytes` is physical memory, now; `saved_bytes` is host memory with what differs from
    the files, while asleep. Of what was read so far, `buffered_bytes` came through the page cache
    and `direct_bytes` past it.
    """

    state: State
    tensor_bytes: int
    resident_bytes: int
    saved_bytes: int
    chunks: int
    buffered_bytes: int
    direct_bytes: int
    load_seconds: float
    sleep_seconds: float
    wake_seconds: float


@dataclass(frozen=True)
class _Entry:
    file: int
    index: int
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Arena:
    """The tensors of one or several files on a CUDA device, in one range of its addresses.

    Asleep, the device's memory is given back and the addresses stay: tensors made before remain
    valid objects, but nothing may use them until the arena is awake. Each tensor keeps all of the
    arena; its memory is freed with the last of them and of the `Arena` objects. Thread-safe.
    """

    def __init__(self, checkpoint: DeviceCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._paths = [os.fsdecode(path) for path in checkpoint.paths()]
        self._entries: dict[str, _Entry] = {}
        for file in range(len(self._paths)):
            for index, (name, dtype, shape, nbytes) in enumerate(checkpoint.entries(file)):
                if name in self._entries:
                    other = self._paths[self._entries[name].file]
                    raise SafetensorError(
                        f"tensor {name!r} is in both {other} and {self._paths[file]}"
                    )
                self._entries[name] = _Entry(file, index, dtype, tuple(shape), nbytes)

    @property
    def device(self) -> str:
        """The device, such as "cuda:0"."""
        return f"cuda:{self._checkpoint.ordinal}"

    @property
    def paths(self) -> list[str]:
        """The files."""
        return list(self._paths)

    def names(self) -> list[str]:
        """Return the tensors' names, in the order of the files and within them."""
        return list(self._entries)

    def dtype(self, name: str) -> str:
        """Return a dtype as the format spells it."""
        return self._entry(name).dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a shape in elements."""
        return self._entry(name).shape

    def address(self, name: str) -> int:
        """Return the address on the device, for ever the same; 0 for a tensor without elements."""
        entry = self._entry(name)
        return self._checkpoint.address(entry.file, entry.index)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor, once all bytes were read, ready for the current stream.

        Raises what the load failed with, Asleep, UnsupportedDtype.
        """
        entry = self._entry(name)
        self._ready_current_stream()
        return adopt(self._checkpoint.capsule(entry.file, entry.index), entry.dtype)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors, like `tensor`."""
        self._ready_current_stream()
        return {
            name: adopt(self._checkpoint.capsule(entry.file, entry.index), entry.dtype)
            for name, entry in self._entries.items()
        }

    def read_back(self, name: str) -> bytes:
        """Return a tensor's bytes, copied from the device. Raises CudaError, Asleep."""
        entry = self._entry(name)
        return self._checkpoint.read_back(entry.file, entry.index)

    def wait(
        self, progress: ProgressCallback | None = None, cancelled: Event | None = None
    ) -> None:
        """Wait until every byte is on the device.

        Raises what the load failed with: CudaError, OverBudget, OSError, FileChanged; Cancelled
        after `cancel`, or when the event is set. A callback that raises, and KeyboardInterrupt,
        cancel the load too.
        """
        try:
            for step in self._steps():
                if cancelled is not None and cancelled.is_set():
                    self._checkpoint.cancel()
                if progress is not None and step is not None:
                    progress(step)
        except BaseException:
            self._checkpoint.cancel()
            raise
        self._checkpoint.wait()

    def cancel(self) -> None:
        """End a load, `sleep` or `wake` that is under way, which then raises Cancelled."""
        self._checkpoint.cancel()

    def sleep(self, *, unmodified: bool = False) -> None:
        """Give the device's memory back, and keep the addresses.

        Waits for all work on the device; nothing may use the tensors meanwhile. What was written
        since the load is kept in host memory. To find it, everything is copied from the device and
        compared with the files, which takes about as long as loading; `unmodified` says that
        nothing was written since the load or the last `wake`, and saves that.

        Raises FileChanged where the files could not bring the rest back, CudaError, OSError and
        Cancelled; the arena is awake then.
        """
        self._checkpoint.sleep(unmodified)

    def wake(self) -> None:
        """Bring everything back to where it was, and wait for it.

        Raises FileChanged, OverBudget, CudaError, OSError and Cancelled; the arena is asleep then.
        """
        self._checkpoint.wake()

    def stats(self) -> ArenaStats:
        """Return figures as they are now."""
        return ArenaStats(**self._checkpoint.stats())

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise SafetensorError(f"File does not contain tensor {name}") from None

    def _ready_current_stream(self) -> None:
        import torch

        ordinal = self._checkpoint.ordinal
        self._checkpoint.wait_enqueued()
        self._checkpoint.make_wait(torch.cuda.current_stream(ordinal).cuda_stream)

    def _steps(self) -> Iterator[LoadProgress | None]:
        """News until the load is over, and None where there is none for a while."""
        state, loaded = "", -1
        while True:
            news = self._checkpoint.news(state, max(loaded, 0), _MILLISECONDS_BETWEEN_LOOKS)
            state, changed = news[0], news[1] != loaded
            loaded = news[1]
            if changed and state != "failed":
                files = zip(self._paths, self._checkpoint.progress(), strict=True)
                yield LoadProgress(
                    *news[1:],
                    tuple(
                        FileProgress(path, min(one.loaded_bytes, one.total_bytes), one.total_bytes)
                        for path, one in files
                    ),
                )
            else:
                yield None
            if state not in ("loading", "enqueued"):
                return


def begin(
    paths: Sequence[str | os.PathLike[str]],
    device: int = 0,
    *,
    driver: str | None = None,
    read: Literal["automatic", "buffered", "direct"] = "automatic",
    wait_for_memory: bool = False,
) -> Arena:
    """Begin to load files onto a CUDA device, given by its ordinal; return before they are there.

    `driver` is the path of libcuda where it is not the usual one. `read` is how files are read:
    through the page cache, with O_DIRECT, or through it unless a large cold file proves faster
    without. Where the budget of device memory is used up, `wait_for_memory` waits for other arenas
    to be put to sleep or dropped.

    Raises OSError, FormatError, DriverMissing, CudaError, and OverBudget where the files would
    never fit. Later failures are raised by the arena's methods.
    """
    started = time.monotonic()
    names = [os.fsencode(path) for path in paths]
    opened = _devices.device(device, driver)
    checkpoint = opened.load(names, read, wait_for_memory)
    arena = Arena(checkpoint)
    for index, (path, progress) in enumerate(zip(arena.paths, checkpoint.progress(), strict=True)):
        record = _records.Record(
            str(Path(path).absolute()), started, checkpoint.source(index), progress
        )
        record.bytes_taken = progress.total_bytes
        _records.add(record)
    return arena


def arenas() -> list[Arena]:
    """Return what was loaded onto CUDA devices and is still held, be it only by a tensor."""
    return [Arena(checkpoint) for device in _devices.open_devices() for checkpoint in device.live()]
