"""What can go wrong in the domain, as types with fields.

The edge (``rpc/status.py``) maps each of them to a gRPC status in one table; nothing else does.

::

    DomainError
      ├─ DeploymentNotFound      no deployment of that name
      ├─ VersionNotFound         the deployment has no version of that number
      ├─ PointerNotFound         the deployment has no pointer of that name
      ├─ DeploymentDeleted       it was deleted or replaced while the call waited for it
      ├─ DeploymentCooled        its workers were stopped while the call waited for them
      ├─ VersionInUse            a version that is to be deleted is named by a pointer
      ├─ PointerExists           a pointer that is to be made is there already
      ├─ PointerLocked           a pointer that is to be changed is locked
      ├─ EnvironmentNotFound     no environment of that name
      ├─ EnvironmentExists       an environment that is to be made is there already
      ├─ InvalidRequest          a field of a request that is not an input of a run
      ├─ InvalidInput            an input of a run does not fit the schema
      ├─ PythonMismatch          code made by another minor version of Python
      ├─ MissingPackage          code imports a package that is not here
      ├─ RequirementsNotMet      a required package is not here, or in another version
      ├─ CodeDigestMismatch      the code that arrived is not the code that was announced
      ├─ CodeTooLarge            more code than the limit
      ├─ StartupFailed           a startup node, or the loading of the code, failed
      │   └─ StartupOutOfMemory  it needed more memory than there is or may be
      ├─ RunNotFound             no run of that id is remembered
      ├─ RunFailed               a node raised
      │   ├─ RunOutOfMemory      it raised because the host had no memory for it
      │   └─ DeviceOutOfMemory   it raised because a device had no memory for it
      ├─ RunCancelled            the run was ended before it was over
      ├─ RunTimedOut             its time was over before it was
      ├─ RunInterrupted          the daemon ended under it, and it is not executed again
      ├─ OutputsNotKept          the outputs of the run are not here
      ├─ KeyReused               an idempotency key was given for two different things
      ├─ OutputNotSendable       an output is of a type that cannot cross the wire
      ├─ OutputTooLarge          the outputs exceed the message limit
      ├─ WorkerDied              the worker's process ended under a run or a startup
      │   ├─ WorkerOutOfMemory   it took more memory than its limit, and was killed
      │   ├─ HostOutOfMemory     the machine had no memory left, and the system killed it
      │   └─ CpuTimeExceeded     its run took more time on processors than its limit
      ├─ NurseryUnavailable      no worker can be started now
      ├─ QueueFull               too many runs wait for this deployment
      ├─ WaitTooLong             the run would have to wait until after its deadline
      ├─ WaitingRunsTooLarge     the runs that wait take all the memory that they may
      ├─ ShuttingDown            the daemon is stopping
      ├─ StorageFailed           the state directory cannot be written
      ├─ FileMissing             no content of that digest is here
      ├─ FileInUse               a content that is to be deleted is being used
      ├─ FileTooLarge            a file has more bytes than the limit
      ├─ FilesFull               the store of files has no room that it could make
      ├─ UploadStalled           a sender has stopped in the middle of an upload
      ├─ FileDigestMismatch      the content that arrived is not the one that was announced
      └─ AccessRefused           who calls may not do this (see core/access.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

# Of what there is in place of what was asked for.
_MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """How user code failed.

    Attributes:
        type: The exception's class, such as "ValueError".
        message: The exception's text.
        traceback: As Python prints it, in the worker.
        node: The node that failed, or empty.
    """

    type: str
    message: str
    traceback: str = ""
    node: str = ""


class DomainError(Exception):
    """Base of all errors of the domain; its text is fit for the caller to see."""


class DeploymentNotFound(DomainError):
    """There is no deployment of that name; ``known`` are the names that there are."""

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        there_are = f"there are {_listed(known)}" if known else "there are none at all"
        super().__init__(f"there is no deployment named {name!r}; {there_are}")
        self.name = name


class VersionNotFound(DomainError):
    """The deployment has no version of that number, or not any more."""

    def __init__(self, name: str, version: int, known: Sequence[int]) -> None:
        # The newest are of more use than the oldest.
        there_are = _listed([f"v{number}" for number in reversed(known)])
        super().__init__(f"deployment {name!r} has no version {version}; it has {there_are}")
        self.name = name
        self.version = version


class PointerNotFound(DomainError):
    """The deployment has no pointer of that name."""

    def __init__(self, name: str, pointer: str, known: Sequence[str]) -> None:
        there_are = f"it has {_listed(known)}" if known else "it has none"
        super().__init__(f"deployment {name!r} has no pointer {pointer!r}; {there_are}")
        self.name = name
        self.pointer = pointer


class DeploymentDeleted(DomainError):
    """The deployment, or the version, was deleted or replaced by the next one, during the call."""

    def __init__(
        self, name: str, *, version: int | None = None, replaced_by: int | None = None
    ) -> None:
        which = "" if version is None else f"version {version} of "
        what = "deleted" if replaced_by is None else f"replaced by version {replaced_by}"
        super().__init__(f"{which}deployment {name!r} has been {what}")
        self.name = name
        self.version = version
        self.replaced_by = replaced_by


class DeploymentCooled(DomainError):
    """The workers were stopped, because somebody asked for that, before the call had ended."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"deployment {name!r} has been cooled: the workers of v{version} stopped")
        self.name = name
        self.version = version


