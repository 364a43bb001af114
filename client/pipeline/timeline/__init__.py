"""The timed stages of one startup of an instance, and of the first run after it.

:mod:`pipeline.timeline.chart` draws one in a terminal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

__all__ = ["Stage", "Timeline"]


@dataclass(frozen=True)
class Stage:
    """One stage. Stages may lie inside each other: imports and weights happen inside nodes.

    Attributes:
        kind: ``"queue"``, ``"fork"``, ``"code"``, ``"imports"``, ``"weights"``, ``"node"``,
            ``"ready"`` or ``"first_run"``.
        name: of a node, ``"Entity.method"``; of weights, the file's name; of imports, the modules.
        start: seconds from the start of the timeline.
        seconds: how long it took; of imports, the sum over separate ones; of weights, until the
            whole file was in memory or on the device, or until the startup's end.
        bytes: of weights, the bytes of the file's tensors.
        source: of a fork, ``"fork"`` or ``"exec"``; of weights, where the bytes were when the file
            was opened: ``"disk"``, ``"page cache"`` or ``"unknown"``.

    """

    kind: str
    name: str
    start: float
    seconds: float
    bytes: int = 0
    source: str = ""


@dataclass(frozen=True)
class Timeline:
    """One startup of a deployment.

    Attributes:
        deployment: its name.
        version: of the deployment.
        startup: 1 for the first startup in the life of the daemon, and so on.
        started_at: when the instance was asked for, in UTC.
        stages: in the order of their beginnings.
        worker_pid: the process that the instance runs in.

    """

    deployment: str
    version: int
    startup: int
    started_at: datetime
    stages: tuple[Stage, ...]
    worker_pid: int

    @property
    def startup_seconds(self) -> float | None:
        """Seconds until the instance was ready; None if it never was."""
        return next((stage.start for stage in self.stages if stage.kind == "ready"), None)

    def to_dict(self) -> dict[str, object]:
        """Everything as plain data that JSON can hold; ``started_at`` in ISO 8601."""
        plain = asdict(self)
        plain["started_at"] = self.started_at.isoformat()
        plain["startup_seconds"] = self.startup_seconds
        return plain
