"""What the domain needs from the outside, as Protocols; ``app.py`` wires the real parts in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipelined.core.errors import Exit
from pipelined.core.files import StoredFile
from pipelined.core.options import Options
from pipelined.core.references import Pointer
from pipelined.core.specification import Code, Specification
from pipelined.core.stages import Stage, Timeline

if TYPE_CHECKING:
    from pipelined.core.run import Run


@dataclass(frozen=True, slots=True)
class StartSpec:
    """What a worker needs to start a deployment.

    Attributes:
        deployment: Name, for messages and logs.
        version: Version.
        code_path: File with the code; only the daemon opens it.
        code_size: Its bytes.
        environment: Variables to set in the worker, secrets among them.
        zero: CLOCK_MONOTONIC in seconds that the stages count from.
        code_format: Name of the wire's CodeFormat.
        target: Of a bundle, the variable with the graph.
        schema: Of a bundle, the serialised Schema that was announced.
        topology: Of a bundle, what else was announced of the graph.
        options: What the worker may take.
    """

    deployment: str
    version: int
    code_path: Path
    code_size: int
    environment: Mapping[str, str] = field(repr=False)
    zero: float
    code_format: str = "CODE_FORMAT_CLOUDPICKLE"
    target: str = ""
    schema: bytes = b""
    topology: Sequence[str] = ()
    options: Options = Options()


class TraceContext(NamedTuple):
    """Where in a trace something happens, as the headers of W3C Trace Context have it.

    Attributes:
        parent: "traceparent"; empty outside of a trace.
        state: "tracestate"; may be empty.
    """

    parent: str = ""
    state: str = ""


UNTRACED = TraceContext()


class NodeTime(NamedTuple):
    """When a node of a run was executed: CLOCK_MONOTONIC in seconds, and how long it took."""

    name: str
    started: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a worker answered: the response for the caller as it goes out, and the nodes' time.

    Attributes:
        response: Serialised.
        seconds: That all nodes took.
        nodes: What each took, if the run is in a trace that somebody records.
    """

    response: bytes | memoryview
    seconds: float
    nodes: Sequence[NodeTime] = ()


class Observer(Protocol):
    """Told of what happens, on the event loop's thread, as it happens.

    Its methods are on the path of every run: none may wait, and none raises.
    """

    def deployment_changed(self, name: str, *, exists: bool) -> None:
        """A name has been deployed or is in another state now, or is gone."""

    def run_created(self, run: Run) -> None:
        """A run is about to join the queue."""

    def run_begun(self, run: Run) -> None:
        """A worker is about to get it.

        What ``run.trace`` is afterwards goes to the worker.
        """

    def run_queued_again(self, run: Run) -> None:
        """A run that had begun waits for another attempt."""

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """It is in a terminal state. It may never have begun."""

    def stage_ended(self, name: str, stage: Stage) -> None:
        """A stage of a startup of this deployment is over."""

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """A startup is over: the instance is warm, or this is why it isn't."""

    def worker_died(self, specification: Specification, worker: Worker) -> None:
        """A warm worker of this version has ended that nobody had asked to."""

    def worker_replaced(self, specification: Specification, worker: Worker) -> None:
        """A worker has been killed that went on with a run after it was told to end it."""


class RunStream(Protocol):
    """One run whose outputs are taken as they come."""

    @property
    def ended(self) -> asyncio.Future[RunResult]:
        """Done when the worker is done with the run; its response is the last message.

        Fails as the future of ``Worker.run`` does. What came before that may still be taken.
        """

    async def next(self) -> bytes | None:
        """Return the next message for the caller as it goes out; None after the last but one.

        Asking for one says that the one before has been taken: a caller that does not ask holds up
        the worker.

        Raises:
            InvalidInput, RunFailed, OutputNotSendable, OutputTooLarge, WorkerDied: As ``ended``.
            FileTooLarge, FilesFull, FileDigestMismatch, StorageFailed: A file in the message cannot
                be kept.
        """

    def cancel(self) -> None:
        """Ask for no more: the generators are closed when they yield next. Never raises."""


class Worker(Protocol):
    """One live worker process."""

    @property
    def id(self) -> str:
        """Unique in the life of the daemon."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Done when the process has ended. Never fails."""

    async def start(self, spec: StartSpec, on_stage: Callable[[Stage], None]) -> None:
        """Load the code and execute the startup nodes.

        After a StartupFailed whose cause is "node" the worker lives, and another call resumes at
        the node that failed: what the nodes before it did is kept.

        Raises:
            StartupFailed: A node or the code failed.
            WorkerDied: The process ended.
        """

    def run(
        self, run_id: str, request: bytes, files: Sequence[StoredFile] = ()
    ) -> asyncio.Future[RunResult]:
        """Send a serialised request to the worker; the result comes in the future.

        The files are those that its inputs refer to, each once; they are opened here, and the
        worker gets them as file descriptors.

        One at a time: the next run may be sent once the future is done. Cancelling the future only
        drops the result; see ``cancel``.

        The future raises:
            InvalidInput, RunFailed, OutputNotSendable, OutputTooLarge, RunCancelled: The worker
                lives on.
            WorkerDied: The process ended.
            FileMissing: A file is gone; the worker was not asked.
            FileTooLarge, FilesFull, FileDigestMismatch, StorageFailed: A file among the outputs
                cannot be kept.
        """

    def stream(self, run_id: str, request: bytes, files: Sequence[StoredFile] = ()) -> RunStream:
        """Send a serialised request to the worker; the outputs come as it makes them.

        It counts as a run: the next one may be sent once ``ended`` is done.
        """

    def cancel(self, run_id: str) -> None:
        """Ask for no more of a run: no further node is begun. Never raises."""

    async def memory(self) -> int:
        """Bytes of the host's memory that it has, with all that it has started; takes a while.

        Not counted are pages of files, such as those of mapped weights. 0 if it has ended.
        """

    def kill(self) -> None:
        """Kill the process and its group at once. Never raises."""

    async def stop(self, grace_seconds: float) -> None:
        """End the process: ask, and after the grace period kill its group. Never raises."""