class VersionInUse(DomainError):
    """A version cannot be deleted while pointers name it."""

    def __init__(self, name: str, version: int, pointers: Sequence[str]) -> None:
        super().__init__(
            f"version {version} of deployment {name!r} is what {_listed(pointers)} "
            f"{'points' if len(pointers) == 1 else 'point'} to; set or delete that first"
        )
        self.name = name
        self.version = version
        self.pointers = tuple(pointers)


class PointerExists(DomainError):
    """There is such a pointer, and the request does not say that it may be overwritten."""

    def __init__(self, pointer: str, version: int) -> None:
        super().__init__(f"pointer {pointer!r} exists already and names version {version}")
        self.pointer = pointer
        self.version = version


class PointerLocked(DomainError):
    """A locked pointer is neither overwritten nor deleted unless the request unlocks it."""

    def __init__(self, pointer: str, version: int) -> None:
        super().__init__(f"pointer {pointer!r} is locked and stays at version {version}; unlock it")
        self.pointer = pointer
        self.version = version


class EnvironmentNotFound(DomainError):
    """There is no environment of that name; ``known`` are the names that there are."""

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        there_are = f"there are {_listed(known)}" if known else "there are none at all"
        super().__init__(f"there is no environment named {name[:200]!r}; {there_are}")
        self.name = name


class EnvironmentExists(DomainError):
    """There is such an environment, and the request does not say that it may be overwritten."""

    def __init__(self, name: str) -> None:
        super().__init__(f"environment {name!r} exists already")
        self.name = name


class InvalidRequest(DomainError):
    """A field of a request is missing or out of its bounds."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message


class InvalidInput(DomainError):
    """An input of a run does not fit the deployment's schema."""

    def __init__(self, field: str, message: str, bound: str | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message
        self.bound = bound


class PythonMismatch(DomainError):
    """Pickled code of another minor version of Python cannot be loaded."""

    def __init__(self, client_version: str, daemon_version: str) -> None:
        super().__init__(
            f"the code was made by Python {client_version}, but the workers run Python "
            f"{daemon_version}; the first two numbers have to agree"
        )
        self.client_version = client_version
        self.daemon_version = daemon_version


class ApiMismatch(DomainError):
    """The caller speaks another major version of the API."""

    def __init__(self, client_version: str, daemon_version: str) -> None:
        # It may be anything.
        shown = client_version[:20]
        older = "newer" if client_version.split(".") > daemon_version.split(".") else "older"
        super().__init__(
            f"the client has API {shown}, the daemon API {daemon_version}; the first numbers have "
            f"to agree: the client is {older}"
        )
        self.client_version = shown
        self.daemon_version = daemon_version


class MissingPackage(DomainError):
    """The code imports a package that the daemon's environment lacks."""

    def __init__(self, module: str, distribution: str, client_version: str) -> None:
        source = f" (package {distribution} {client_version} of the client)" if distribution else ""
        super().__init__(f"the code imports {module!r}{source}, which is not installed here")
        self.module = module
        self.distribution = distribution
        self.client_version = client_version


class RequirementsNotMet(DomainError):
    """Packages that a folder requires are not here, or in other versions.

    Attributes:
        package: The first of them.
        requirement: What is required of it.
        installed: The version that is here; empty if none is.
    """

    def __init__(
        self, unmet: Sequence[str], *, package: str, requirement: str, installed: str
    ) -> None:
        super().__init__("; ".join(unmet))
        self.package = package
        self.requirement = requirement
        self.installed = installed


class CodeDigestMismatch(DomainError):
    """The code that arrived is not the code that the header announced."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the code arrived damaged: {what}")


class CodeTooLarge(DomainError):
    """The code exceeds the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the code has {size} bytes, more than the limit of {limit}")
        self.size = size
        self.limit = limit


class StartupFailed(DomainError):
    """A startup node, or the loading of the code, failed.

    Attributes:
        cause: Stable name of what failed: "node", "code", "missing_import", "weights", "device",
            "out_of_memory" or "device_out_of_memory".
        subject: Of a missing import, the module.
        retry_after: Seconds until another try is made; None if it may be made at once.
    """

    def __init__(
        self,
        deployment: str,
        failure: Failure,
        *,
        cause: str = "node",
        subject: str = "",
        retry_after: float | None = None,
    ) -> None:
        where = f" in {failure.node}" if failure.node else ""
        super().__init__(
            f"startup of {deployment!r} failed{where}: {failure.type}: {failure.message}"
        )
        self.deployment = deployment
        self.failure = failure
        self.cause = cause
        self.subject = subject
        self.retry_after = retry_after


class StartupOutOfMemory(StartupFailed):
    """A startup needed more memory, of the host or of a device, than there is or may be."""

    def __init__(
        self,
        deployment: str,
        failure: Failure,
        *,
        of_device: bool = False,
        retry_after: float | None = None,
    ) -> None:
        cause = "device_out_of_memory" if of_device else "out_of_memory"
        super().__init__(deployment, failure, cause=cause, retry_after=retry_after)


class RunFailed(DomainError):
    """A node raised an exception."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        where = f" in {failure.node}" if failure.node else ""
        super().__init__(f"the run failed{where}: {failure.type}: {failure.message}")
        self.run_id = run_id
        self.failure = failure


class RunOutOfMemory(RunFailed):
    """A node raised MemoryError, or its like: the host had no memory for it."""


class DeviceOutOfMemory(RunFailed):
    """A node raised because a device had no memory for it."""


class RunNotFound(DomainError):
    """No run of that id is remembered: there was none, or it was too long ago."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r}, or not any more")
        self.run_id = run_id


