"""Observers: the one that does nothing, and several as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelined.core.ports import NodeTime, Observer, Worker
from pipelined.core.specification import Specification
from pipelined.core.stages import Stage, Timeline

if TYPE_CHECKING:
    from pipelined.core.run import Run


class Unobserved:
    """Heeds nothing; a base for observers that heed some of it."""

    def deployment_changed(self, name: str, *, exists: bool) -> None:
        """See Observer."""

    def run_created(self, run: Run) -> None:
        """See Observer."""

    def run_begun(self, run: Run) -> None:
        """See Observer."""

    def run_queued_again(self, run: Run) -> None:
        """See Observer."""

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """See Observer."""

    def stage_ended(self, name: str, stage: Stage) -> None:
        """See Observer."""

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """See Observer."""

    def worker_died(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""

    def worker_replaced(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""


UNOBSERVED: Observer = Unobserved()


class Observers(Unobserved):
    """Tells each of several observers, in their order.

    Args:
        observers: They.
        broken: Is told what one of them has raised, which is no reason for a run to fail.
    """

    def __init__(self, *observers: Observer, broken: Callable[[Exception], None]) -> None:
        self._broken = broken
        # By the method: of those who do something in it.
        self._heeding: dict[str, list[Callable[..., None]]] = {
            name: [
                getattr(observer, name)
                for observer in observers
                if getattr(type(observer), name) is not getattr(Unobserved, name)
            ]
            for name in vars(Unobserved)
            if not name.startswith("_")
        }

    def deployment_changed(self, name: str, *, exists: bool) -> None:
        """See Observer."""
        self._tell("deployment_changed", name, exists=exists)

    def run_created(self, run: Run) -> None:
        """See Observer."""
        self._tell("run_created", run)

    def run_begun(self, run: Run) -> None:
        """See Observer."""
        self._tell("run_begun", run)

    def run_queued_again(self, run: Run) -> None:
        """See Observer."""
        self._tell("run_queued_again", run)

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """See Observer."""
        self._tell("run_ended", run, nodes)

    def stage_ended(self, name: str, stage: Stage) -> None:
        """See Observer."""
        self._tell("stage_ended", name, stage)

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """See Observer."""
        self._tell("startup_ended", timeline, error)

    def worker_died(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""
        self._tell("worker_died", specification, worker)

    def worker_replaced(self, specification: Specification, worker: Worker) -> None:
        """See Observer."""
        self._tell("worker_replaced", specification, worker)

    def _tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        for tell in self._heeding[method]:
            try:
                tell(*args, **kwargs)
            except Exception as error:  # noqa: PERF203  # one must not keep the others from it
                self._broken(error)
