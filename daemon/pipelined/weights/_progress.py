"""How a load tells its caller how far it has got, and how the caller ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FileProgress:
    """How much of one file's tensors is where it should be."""

    path: str
    loaded_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class LoadProgress:
    """How far a load has got. A tensor counts once all its bytes are there."""

    loaded_bytes: int
    total_bytes: int
    loaded_tensors: int
    total_tensors: int
    files: tuple[FileProgress, ...]

    @property
    def finished(self) -> bool:
        """Whether everything is there."""
        return (self.loaded_bytes, self.loaded_tensors) == (self.total_bytes, self.total_tensors)


# Called by the thread that loads, with each step; the last one is finished. What it raises ends the
# load and is raised from there.
ProgressCallback = Callable[[LoadProgress], None]
