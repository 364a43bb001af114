"""What the daemon says about a deployment, and about itself, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.schema import DeploymentSchema

if TYPE_CHECKING:
    from pipeline._requirements import RequirementStatus

__all__ = [
    "DaemonInfo",
    "Deployment",
    "Drained",
    "Environment",
    "Failure",
    "NurseryInfo",
    "Options",
    "Pointer",
]


@dataclass(frozen=True)
class Failure:
    """How the last startup failed.

    Attributes:
        type: the exception's class, such as ``"ValueError"``.
        message: its text.
        node: the node that raised, such as ``"Model.load"``; empty if none had been reached.
        traceback: as Python prints it, in the worker.

    """

    type: str
    message: str
    node: str
    traceback: str


@dataclass(frozen=True)
class Options:
    """How many workers a deployment has, and what each may take; None is no limit of its own.

    Attributes:
        min_instances: workers that are started when it is deployed, and kept.
        max_instances: workers that there may be.
        memory_bytes: that a worker may have of the host.
        threads: of a parallel operation in a worker.
        gpus: that each worker sees: how many, or which.
        cpu_seconds: time on processors that one run may take.
        open_files: that a worker may have at once.
        queue_length: runs that may wait for a worker.
        concurrent_runs: runs that are executed at once.

    """

    min_instances: int = 0
    max_instances: int = 1
    memory_bytes: int | None = None
    threads: int | None = None
    gpus: int | tuple[str, ...] | None = None
    cpu_seconds: float | None = None
    open_files: int | None = None
    queue_length: int | None = None
    concurrent_runs: int | None = None


@dataclass(frozen=True)
class Deployment:
    """A named, versioned pipeline, as it was when the daemon was asked.

    Attributes:
        name: unique in the daemon.
        version: 1 for the first version under the name, then 2, and so on.
        state: ``"cold"``, ``"starting"``, ``"warm"``, ``"asleep"``, ``"failed"`` or ``"draining"``.
        digest: hexadecimal digest of the graph's topology, constants and code.
        schema: what it takes and gives; ``schema()`` is the JSON Schema of that.
        created_at: when this version was deployed, in UTC.
        instances: workers that there may be.
        environment: names of the environment variables that it sets; values are never shown.
        failure: in state ``"failed"``, why.
        worker_pids: live worker processes.
        runs_succeeded: runs that ended well in the life of the daemon.
        runs_failed: runs that did not.
        startups: startups in the life of the daemon.
        pointers: that name this version, such as ``"prod"`` for ``NAME:prod``.
        options: that hold for its workers.
        secrets: names of its secrets; nothing shows their values.
        worker_memory: bytes of memory that each worker has, if that was asked for.

    """

    name: str
    version: int
    state: str
    digest: str
    schema: DeploymentSchema
    created_at: datetime
    instances: int = 1
    environment: tuple[str, ...] = ()
    failure: Failure | None = None
    worker_pids: tuple[int, ...] = ()
    runs_succeeded: int = 0
    runs_failed: int = 0
    startups: int = 0
    pointers: tuple[str, ...] = ()
    options: Options = Options()
    secrets: tuple[str, ...] = ()
    worker_memory: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pointer:
    """A name of its own for one version of a deployment, which can be set to another.

    Attributes:
        pointer: what it is referred to by, ``NAME:POINTER``.
        name: of the deployment.
        version: that it names.
        locked: it is not overwritten or deleted without ``unlock``.
        created_at: in UTC.
        updated_at: when it was set last, in UTC.

    """

    pointer: str
    name: str
    version: int
    locked: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Environment:
    """Requirements that the daemon has recorded under a name.

    Attributes:
        name: unique in the daemon.
        requirements: as PEP 508 has them, such as ``"torch>=2.4"``.
        created_at: in UTC.
        updated_at: when the requirements were set last, in UTC.
        statuses: how each of them compares with what the daemon has, in their order.

    """

    name: str
    requirements: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    statuses: tuple[RequirementStatus, ...]

    @property
    def unmet(self) -> tuple[RequirementStatus, ...]:
        """Those that the daemon does not meet: missing there, or in another version."""
        return tuple(status for status in self.statuses if status.state != "satisfied")


@dataclass(frozen=True)
class NurseryInfo:
    """The process that workers are forked from.

    Attributes:
        state: ``"preloading"``, ``"ready"`` or ``"restarting"``.
        pid: its process.
        preload_seconds: how long its imports took.
        preloaded: the modules that it has imported ahead.
        failed: modules that it could not import, each with the reason.
        exec_reason: why workers are started by exec instead of fork; empty if they are forked.
        restarts: nurseries that were started after the first one.
        memory_watched: why the memory of workers that have a limit is watched; empty if the system
            holds them to it, by control groups.

    """

    state: str
    pid: int
    preload_seconds: float
    preloaded: tuple[str, ...]
    failed: tuple[str, ...]
    exec_reason: str
    restarts: int
    memory_watched: str = ""


@dataclass(frozen=True)
class DaemonInfo:
    """The daemon.

    Attributes:
        version: of its distribution, such as ``"0.1.0"``.
        api_version: of its API, such as ``"1.0"``.
        features: what it serves beyond the first API.
        started_at: in UTC.
        pid: its process.
        python_version: of the Python that runs the workers.
        nursery: where its workers come from.
        max_message_bytes: the largest message that it takes or sends.
        gpus: the models of its machine's GPUs, such as ``"NVIDIA L4"``; ``"unknown"`` for one of
            which the driver does not tell.
        draining: it is stopping, and takes no more work.
        not_serving_reason: why its health is NOT_SERVING; empty while it serves.
        caller: the id of the token that this client has sent; empty without one.
        role: what this client may do: ``"run"``, ``"deploy"`` or ``"admin"``; empty if the daemon
            is too old to have roles.
        landlock_abi: the version of Landlock by which workers are kept from the daemon's files; 0
            if they are not.
        worker_user: the user that workers run as; empty if it is the daemon's own.

    """

    version: str
    api_version: str
    features: tuple[str, ...]
    started_at: datetime
    pid: int
    python_version: str
    nursery: NurseryInfo
    max_message_bytes: int
    gpus: tuple[str, ...] = ()
    draining: bool = False
    not_serving_reason: str = ""
    caller: str = ""
    role: str = ""
    landlock_abi: int = 0
    worker_user: str = ""


@dataclass(frozen=True, slots=True)
class Drained:
    """How a daemon came to its end.

    Attributes:
        unfinished_runs: that were waiting or being executed when the time was over.
        seconds: how long it took.

    """

    unfinished_runs: int
    seconds: float
