"""What is said of a pointer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PointerGet"]


@dataclass(frozen=True)
class PointerGet:
    """A name for one version of a pipeline.

    Attributes:
        id: the same as ``pointer``.
        pointer: ``"name:tag"``.
        pipeline_id: what it names, ``"name:v3"``.
        locked: it is not set to something else or deleted before it is unlocked.

    """

    id: str
    pointer: str
    pipeline_id: str
    locked: bool
