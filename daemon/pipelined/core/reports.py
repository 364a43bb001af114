"""What reports of the daemon's work say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelined.core.states import State


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What processes hold, in bytes.

    Attributes:
        resident: What is in memory, with what they share with others.
        anonymous: Of that, what is no file's: what the nursery had before the fork counts for each
            worker until one of them writes to it.
        proportional: What is in memory, with what is shared divided by the number of those who
            share it; None if the kernel does not say.
    """

    resident: int = 0
    anonymous: int = 0
    proportional: int | None = 0

    def __add__(self, other: ProcessMemory) -> ProcessMemory:
        """Both together."""
        parts = (self.proportional, other.proportional)
        return ProcessMemory(
            self.resident + other.resident,
            self.anonymous + other.anonymous,
            None if parts[0] is None or parts[1] is None else parts[0] + parts[1],
        )


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """The work of one deployment, all its versions together.

    Attributes:
        name: Its name.
        version: The newest.
        state: Of the newest.
        instances: How many there are by state.
        workers: Process ids of the live ones.
        memory: What the workers hold.
        weights_bytes: Of the files of weights that live workers have loaded.
        queued: Runs that wait.
        running: Runs that workers have.
        succeeded: Runs that ended so since the daemon was started.
        failed: The same.
        cancelled: The same.
        cold_starts: Runs that waited for a startup.
        warm_starts: Runs that did not.
        restarts: Warm workers that ended unasked.
        runs_per_second: That succeeded in the last minute.
        seconds_p50: From the call to the end, of those; half of them took no longer. 0 if none.
        seconds_p99: The same, of 99 in 100.
    """

    name: str
    version: int
    state: State
    instances: Mapping[State, int] = field(default_factory=dict)
    workers: Sequence[int] = ()
    memory: ProcessMemory = ProcessMemory()
    weights_bytes: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    cold_starts: int = 0
    warm_starts: int = 0
    restarts: int = 0
    runs_per_second: float = 0.0
    seconds_p50: float = 0.0
    seconds_p99: float = 0.0


@dataclass(frozen=True, slots=True)
class DaemonReport:
    """The work of the daemon.

    Attributes:
        deployments: Ordered by name.
        memory: What the daemon's own process holds.
        open_files: Descriptors of the daemon's own process.
        stored_bytes: Of uploaded files and of those that runs gave back.
        failed_calls: Calls that were answered with an error, by its reason.
    """

    deployments: Sequence[DeploymentReport]
    memory: ProcessMemory
    open_files: int
    stored_bytes: int
    failed_calls: Mapping[str, int]


# Makes a report.
Reporting = Callable[[], Awaitable[DaemonReport]]
