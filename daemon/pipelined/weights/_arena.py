"""Where the tensors of loaded files lie, whatever the device."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError

from pipelined.weights._progress import LoadProgress, ProgressCallback

if TYPE_CHECKING:
    import torch

State = Literal["loading", "enqueued", "awake", "asleep", "failed"]

# Signals, and an event that ends the load, are looked at so often.
MILLISECONDS_BETWEEN_LOOKS = 50


@dataclass(frozen=True)
class ArenaStats:
    """What an arena holds and what it took. Bytes and seconds; no seconds before the first time.

    `resident_bytes` is physical memory behind the tensors, now: of the device, or what this process
    has mapped of the host's, be it shared with the page cache or its own. `saved_bytes` is host
    memory that no sleep gives back, because it holds what was written to tensors: on the CPU at any
    time, of a CUDA device while asleep. The files are read in `chunks` steps; of what was read so
    far, `buffered_bytes` came through the page cache and `direct_bytes` past it.
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


# Name, dtype, shape and bytes of a tensor, as the extension has them.
_Described = tuple[str, str, list[int], int]


@dataclass(frozen=True)
class Entry:
    """A tensor of an arena: which of the files it is in, and its position among that one's."""

    file: int
    index: int
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Arena(ABC):
    """The tensors of one or several files, on a CUDA device or the CPU.

    It can be put to `sleep`, which gives memory back, and woken; addresses stay, and so do the
    tensors made before. On a CUDA device, nothing may use them until the arena is awake, and each
    of them keeps the memory of all; on the CPU they can be used at any time, and each keeps its own
    file mapped. The memory is freed with the last tensor and `Arena` object. Thread-safe.

    In a process that is forked, arenas on the CPU go on as they are, each process with its own;
    those on CUDA devices are of no use.
    """

    def __init__(self, files: Sequence[tuple[str, Sequence[_Described]]]) -> None:
        self._paths = [path for path, _ in files]
        self._entries: dict[str, Entry] = {}
        for file, (path, entries) in enumerate(files):
            for index, (name, dtype, shape, nbytes) in enumerate(entries):
                if name in self._entries:
                    other = self._paths[self._entries[name].file]
                    raise SafetensorError(f"tensor {name!r} is in both {other} and {path}")
                self._entries[name] = Entry(file, index, dtype, tuple(shape), nbytes)

    @property
    @abstractmethod
    def device(self) -> str:
        """The device: "cpu", or such as "cuda:0"."""

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

    @abstractmethod
    def address(self, name: str) -> int:
        """Return the address on the device, for ever the same; 0 for a tensor without elements."""

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor; on a CUDA device, once the current stream may use it.

        Raises UnsupportedDtype, and on a CUDA device what the load failed with and Asleep.
        """
        entry = self._entry(name)
        self._make_ready()
        return self._tensor(name, entry)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors, like `tensor`."""
        self._make_ready()
        return {name: self._tensor(name, entry) for name, entry in self._entries.items()}

    @abstractmethod
    def read_back(self, name: str) -> bytes:
        """Return a tensor's bytes as they are now. Raises CudaError, Asleep on a CUDA device."""

    def wait(
        self, progress: ProgressCallback | None = None, cancelled: Event | None = None
    ) -> None:
        """Wait until every byte is where it should be: on the device, or in memory.

        On the CPU, what nobody had asked for is read from here on. Returns at once while asleep.

        Raises what the load failed with: CudaError, OverBudget, OSError, FileChanged; Cancelled
        after `cancel`, or when the event is set. A callback that raises, and KeyboardInterrupt,
        cancel the load too.
        """
        try:
            for step in self._steps():
                if cancelled is not None and cancelled.is_set():
                    self.cancel()
                if progress is not None and step is not None:
                    progress(step)
        except BaseException:
            self.cancel()
            raise
        self._check()

    @abstractmethod
    def cancel(self) -> None:
        """End what is under way: a load, which then raises Cancelled; on a device, `sleep`, `wake`.

        Tensors on the CPU can still be used: what was not read is read when it is touched.
        """

    @abstractmethod
    def sleep(self, *, unmodified: bool = False) -> None:
        """Give memory back, and keep the addresses; what was written to tensors is not lost.

        On a CUDA device, waits for all work on it; nothing may use the tensors meanwhile. What was
        written since the load is kept in host memory. To find it, everything is copied from the
        device and compared with the files, which takes about as long as loading; `unmodified` says
        that nothing was written since the load or the last `wake`, and saves that.

        On the CPU, each page of memory that was written to stays, and the others are given back:
        they are the files', and are read again when somebody touches them. Nothing may write to a
        tensor meanwhile; reading does no harm. It does nothing to what other mappings of the same
        files, and the page cache, hold.

        Raises FileChanged where the files could not bring the rest back, CudaError, OSError and
        Cancelled; the arena is then what it was before.
        """

    @abstractmethod
    def wake(self) -> None:
        """Bring everything back to where it was.

        On a CUDA device, waits for it. On the CPU, it returns at once and the files are read ahead
        of their reader, if they were before; `wait` waits for that.

        Raises FileChanged, OverBudget, CudaError, OSError and Cancelled; the arena is asleep then.
        """

    @abstractmethod
    def stats(self) -> ArenaStats:
        """Return figures as they are now. Raises OSError where the kernel does not tell them."""

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise SafetensorError(f"File does not contain tensor {name}") from None

    @abstractmethod
    def _make_ready(self) -> None:
        """Have tensors that are made from here on find their bytes."""

    @abstractmethod
    def _tensor(self, name: str, entry: Entry) -> torch.Tensor:
        """Make a tensor."""

    @abstractmethod
    def _steps(self) -> Iterator[LoadProgress | None]:
        """News until the load is over, and None where there is none for a while."""

    @abstractmethod
    def _check(self) -> None:
        """Raise what the load failed with."""


def path_of(path: bytes) -> str:
    """Return a path as Python has it, from the extension's."""
    return os.fsdecode(path)
