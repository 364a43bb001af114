"""An open weights file whose tensors are wanted on a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelined.weights._checkpoint import OpenCheckpoint, takes_all

if TYPE_CHECKING:
    import torch


class DeviceFile(OpenCheckpoint):
    """Hands out tensors on a device. Thread-safe.

    The first tensor that is asked for alone, parts of tensors, and a tensor that is asked for again
    are copied from the mapped file by torch. With the second, as with all at once, the whole file
    goes to the device through the pinned ring: whoever asks for a second tensor will ask for the
    rest. Where there is no room for the whole file, each tensor is copied by itself.
    """

    def __init__(self, path: str, ordinal: int) -> None:
        super().__init__(path)
        self._ordinal = ordinal
        load = self.file.load_onto(ordinal)
        # Nobody else knows the file yet, who could be loading it onto another device.
        assert load is not None
        self._load = load

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor on the device."""
        self.want(name)
        if self.file.wants_all:
            taken = self._load.take(self._checkpoint, name, wait=True)
            if taken is not None:
                self._recorded()
                return taken
        return self._copied(name, ...)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors on the device, in the order of the file."""
        self.file.want_all()
        taken = self._load.take_all(self._checkpoint)
        if taken is not None:
            self._recorded()
            return taken
        return {name: self.tensor(name) for name in self.names_by_offset()}

    def part(self, name: str, index: Any) -> torch.Tensor:
        """Return a part of a tensor, taken before it is copied."""
        return self.tensor(name)[index] if takes_all(index) else self._copied(name, index)

    def _copied(self, name: str, index: Any) -> torch.Tensor:
        return super().tensor(name)[index].to(f"cuda:{self._ordinal}")
