"""From a failed call to one of :mod:`pipeline.errors`: the daemon's table, read backwards.

The daemon answers with a ``google.rpc.Status`` whose ``ErrorInfo`` has a stable reason; the reason
decides the class. What has no reason (the transport failed, a proxy answered, the daemon is newer
than this client) is decided by its status code, and every code has an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pipeline import errors

DOMAIN = "pipelined"
# Where gRPC puts the serialised google.rpc.Status.
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class WireError:
    """What a failed call said, before it has a class."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    field: str = ""
    retry_after: float | None = None
    traceback: str = ""


_CLOSED = "it is closed at once; it may want TLS (`ca` or `tls`), or a certificate of the client's"
# Signs in gRPC's text that something does answer there, and what that may be.
_ANSWERED = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is of no authority that is trusted here, or has expired; `ca` names those "
        "to trust",
    ),
    ("is not in peer certificate", "its certificate is not for that host"),
    ("Tls handshake failed", "what answers there does not speak TLS, or refuses ours"),
    ("Socket closed", _CLOSED),
    ("Connection reset", _CLOSED),
    ("Failed parsing HTTP/2", "what answers there does not speak gRPC"),
)
Build = Callable[[WireError, str], errors.PipelineError]


def _plain(cls: type[errors.PipelineError]) -> Build:
    def build(wire: WireError, address: str) -> errors.PipelineError:
        return cls(wire.message, reason=wire.reason, metadata=wire.metadata)

    return build