class RunCancelled(DomainError):
    """The run was ended from outside before it was over."""

    def __init__(self, run_id: str, why: str = "") -> None:
        super().__init__(f"the run was cancelled{f': {why}' if why else ''}")
        self.run_id = run_id


class RunTimedOut(DomainError):
    """The time that a submitted run was given, in seconds, passed before it had ended."""

    def __init__(self, run_id: str, seconds: float) -> None:
        super().__init__(f"the run had not ended {seconds:g} s after it was submitted")
        self.run_id = run_id
        self.seconds = seconds


class RunInterrupted(DomainError):
    """The daemon ended while the run was executed, and it may not be executed again."""

    def __init__(self, run_id: str, attempts: int) -> None:
        again = "" if attempts == 1 else f", {attempts} times,"
        super().__init__(
            f"the daemon ended{again} while the run was executed; it may have had effects, and is "
            "not executed again"
        )
        self.run_id = run_id
        self.attempts = attempts


class OutputsNotKept(DomainError):
    """The run succeeded, but its outputs are not here."""

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(f"the outputs of the run are not kept: {why}")
        self.run_id = run_id


class KeyReused(DomainError):
    """An idempotency key that a run was submitted with was given for something else."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(
            f"a run of another deployment or with other inputs was submitted with the idempotency "
            f"key {key!r}"
        )
        self.key = key
        self.run_id = run_id


class OutputNotSendable(DomainError):
    """An output is of a type that cannot cross the wire."""

    def __init__(self, run_id: str, output: str, description: str) -> None:
        super().__init__(f"{output} of the run cannot be sent: {description}")
        self.run_id = run_id
        self.output = output


class OutputTooLarge(DomainError):
    """The outputs of a run exceed the message limit."""

    def __init__(self, run_id: str, size: int, limit: int) -> None:
        super().__init__(f"the outputs have {size} bytes, more than the message limit of {limit}")
        self.run_id = run_id
        self.size = size
        self.limit = limit


class Excess(Enum):
    """What a process was killed for having too much of."""

    MEMORY = "memory"
    HOST_MEMORY = "host memory"
    CPU_TIME = "cpu time"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by a signal (its name, such as "SIGKILL") or with an exit code.

    Both are None if nobody could tell.

    Attributes:
        cause: What it could still say of it, if anything.
        excess: What it had too much of, if it was killed for that.
        limit: Of that, in bytes or seconds; 0 for the memory of the machine.
        printed: The last lines that it printed.
    """

    signal: str | None = None
    exit_code: int | None = None
    cause: str | None = None
    excess: Excess | None = None
    limit: float = 0.0
    printed: tuple[str, ...] = field(default=(), compare=False)

    def describe(self) -> str:
        """Say it in words: "killed by SIGKILL", "exited with code 3"."""
        if self.excess is Excess.MEMORY:
            return (
                "killed: with what it had started it took more memory than its limit of "
                f"{self.limit:.0f} bytes"
            )
        if self.excess is Excess.CPU_TIME:
            return f"killed: its run took more than {self.limit:g} s of time on processors"
        if self.excess is Excess.HOST_MEMORY:
            return f"killed by {self.signal}: the machine had no memory left"
        if self.signal is not None:
            return f"killed by {self.signal}"
        if self.exit_code is not None:
            return f"exited with code {self.exit_code}"
        return "ended"


