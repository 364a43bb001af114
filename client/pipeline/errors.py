"""Everything that the library raises on purpose.

::

    PipelineError
    ├─ GraphError            the graph is built wrongly
    ├─ SerialisationError    a graph or a value cannot be serialised
    ├─ InvalidInput          an input does not fit the graph's schema
    ├─ StartupFailed         a node raised while the graph was started
    ├─ RunFailed             a node raised during a run
    ├─ NotFound              no deployment (or other thing) of that name
    ├─ AlreadyExists         the name is taken
    ├─ PermissionDenied      the caller's role does not allow it
    ├─ Incompatible          client and daemon differ in Python, a package or the API
    ├─ Cancelled             the run was cancelled
    ├─ DeadlineExceeded      the deadline passed first
    ├─ Overloaded            the queue is full; wait and try again
    ├─ WorkerDied            the process that ran the pipeline died
    ├─ Unavailable           the daemon cannot be reached, or cannot serve now
    └─ NotServed             this version does not have the feature

An error that came from the daemon carries its stable ``reason`` and ``metadata``; one that was
raised in this process has an empty ``reason``.

``DeploymentWarning`` is a warning: what it says may matter, and prevents nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "DeadlineExceeded",
    "DeploymentWarning",
    "GraphError",
    "Incompatible",
    "InvalidInput",
    "NotFound",
    "NotServed",
    "Overloaded",
    "PermissionDenied",
    "PipelineError",
    "RunFailed",
    "SerialisationError",
    "StartupFailed",
    "Unavailable",
    "WorkerDied",
]


class PipelineError(Exception):
    """Base of everything that the library raises on purpose.

    Attributes:
        message: what went wrong, for people.
        reason: the daemon's stable reason, such as ``"DEPLOYMENT_NOT_FOUND"``; empty if the error
            was raised in this process.
        metadata: the facts that came with ``reason``.

    """

    def __init__(
        self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses take keyword-only fields, which Exception.__reduce__ would lose.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[PipelineError], message: str, state: dict[str, object]) -> PipelineError:
    error = cls.__new__(cls, message)
    error.__dict__.update(state)
    return error


class GraphError(PipelineError):
    """The graph is built wrongly; the message names the pipe, the parameter and the source line."""


class SerialisationError(PipelineError):
    """A graph or a value cannot be serialised.

    Attributes:
        subject: what cannot, such as ``"Model.lock"`` or ``"outputs[0]"``.

    """

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.subject = subject


class InvalidInput(PipelineError, ValueError):
    """An input does not fit the graph's schema, or a field its InputSchema class.

    It is a ValueError too, so that pydantic takes it for one where a validator raises it.

    Attributes:
        field: the path of the offending value, such as ``"kwargs.height"`` or ``"inputs[0]"``.
        bound: the constraint that it breaks, such as ``"le=1024"``; None if it is no constraint.

    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        bound: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.field = field
        self.bound = bound


class StartupFailed(PipelineError):
    """A node raised while the graph was started; chained to the cause if that was in this process.

    Where the node needed more memory than there is or may be, ``reason`` is ``"OUT_OF_MEMORY"``.

    Attributes:
        node: the node that raised, such as ``"Model.load"``; empty if no node had been reached.
        deployment: the deployment's name; empty for a local ``Graph``.
        remote_traceback: the traceback in the worker, as Python prints it; empty for a local one.
        retry_after: seconds after which the daemon tries again; None if it does not wait.

    """

    def __init__(
        self,
        message: str,
        *,
        node: str = "",
        deployment: str = "",
        remote_traceback: str = "",
        retry_after: float | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.node = node
        self.deployment = deployment
        self.remote_traceback = remote_traceback
        self.retry_after = retry_after


class RunFailed(PipelineError):
    """A node raised during a run; chained to the cause if that was in this process.

    Attributes:
        node: the node that raised, such as ``"Model.predict"``.
        remote_traceback: the traceback in the worker, as Python prints it; empty for a local one.

    """

    def __init__(
        self,
        message: str,
        *,
        node: str = "",
        remote_traceback: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.node = node
        self.remote_traceback = remote_traceback


class NotFound(PipelineError):
    """Nothing of that name is there."""


class AlreadyExists(PipelineError):
    """The name is taken."""


class PermissionDenied(PipelineError):
    """The caller's role does not allow the call, or the token is not known."""


class Incompatible(PipelineError):
    """Client and daemon differ in something that has to agree.

    Attributes:
        subject: what differs: ``"python"``, ``"API"`` or the name of a package.
        client_version: the version at this end; empty if unknown.
        daemon_version: the version at the daemon's end; empty if it is not there at all.

    """

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        client_version: str = "",
        daemon_version: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.subject = subject
        self.client_version = client_version
        self.daemon_version = daemon_version


class Cancelled(PipelineError):
    """The run was cancelled before it ended."""


class DeadlineExceeded(PipelineError):
    """The deadline passed before the call ended."""


class Overloaded(PipelineError):
    """The daemon takes no more work for now.

    Attributes:
        retry_after: seconds to wait before trying again; None if the daemon named none.

    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after = retry_after


class WorkerDied(PipelineError):
    """The process that ran the pipeline died; another one takes its place.

    Attributes:
        signal: the signal that killed it, such as ``"SIGKILL"``; None if it exited by itself.
        exit_code: its exit code; None if a signal killed it.

    """

    def __init__(
        self,
        message: str,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.signal = signal
        self.exit_code = exit_code


class Unavailable(PipelineError):
    """The daemon cannot be reached, or cannot serve the call for now.

    Attributes:
        retry_after: seconds to wait before trying again; None if unknown.

    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after = retry_after


class NotServed(PipelineError):
    """The feature is not in this version of the library or daemon; the message names it."""


class DeploymentWarning(UserWarning):
    """A deployment was made although something may not fit, such as a package's version."""
