"""What a daemon does, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

__all__ = ["DaemonStats", "DeploymentStats", "ProcessMemory"]


@dataclass(frozen=True)
class ProcessMemory:
    """What processes hold, in bytes.

    Attributes:
        resident: what is in memory, with what they share with others.
        anonymous: of that, what is no file's.
        proportional: what is in memory, with what is shared divided by the number of those who
            share it; None if the daemon's kernel does not say.

    """

    resident: int
    anonymous: int
    proportional: int | None


@dataclass(frozen=True)
class DeploymentStats:
    """The work of one deployment, all its versions together.

    Counts are of the time since the daemon was started, or since the deployment has been there.

    Attributes:
        name: its name.
        version: the newest.
        state: of the newest, as ``Deployment.state``.
        instances: how many there are by state.
        worker_pids: processes of the live ones.
        memory: of the workers together.
        weights_bytes: of the files of weights that live workers have loaded when they started.
        queued: runs that wait.
        running: runs that workers have.
        succeeded: runs that ended so.
        failed: the same.
        cancelled: the same.
        cold_starts: runs that waited for a startup.
        warm_starts: runs that did not.
        restarts: warm workers that ended unasked.
        runs_per_second: that succeeded, in the last minute.
        seconds_p50: from the call to the end, half of those took at most; 0 if there are none.
        seconds_p99: the same, of 99 in 100.

    """

    name: str
    version: int
    state: str
    instances: Mapping[str, int]
    worker_pids: tuple[int, ...]
    memory: ProcessMemory
    weights_bytes: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    cold_starts: int
    warm_starts: int
    restarts: int
    runs_per_second: float
    seconds_p50: float
    seconds_p99: float


@dataclass(frozen=True)
class DaemonStats:
    """The work of a daemon.

    Attributes:
        deployments: ordered by name.
        started_at: in UTC.
        memory: of the daemon's own process.
        open_files: descriptors of the daemon's own process.
        stored_bytes: of uploaded files and of those that runs gave back.
        failed_calls: calls that were answered with an error, by its reason.

    """

    deployments: tuple[DeploymentStats, ...]
    started_at: datetime
    memory: ProcessMemory
    open_files: int
    stored_bytes: int
    failed_calls: Mapping[str, int]
