"""The timed stages of a startup."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum


class StageKind(Enum):
    """What a stage was spent on; the wire's ``Stage.Kind`` has the same members."""

    QUEUE = 1
    FORK = 2
    CODE = 3
    IMPORTS = 4
    WEIGHTS = 5
    NODE = 6
    READY = 7
    FIRST_RUN = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        kind: What the time went into.
        name: Node, weights file or modules; else empty.
        start_seconds: From the timeline's zero to the beginning.
        seconds: Duration.
        bytes: Of a weights file: its tensors' bytes.
        source: "fork" or "exec"; of a weights file, where its bytes were when it was opened:
            "disk", "page cache" or "unknown".
    """

    kind: StageKind
    name: str = ""
    start_seconds: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    source: str = ""


@dataclass(slots=True)
class Timeline:
    """The stages of one startup of an instance and of the first run after it.

    Attributes:
        deployment: Its name.
        version: Its version.
        startup: Counts the startups of the deployment in the life of the daemon, from 1.
        started_at: Seconds since the epoch.
        zero: CLOCK_MONOTONIC in seconds at ``started_at``: stages count from here.
        stages: In the order in which they ended.
        worker_pid: Process of the instance; 0 until there is one.
    """

    deployment: str
    version: int
    startup: int
    started_at: float = field(default_factory=time.time)
    zero: float = field(default_factory=time.monotonic)
    stages: list[Stage] = field(default_factory=list)
    worker_pid: int = 0