class WorkerDied(DomainError):
    """The worker's process ended while it was starting or running."""

    def __init__(self, exit_: Exit, run_id: str = "") -> None:
        how = f"{'was ' if exit_.signal else ''}{exit_.describe()}"
        cause = f": {exit_.cause}" if exit_.cause else ""
        super().__init__(f"the worker {how}{cause}")
        self.exit = exit_
        self.run_id = run_id

    @staticmethod
    def of(exit_: Exit, run_id: str = "") -> WorkerDied:
        """The error that tells this end."""
        kind = _OF_EXCESS.get(exit_.excess, WorkerDied)
        return kind(exit_, run_id)

    def failure(self) -> Failure:
        """The same as a failure of a startup; what it printed last stands for the traceback."""
        printed = "".join(f"{line}\n" for line in self.exit.printed)
        traceback = f"The worker printed last:\n{printed}" if printed else ""
        return Failure(type(self).__name__, str(self), traceback)


class WorkerOutOfMemory(WorkerDied):
    """The worker, with what it had started, took more memory than its deployment's limit."""


class HostOutOfMemory(WorkerDied):
    """The machine, or what the daemon may have of it, had no memory left."""


class CpuTimeExceeded(WorkerDied):
    """A run took more time on processors than its deployment's limit."""


_OF_EXCESS: Mapping[Excess | None, type[WorkerDied]] = {
    Excess.MEMORY: WorkerOutOfMemory,
    Excess.HOST_MEMORY: HostOutOfMemory,
    Excess.CPU_TIME: CpuTimeExceeded,
}


class NurseryUnavailable(DomainError):
    """No worker can be started now; trying again may help."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(f"no worker can be started now: {reason}")
        self.reason = reason
        self.retry_after = retry_after


class QueueFull(DomainError):
    """Too many runs wait for this deployment."""

    def __init__(self, deployment: str, limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} runs already wait for {deployment!r}, which is the limit")
        self.deployment = deployment
        self.limit = limit
        self.retry_after = retry_after


class WaitTooLong(DomainError):
    """The run would have to wait until after its deadline, as far as earlier ones tell; seconds."""

    def __init__(self, deployment: str, wait: float, seconds_left: float) -> None:
        super().__init__(
            f"a run of {deployment!r} has to wait {wait:.3g} s now, going by those before, and its "
            f"deadline is in {max(0.0, seconds_left):.3g} s"
        )
        self.deployment = deployment
        self.retry_after = wait


class WaitingRunsTooLarge(DomainError):
    """The requests that wait take all the memory that they may; in bytes."""

    def __init__(self, size: int, limit: int, retry_after: float) -> None:
        super().__init__(
            f"there is no room for one more request of {size} bytes: all that wait may have {limit}"
        )
        self.size = size
        self.limit = limit
        self.retry_after = retry_after


class ShuttingDown(DomainError):
    """The daemon is stopping and takes no new work."""

    def __init__(self) -> None:
        super().__init__("the daemon is shutting down")


class StorageFailed(DomainError):
    """The state directory cannot be read or written.

    Attributes:
        operation: What was being done, such as "store the code".
        reason: The system's word for it, such as "No space left on device"; no path.
    """

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"could not {operation}: {reason}")
        self.operation = operation
        self.reason = reason


class FileMissing(DomainError):
    """No content of that digest is here: it was never uploaded, or is not kept any more."""

    def __init__(self, sha256: str, name: str = "") -> None:
        what = f"the content of file {name!r}" if name else "a file"
        super().__init__(f"{what} with sha256 {sha256} is not here; upload it")
        self.sha256 = sha256


class FileInUse(DomainError):
    """A run or an upload uses the content."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the file with sha256 {sha256} is in use")
        self.sha256 = sha256


class FileTooLarge(DomainError):
    """A file exceeds the limit for one file; both in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the file has {size} bytes, more than the limit of {limit} for one file")
        self.size = size
        self.limit = limit


class FilesFull(DomainError):
    """The store has no room for the file, even without all that nothing uses; in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"there is no room for a file of {size} bytes: all files together may have {limit}, "
            "and what is there is in use"
        )
        self.size = size
        self.limit = limit


class UploadStalled(DomainError):
    """Nothing has come of an upload for so many seconds; what has come before stays."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the upload has stopped: nothing has come for {seconds:g} s")
        self.seconds = seconds


class FileDigestMismatch(DomainError):
    """The content that arrived is not the one that was announced."""

    def __init__(self, sha256: str, what: str) -> None:
        super().__init__(f"the file with sha256 {sha256} arrived damaged: {what}")
        self.sha256 = sha256


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