def _invalid_input(wire: WireError, address: str) -> errors.PipelineError:
    return errors.InvalidInput(
        wire.message,
        field=wire.metadata.get("field", wire.field),
        bound=wire.metadata.get("bound") or None,
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _mismatch(subject: str) -> Build:
    def build(wire: WireError, address: str) -> errors.PipelineError:
        return errors.Incompatible(
            wire.message,
            subject=subject,
            client_version=wire.metadata.get("client_version", ""),
            daemon_version=wire.metadata.get("daemon_version", ""),
            reason=wire.reason,
            metadata=wire.metadata,
        )

    return build


def _missing_package(wire: WireError, address: str) -> errors.PipelineError:
    return errors.Incompatible(
        wire.message,
        subject=wire.metadata.get("distribution") or wire.metadata.get("module", ""),
        client_version=wire.metadata.get("client_version", ""),
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _requirements_not_met(wire: WireError, address: str) -> errors.PipelineError:
    return errors.Incompatible(
        wire.message,
        subject=wire.metadata.get("package", ""),
        client_version=wire.metadata.get("requirement", ""),
        daemon_version=wire.metadata.get("installed_version", ""),
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _not_sendable(wire: WireError, address: str) -> errors.PipelineError:
    return errors.SerialisationError(
        wire.message,
        subject=wire.metadata.get("output", ""),
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _file_too_large(wire: WireError, address: str) -> errors.PipelineError:
    limit = wire.metadata.get("limit")
    return errors.InvalidInput(
        wire.message,
        field="file",
        bound=f"max_bytes={limit}" if limit else None,
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _code_too_large(wire: WireError, address: str) -> errors.PipelineError:
    return errors.SerialisationError(
        wire.message, subject="graph", reason=wire.reason, metadata=wire.metadata
    )


def _startup_failed(wire: WireError, address: str) -> errors.PipelineError:
    return errors.StartupFailed(
        wire.message,
        node=wire.metadata.get("node", ""),
        deployment=wire.metadata.get("deployment", ""),
        remote_traceback=wire.traceback,
        retry_after=wire.retry_after,
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _run_failed(wire: WireError, address: str) -> errors.PipelineError:
    return errors.RunFailed(
        wire.message,
        node=wire.metadata.get("node", ""),
        remote_traceback=wire.traceback,
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _worker_died(wire: WireError, address: str) -> errors.PipelineError:
    exit_code: int | None
    try:
        exit_code = int(wire.metadata.get("exit_code", ""))
    except ValueError:
        exit_code = None
    return errors.WorkerDied(
        wire.message,
        signal=wire.metadata.get("signal") or None,
        exit_code=exit_code,
        reason=wire.reason,
        metadata=wire.metadata,
    )


def _overloaded(wire: WireError, address: str) -> errors.PipelineError:
    return errors.Overloaded(
        wire.message, retry_after=wire.retry_after, reason=wire.reason, metadata=wire.metadata
    )


def _unavailable(wire: WireError, address: str) -> errors.PipelineError:
    return errors.Unavailable(
        wire.message, retry_after=wire.retry_after, reason=wire.reason, metadata=wire.metadata
    )


def _unreachable(wire: WireError, address: str) -> errors.PipelineError:
    # gRPC's text is a chain of causes; the last link is the one that helps.
    cause = wire.message.rpartition(": ")[2] or "no answer"
    if not wire.message.startswith(("failed to connect", "DNS resolution failed")):
        message = f"the connection to the daemon at {address} was lost ({cause})"
    elif (hint := _hint(wire.message)) and not address.startswith("unix:"):
        message = f"no connection to the daemon at {address}: {hint}"
    else:
        message = f"no daemon answers at {address} ({cause}); is `pipelined serve` running?"
    return errors.Unavailable(message, retry_after=wire.retry_after)


def _hint(text: str) -> str:
    return next((hint for sign, hint in _ANSWERED if sign in text), "")


def _too_large_or_overloaded(wire: WireError, address: str) -> errors.PipelineError:
    # gRPC's own refusal, at either end, of a message over the limit.
    if "larger than max" in wire.message:
        return errors.SerialisationError(
            f"a message exceeds the limit ({wire.message})", subject="message"
        )
    return _overloaded(wire, address)


def _deadline(wire: WireError, address: str) -> errors.PipelineError:
    return errors.DeadlineExceeded("the deadline passed before the call ended")


def _not_served(wire: WireError, address: str) -> errors.PipelineError:
    return errors.NotServed(f"the daemon at {address} does not serve this call ({wire.message})")


def _daemon_failed(wire: WireError, address: str) -> errors.PipelineError:
    name = wire.code.name.lower().replace("_", " ")
    return errors.PipelineError(
        f"the daemon at {address} could not do this ({name}): {wire.message}",
        reason=wire.reason,
        metadata=wire.metadata,
    )


BY_REASON: Mapping[str, Build] = {
    "DEPLOYMENT_NOT_FOUND": _plain(errors.NotFound),
    "VERSION_NOT_FOUND": _plain(errors.NotFound),
    "POINTER_NOT_FOUND": _plain(errors.NotFound),
    "DEPLOYMENT_DELETED": _plain(errors.NotFound),
    "DEPLOYMENT_COOLED": _plain(errors.Cancelled),
    "VERSION_IN_USE": _plain(errors.PipelineError),
    "POINTER_EXISTS": _plain(errors.AlreadyExists),
    "POINTER_LOCKED": _plain(errors.PipelineError),
    "ENVIRONMENT_NOT_FOUND": _plain(errors.NotFound),
    "ENVIRONMENT_EXISTS": _plain(errors.AlreadyExists),
    "INVALID_INPUT": _invalid_input,
    "INVALID_REQUEST": _invalid_input,
    "PYTHON_MISMATCH": _mismatch("python"),
    "API_MISMATCH": _mismatch("API"),
    "MISSING_PACKAGE": _missing_package,
    "REQUIREMENTS_NOT_MET": _requirements_not_met,
    "CODE_DIGEST_MISMATCH": _plain(errors.PipelineError),
    "CODE_TOO_LARGE": _code_too_large,
    "STARTUP_FAILED": _startup_failed,
    "OUT_OF_MEMORY": _startup_failed,
    "RUN_FAILED": _run_failed,
    "RUN_OUT_OF_MEMORY": _run_failed,
    "DEVICE_OUT_OF_MEMORY": _run_failed,
    "RUN_NOT_FOUND": _plain(errors.NotFound),
    "RUN_CANCELLED": _plain(errors.Cancelled),
    "RUN_INTERRUPTED": _worker_died,
    "OUTPUTS_NOT_KEPT": _plain(errors.NotFound),
    "IDEMPOTENCY_KEY_REUSED": _plain(errors.AlreadyExists),
    "WORKER_DIED": _worker_died,
    "WORKER_OUT_OF_MEMORY": _worker_died,
    "HOST_OUT_OF_MEMORY": _worker_died,
    "CPU_TIME_EXCEEDED": _worker_died,
    "OUTPUT_TYPE": _not_sendable,
    "OUTPUT_TOO_LARGE": _not_sendable,
    "DRAINING": _unavailable,
    "NURSERY_UNAVAILABLE": _unavailable,
    "STORAGE_FAILED": _plain(errors.PipelineError),
    "FILE_NOT_FOUND": _plain(errors.NotFound),
    "FILE_IN_USE": _plain(errors.PipelineError),
    "FILE_TOO_LARGE": _file_too_large,
    "FILES_FULL": _overloaded,
    "FILE_DIGEST_MISMATCH": _plain(errors.PipelineError),
    "DEADLINE_EXCEEDED": _plain(errors.DeadlineExceeded),
    "UPLOAD_STALLED": _plain(errors.DeadlineExceeded),
    "QUEUE_FULL": _overloaded,
    "TOKEN_MISSING": _plain(errors.PermissionDenied),
    "TOKEN_INVALID": _plain(errors.PermissionDenied),
    "TOKEN_EXPIRED": _plain(errors.PermissionDenied),
    "TOKEN_REVOKED": _plain(errors.PermissionDenied),
    "ROLE_TOO_LOW": _plain(errors.PermissionDenied),
    "WAIT_TOO_LONG": _overloaded,
    "WAITING_RUNS_TOO_LARGE": _overloaded,
}

BY_CODE: Mapping[grpc.StatusCode, Build] = {
    # A failed call that says OK contradicts itself.
    grpc.StatusCode.OK: _daemon_failed,
    grpc.StatusCode.CANCELLED: _plain(errors.Cancelled),
    grpc.StatusCode.UNKNOWN: _daemon_failed,
    grpc.StatusCode.INVALID_ARGUMENT: _invalid_input,
    grpc.StatusCode.DEADLINE_EXCEEDED: _deadline,
    grpc.StatusCode.NOT_FOUND: _plain(errors.NotFound),
    grpc.StatusCode.ALREADY_EXISTS: _plain(errors.AlreadyExists),
    grpc.StatusCode.PERMISSION_DENIED: _plain(errors.PermissionDenied),
    grpc.StatusCode.UNAUTHENTICATED: _plain(errors.PermissionDenied),
    grpc.StatusCode.RESOURCE_EXHAUSTED: _too_large_or_overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: _daemon_failed,
    grpc.StatusCode.ABORTED: _daemon_failed,
    grpc.StatusCode.OUT_OF_RANGE: _invalid_input,
    grpc.StatusCode.UNIMPLEMENTED: _not_served,
    grpc.StatusCode.INTERNAL: _daemon_failed,
    grpc.StatusCode.UNAVAILABLE: _unreachable,
    grpc.StatusCode.DATA_LOSS: _daemon_failed,
}


_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_call(error: grpc.RpcError, address: str) -> errors.PipelineError:
    """Give a failed call its class; the address is for messages."""
    return _of(read(error), address)


def _of(wire: WireError, address: str) -> errors.PipelineError:
    build = BY_REASON.get(wire.reason)
    if build is None:
        # A reason that this client does not know: its daemon is newer. The code still tells.
        build = _unavailable if _served_unavailable(wire) else BY_CODE[wire.code]
    return build(wire, address)


def from_status(serialised: bytes, address: str) -> errors.PipelineError:
    """Give its class to the failure of a run that was asked for later."""
    try:
        status = status_pb2.Status.FromString(serialised)
    except DecodeError:
        return errors.PipelineError("the run failed, and how cannot be read")
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _of(_with_details(code, status.message, status), address)


def _served_unavailable(wire: WireError) -> bool:
    return wire.code is grpc.StatusCode.UNAVAILABLE and bool(wire.reason)


def read(error: grpc.RpcError) -> WireError:
    """Collect what a failed call said. Details that cannot be parsed are left out."""
    call: object = error
    if not isinstance(call, (grpc.Call, grpc.aio.AioRpcError)):
        return WireError(grpc.StatusCode.UNKNOWN, str(error) or type(error).__name__)
    code, message = call.code(), call.details() or ""
    details = _details(call.trailing_metadata())
    if details is not None:
        try:
            return _with_details(code, message, status_pb2.Status.FromString(details))
        except DecodeError:
            pass
    return WireError(code, message)


def _details(metadata: Iterable[tuple[str, str | bytes]] | None) -> bytes | None:
    # None where the call never reached a server.
    pairs = dict(metadata or ())
    value = pairs.get(DETAILS_KEY)
    return value if isinstance(value, bytes) else None


def _with_details(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> WireError:
    info = error_details_pb2.ErrorInfo()
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    debug = error_details_pb2.DebugInfo()
    for detail in status.details:
        for known in (info, bad, retry, debug):
            detail.Unpack(known)
    violations = bad.field_violations
    retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return WireError(
        code=code,
        message=message,
        reason=info.reason if info.domain == DOMAIN else "",
        metadata=dict(info.metadata) if info.domain == DOMAIN else {},
        field=violations[0].field if violations else "",
        retry_after=retry_after if retry.HasField("retry_delay") else None,
        traceback=debug.detail,
    )
