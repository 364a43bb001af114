"""How to watch a graph while it runs."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Observer"]


class Observer(Protocol):
    """Told when a node starts and finishes, in the thread that executes it."""

    def node_started(self, name: str) -> None:
        """Be told that a node, such as ``"Model.load"``, is about to be executed."""

    def node_finished(self, name: str, seconds: float) -> None:
        """Be told that a node has returned, and how long it took. Not called if it raised."""