class WorkerLauncher(Protocol):
    """Starts workers."""

    async def launch(
        self, environment: Mapping[str, str], zero: float, on_stage: Callable[[Stage], None]
    ) -> Worker:
        """Start a worker, reporting the stages QUEUE and FORK, which count from ``zero``.

        Raises:
            NurseryUnavailable: None can be started now.
        """


class DeploymentStore(Protocol):
    """Keeps deployments across restarts. Every method raises StorageFailed."""

    async def deployments(self) -> Sequence[Specification]:
        """All versions of all names, the older first; to be asked once.

        Their code is held (see ``store_code``).
        """

    async def last_versions(self) -> Mapping[str, int]:
        """By name, the highest version that was ever added under it while it existed."""

    async def pointers(self) -> Sequence[Pointer]:
        """All pointers."""

    async def last_uses(self) -> Mapping[tuple[str, int], float]:
        """By name and version, what ``set_last_uses`` was told of versions that are there."""

    async def set_last_uses(self, uses: Mapping[tuple[str, int], float]) -> None:
        """Keep when versions were used last; those that are not there are left out."""

    async def add(self, specification: Specification, idempotency_key: str) -> None:
        """Keep one more version of its name, durably, before returning.

        The key, unless it is empty, is remembered with it.
        """

    async def remember(self, idempotency_key: str, specification: Specification) -> None:
        """Remember the key, unless it is empty, as that of a version that is there already."""

    async def deployed(self, idempotency_key: str, specification: Specification) -> int | None:
        """The version that this key has deployed, with this digest and under this name."""

    async def remove(self, name: str) -> None:
        """Forget a name: its versions, its pointers and its keys."""

    async def remove_version(self, name: str, version: int) -> None:
        """Forget one version of a name, which has others. Its number and its keys are kept."""

    async def set_pointer(self, pointer: Pointer) -> None:
        """Keep a pointer, in place of one that is called the same."""

    async def remove_pointer(self, pointer: Pointer) -> None:
        """Forget a pointer."""

    async def store_code(self, chunks: AsyncIterator[bytes], code: Code) -> None:
        """Keep the code under its digest, and hold it until ``release_code`` is called.

        What is held is there, also when no version refers to it any more.

        Raises:
            CodeDigestMismatch: The chunks are not what ``code`` says.
        """

    def code_path(self, code: Code) -> Path:
        """The file in which ``store_code`` keeps it."""

    async def missing_code(self, codes: Collection[Code]) -> Collection[Code]:
        """Those that ``store_code`` has kept, but that are not there, or not whole."""

    async def release_code(self, code: Code) -> None:
        """Give up one hold, and remove all code that is neither held nor that of a deployment."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A submitted run as the store has it; see ``runs.Run``.

    States and deliveries are the numbers of the wire.
    """

    id: str
    deployment: str
    version: int
    state: int
    created_at: float
    delivery: int = 1
    owner: str = ""
    key: str = ""
    digest: str = ""
    priority: int = 0
    timeout: float | None = None
    files: Sequence[str] = ()
    request_bytes: int = 0
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    execution_seconds: float = 0.0
    status: bytes = b""
    response_bytes: int | None = None


class RunStore(Protocol):
    """Keeps submitted runs across restarts.

    What is asked for is done in the order in which it is asked. Every method that waits raises
    StorageFailed, and has done its work durably, or not at all, when it returns.
    """

    async def runs(self) -> Sequence[StoredRun]:
        """All runs, in the order of their submission; to be asked once."""

    async def add(self, run: StoredRun, request: bytes) -> None:
        """Keep a run that is queued, and its request."""

    async def begin(self, run_id: str, attempts: int, started_at: float) -> bytes | None:
        """Take note that a run is executed, and return its request; None if it is not there."""

    async def end(self, run: StoredRun, response: bytes | memoryview | None) -> None:
        """Take note of the end of a run, with the outputs if they are to be kept.

        Its request goes.
        """

    async def response(self, run_id: str) -> bytes | None:
        """The outputs of a run that ended; None if they are not there."""

    def forget(self, run_id: str) -> None:
        """Keep nothing of a run any more, some time from now. Never raises."""

    def drop_response(self, run_id: str) -> None:
        """Keep the outputs of a run no longer, some time from now. Never raises."""
