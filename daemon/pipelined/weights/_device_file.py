"""An open weights file whose tensors are wanted on a CUDA device."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pipelined.weights import _arena
from pipelined.weights._checkpoint import OpenCheckpoint
from pipelined.weights.errors import CudaError, OverBudget

if TYPE_CHECKING:
    import torch

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


class DeviceFile(OpenCheckpoint):
    """Hands out tensors on a device. Thread-safe.

    The first tensor that is asked for alone, and parts of tensors, are copied from the mapped file
    by torch. With the second, as with all at once, the whole file goes to the device through the
    pinned ring: whoever asks for a second tensor will ask for the rest. Where there is no room for
    the whole file, each tensor is copied by itself.
    """

    def __init__(self, path: str, ordinal: int) -> None:
        super().__init__(path)
        self._ordinal = ordinal
        self._arena_lock = threading.Lock()
        self._arena: _arena.Arena | None = None
        self._alone: set[str] | None = set()

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor on the device."""
        self.dtype(name)
        arena = self._arena_from_second_on(name)
        if arena is not None:
            try:
                return arena.tensor(name)
            except (OverBudget, CudaError) as error:
                self._give_up_arena(error)
        return self.part(name, ...)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors on the device, in the order of the file."""
        return self._whole().tensors()

    def part(self, name: str, index: Any) -> torch.Tensor:
        """Return a part of a tensor, taken before it is copied."""
        return super().tensor(name)[index].to(f"cuda:{self._ordinal}")

    def _whole(self) -> _arena.Arena:
        with self._arena_lock:
            if self._arena is None:
                self._arena = _arena.begin([self.path], self._ordinal)
            return self._arena

    def _arena_from_second_on(self, name: str) -> _arena.Arena | None:
        with self._arena_lock:
            if self._arena is not None or self._alone is None:
                return self._arena
            self._alone.add(name)
            if len(self._alone) == 1:
                return None
        try:
            return self._whole()
        except (OverBudget, CudaError) as error:
            self._give_up_arena(error)
            return None

    def _give_up_arena(self, error: OverBudget | CudaError) -> None:
        if isinstance(error, CudaError) and error.code != _OUT_OF_MEMORY:
            raise error
        with self._arena_lock:
            self._arena, self._alone = None, None
