"""The load of one open file onto a device, begun by whoever needs it first."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING

from pipelined.weights import _devices, _records
from pipelined.weights._cuda_arena import CudaArena
from pipelined.weights._locks import ForkLock
from pipelined.weights._noting import noting
from pipelined.weights.errors import (
    Asleep,
    Cancelled,
    CudaError,
    DriverMissing,
    LoadError,
    OverBudget,
)

if TYPE_CHECKING:
    import torch

    from pipelined._weights import Checkpoint

_log = logging.getLogger("pipelined.weights")

# CUDA_ERROR_OUT_OF_MEMORY, and CUDA_ERROR_NOT_SUPPORTED: what devices answer that have no
# virtual memory management, such as some virtual GPUs. Torch can load what an arena cannot.
_NO_ARENA = (2, 801)
_FAILURES = (LoadError, OSError)


class DeviceLoad:
    """Gives each tensor of a file out once, from an arena with the whole file. Thread-safe.

    Once, because a copy of a tensor is what is asked for, and two that share their memory are none.
    The arena is held until every tensor was given out, or this object dies; from there on the
    tensors keep it alive.

    Where there is no room for the file, no driver, or a device without virtual memory management,
    the log says so once, and from there on there is nothing to be had from here.
    """

    def __init__(self, record: _records.Record, ordinal: int) -> None:
        self._record = record
        self._ordinal = ordinal
        self._lock = ForkLock()
        self._arena: CudaArena | None = None
        # Names still to be given out; None before the load has begun.
        self._left: set[str] | None = None
        self._told = False
        # What the load ended with, for everybody who wants a tensor of it.
        self._failure: Exception | None = None
        self._arrived = False

    @property
    def gave_all(self) -> bool:
        """Whether nothing is to be had from here any longer."""
        return self._left is not None and not self._left

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not given all out."""
        return self._arena is not None

    def take(self, checkpoint: Checkpoint, name: str, *, wait: bool) -> torch.Tensor | None:
        """Return a tensor, once the whole file was read; None if it must be copied by itself.

        Waits until the bytes are on the device, or has the current stream wait for them.
        Raises FileChanged, CudaError and OSError, and the same for all tensors from there on.
        """
        try:
            arena = self._reserve(checkpoint, name)
            if arena is None:
                return None
            if wait:
                self._wait(arena)
            return arena.tensor(name)
        except _FAILURES as error:
            self._give_up_after(error)
            return None

    def take_all(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor] | None:
        """Return all tensors, in the order of the file, like `take`; None if one was taken."""
        try:
            with self._lock:
                arena = self._begun(checkpoint)
                if arena is None or self._left != set(arena.names()):
                    return None
                self._left = set()
                self._arena = None
            self._wait(arena)
            return arena.tensors()
        except _FAILURES as error:
            self._give_up_after(error)
            return None

    def give_up(self, reason: str) -> None:
        """Let the arena go, and give out nothing more; the log says why."""
        with self._lock:
            told, self._told = self._told, True
            self._arena, self._left = None, set()
        self._record.not_on_device()
        if not told:
            _log.warning(
                "%s goes to cuda:%d a tensor at a time: %s",
                self._record.path,
                self._ordinal,
                reason,
            )

    def _wait(self, arena: CudaArena) -> None:
        if not self._arrived:
            arena.wait()
            self._arrived = True

    def _reserve(self, checkpoint: Checkpoint, name: str) -> CudaArena | None:
        with self._lock:
            arena = self._begun(checkpoint)
            if arena is None or self._left is None or name not in self._left:
                return None
            self._left.discard(name)
            if not self._left:
                self._arena = None
            return arena

    def _begun(self, checkpoint: Checkpoint) -> CudaArena | None:
        if self._failure is not None:
            raise self._failure
        if self._left is None:
            started = time.monotonic()
            _return_unused_memory()
            # What threads are reading into memory is not to be read past it at the same time.
            mode = "buffered" if checkpoint.progress.loaded_bytes else "automatic"
            with noting([self._record.path]):
                loaded = _devices.device(self._ordinal).load_open([checkpoint], mode, False)
            self._record.on_device(started, loaded.progress()[0])
            self._arena = CudaArena(loaded)
            self._left = set(self._arena.names())
        return self._arena

    def _give_up_after(self, error: Exception) -> None:
        if _may_be_copied(error):
            # As text: whoever keeps the record would keep all that the error's frames hold.
            self.give_up(str(error))
            return
        with self._lock:
            self._failure = error
            self._arena = None
        raise error


def _may_be_copied(error: Exception) -> bool:
    """Whether torch's own way can do what failed here."""
    if isinstance(error, CudaError):
        return error.code in _NO_ARENA
    if isinstance(error, OSError):
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    # Cancelled: by an interrupt during a call that waited for the bytes.
    return isinstance(error, OverBudget | DriverMissing | Asleep | Cancelled)


def _return_unused_memory() -> None:
    """Give the device what torch keeps of it without using it.

    transformers and diffusers make torch allocate as much memory as the model will take before they
    load it (`caching_allocator_warmup`), and drop it at once, so that it waits in torch's cache.
    The arena cannot take it from there: the model would need twice its memory.
    """
    import torch

    torch.cuda.empty_cache()
