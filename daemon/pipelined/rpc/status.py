"""Errors of the domain as gRPC statuses: the one table, and the one place that applies it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from pipelined.core import access, errors
from pipelined.core.errors import DomainError, Failure, InvalidRequest
from pipelined.rpc import failed_calls
from pipelined.rpc.caller import caller
from pipelined.rpc.parsing import Malformed

DOMAIN = "pipelined"
# A status travels in HTTP/2 headers, of which most clients take 8 KiB, the message in it twice and
# the details as base64. Hence these numbers of bytes; what a startup failed with is whole in
# Deployments.Get.
MAX_TEXT = 1024
MAX_METADATA = 128
MAX_TRACEBACK = 3072
# The key under which the trailing metadata of a call has the id of its run.
_DEBUG_INFO = f"/{error_details_pb2.DebugInfo.DESCRIPTOR.full_name}"
RUN_ID_METADATA = "pipelined-run-id"
log = structlog.get_logger()

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one type of error is told.

    Attributes:
        code: Of google.rpc.Code.
        reason: ErrorInfo.reason; never changes once released.
        metadata: ErrorInfo.metadata: the error's fields that a program may want.
        bad_field: Name of the field for BadRequest, or empty.
    """

    code: int
    reason: str
    metadata: Callable[[Any], dict[str, str]] = lambda error: {}
    bad_field: Callable[[Any], str] = lambda error: ""


def _run(error: errors.RunFailed) -> dict[str, str]:
    return {"node": error.failure.node, "type": error.failure.type, "run_id": error.run_id}


def _exit(error: errors.WorkerDied) -> dict[str, str]:
    fields = {"signal": error.exit.signal or "", "run_id": error.run_id}
    if error.exit.limit:
        fields["limit"] = f"{error.exit.limit:.15g}"
    if error.exit.exit_code is not None:
        fields["exit_code"] = str(error.exit.exit_code)
    return fields


def _startup(error: errors.StartupFailed) -> dict[str, str]:
    return {
        "deployment": error.deployment,
        "node": error.failure.node,
        "type": error.failure.type,
        "cause": error.cause,
        "subject": error.subject,
    }


TABLE: dict[type[DomainError], Mapping] = {
    errors.DeploymentNotFound: Mapping(
        code_pb2.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", lambda e: {"name": e.name}
    ),
    errors.VersionNotFound: Mapping(
        code_pb2.NOT_FOUND,
        "VERSION_NOT_FOUND",
        lambda e: {"name": e.name, "version": str(e.version)},
    ),
    errors.PointerNotFound: Mapping(
        code_pb2.NOT_FOUND,
        "POINTER_NOT_FOUND",
        lambda e: {"name": e.name, "pointer": e.pointer},
    ),
    errors.DeploymentDeleted: Mapping(
        code_pb2.NOT_FOUND, "DEPLOYMENT_DELETED", lambda e: {"name": e.name}
    ),
    errors.DeploymentCooled: Mapping(
        code_pb2.ABORTED,
        "DEPLOYMENT_COOLED",
        lambda e: {"name": e.name, "version": str(e.version)},
    ),
    errors.VersionInUse: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "VERSION_IN_USE",
        lambda e: {
            "name": e.name,
            "version": str(e.version),
            "pointers": ",".join(e.pointers),
        },
    ),
    errors.PointerExists: Mapping(
        code_pb2.ALREADY_EXISTS,
        "POINTER_EXISTS",
        lambda e: {"pointer": e.pointer, "version": str(e.version)},
    ),
    errors.PointerLocked: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "POINTER_LOCKED",
        lambda e: {"pointer": e.pointer, "version": str(e.version)},
    ),
    errors.EnvironmentNotFound: Mapping(
        code_pb2.NOT_FOUND, "ENVIRONMENT_NOT_FOUND", lambda e: {"name": e.name}
    ),
    errors.EnvironmentExists: Mapping(
        code_pb2.ALREADY_EXISTS, "ENVIRONMENT_EXISTS", lambda e: {"name": e.name}
    ),
    errors.InvalidRequest: Mapping(
        code_pb2.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        lambda e: {"field": e.field},
        lambda e: str(e.field),
    ),
    errors.InvalidInput: Mapping(
        code_pb2.INVALID_ARGUMENT,
        "INVALID_INPUT",
        lambda e: {"field": e.field, "bound": e.bound or ""},
        lambda e: str(e.field),
    ),
    errors.PythonMismatch: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "PYTHON_MISMATCH",
        lambda e: {"client_version": e.client_version, "daemon_version": e.daemon_version},
    ),
    errors.ApiMismatch: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "API_MISMATCH",
        lambda e: {"client_version": e.client_version, "daemon_version": e.daemon_version},
    ),
    errors.MissingPackage: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "MISSING_PACKAGE",
        lambda e: {
            "module": e.module,
            "distribution": e.distribution,
            "client_version": e.client_version,
        },
    ),
    errors.RequirementsNotMet: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "REQUIREMENTS_NOT_MET",
        lambda e: {
            "package": e.package,
            "requirement": e.requirement,
            "installed_version": e.installed,
        },
    ),
    errors.CodeDigestMismatch: Mapping(code_pb2.DATA_LOSS, "CODE_DIGEST_MISMATCH"),
    errors.CodeTooLarge: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "CODE_TOO_LARGE",
        lambda e: {"size": str(e.size), "limit": str(e.limit)},
    ),
    errors.StartupFailed: Mapping(code_pb2.FAILED_PRECONDITION, "STARTUP_FAILED", _startup),
    errors.StartupOutOfMemory: Mapping(code_pb2.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", _startup),
    errors.RunFailed: Mapping(code_pb2.INTERNAL, "RUN_FAILED", _run),
    errors.RunOutOfMemory: Mapping(code_pb2.RESOURCE_EXHAUSTED, "RUN_OUT_OF_MEMORY", _run),
    errors.DeviceOutOfMemory: Mapping(code_pb2.RESOURCE_EXHAUSTED, "DEVICE_OUT_OF_MEMORY", _run),
    errors.RunNotFound: Mapping(
        code_pb2.NOT_FOUND, "RUN_NOT_FOUND", lambda e: {"run_id": e.run_id}
    ),
    errors.RunCancelled: Mapping(
        code_pb2.CANCELLED, "RUN_CANCELLED", lambda e: {"run_id": e.run_id}
    ),
    errors.RunTimedOut: Mapping(
        code_pb2.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        lambda e: {"run_id": e.run_id, "seconds": f"{e.seconds:g}"},
    ),
    errors.RunInterrupted: Mapping(
        code_pb2.ABORTED,
        "RUN_INTERRUPTED",
        lambda e: {"run_id": e.run_id, "attempts": str(e.attempts)},
    ),
    errors.OutputsNotKept: Mapping(
        code_pb2.NOT_FOUND, "OUTPUTS_NOT_KEPT", lambda e: {"run_id": e.run_id}
    ),
    errors.KeyReused: Mapping(
        code_pb2.ALREADY_EXISTS,
        "IDEMPOTENCY_KEY_REUSED",
        lambda e: {"key": e.key, "run_id": e.run_id},
    ),
    errors.OutputNotSendable: Mapping(
        code_pb2.FAILED_PRECONDITION,
        "OUTPUT_TYPE",
        lambda e: {"output": e.output, "run_id": e.run_id},
    ),
    errors.OutputTooLarge: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "OUTPUT_TOO_LARGE",
        lambda e: {"size": str(e.size), "limit": str(e.limit), "run_id": e.run_id},
    ),
    errors.WorkerDied: Mapping(code_pb2.UNAVAILABLE, "WORKER_DIED", _exit),
    errors.WorkerOutOfMemory: Mapping(code_pb2.RESOURCE_EXHAUSTED, "WORKER_OUT_OF_MEMORY", _exit),
    errors.HostOutOfMemory: Mapping(code_pb2.RESOURCE_EXHAUSTED, "HOST_OUT_OF_MEMORY", _exit),
    errors.CpuTimeExceeded: Mapping(code_pb2.RESOURCE_EXHAUSTED, "CPU_TIME_EXCEEDED", _exit),
    errors.NurseryUnavailable: Mapping(code_pb2.UNAVAILABLE, "NURSERY_UNAVAILABLE"),
    errors.QueueFull: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        lambda e: {"deployment": e.deployment, "limit": str(e.limit)},
    ),
    errors.WaitTooLong: Mapping(
        code_pb2.RESOURCE_EXHAUSTED, "WAIT_TOO_LONG", lambda e: {"deployment": e.deployment}
    ),
    errors.WaitingRunsTooLarge: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "WAITING_RUNS_TOO_LARGE",
        lambda e: {"size": str(e.size), "limit": str(e.limit)},
    ),
    errors.ShuttingDown: Mapping(code_pb2.UNAVAILABLE, "DRAINING"),
    errors.StorageFailed: Mapping(
        code_pb2.INTERNAL, "STORAGE_FAILED", lambda e: {"operation": e.operation}
    ),
    errors.FileMissing: Mapping(
        code_pb2.NOT_FOUND, "FILE_NOT_FOUND", lambda e: {"sha256": e.sha256}
    ),
    errors.FileInUse: Mapping(
        code_pb2.FAILED_PRECONDITION, "FILE_IN_USE", lambda e: {"sha256": e.sha256}
    ),
    errors.FileTooLarge: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "FILE_TOO_LARGE",
        lambda e: {"size": str(e.size), "limit": str(e.limit)},
    ),
    errors.FilesFull: Mapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "FILES_FULL",
        lambda e: {"size": str(e.size), "limit": str(e.limit)},
    ),
    errors.UploadStalled: Mapping(
        code_pb2.DEADLINE_EXCEEDED, "UPLOAD_STALLED", lambda e: {"seconds": f"{e.seconds:g}"}
    ),
    errors.FileDigestMismatch: Mapping(
        code_pb2.DATA_LOSS, "FILE_DIGEST_MISMATCH", lambda e: {"sha256": e.sha256}
    ),
    access.TokenMissing: Mapping(code_pb2.UNAUTHENTICATED, "TOKEN_MISSING"),
    access.TokenInvalid: Mapping(code_pb2.UNAUTHENTICATED, "TOKEN_INVALID"),
    access.TokenExpired: Mapping(
        code_pb2.UNAUTHENTICATED, "TOKEN_EXPIRED", lambda e: {"token": e.token_id}
    ),
    access.TokenRevoked: Mapping(
        code_pb2.UNAUTHENTICATED, "TOKEN_REVOKED", lambda e: {"token": e.token_id}
    ),
    access.RoleTooLow: Mapping(
        code_pb2.PERMISSION_DENIED,
        "ROLE_TOO_LOW",
        lambda e: {"method": e.method, "needed": e.needed.label, "role": e.role.label},
    ),
}


def reason_of(error: Exception) -> str:
    """ErrorInfo.reason of an error; empty if it is a bug of ours."""
    return TABLE[type(error)].reason if isinstance(error, DomainError) else ""


def reason_in(status: status_pb2.Status) -> str:
    """ErrorInfo.reason of what is told; empty if it has none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info.reason


def without_tracebacks(serialised: bytes) -> bytes:
    """A serialised status without what those who may not see code may not know."""
    status = status_pb2.Status.FromString(serialised)
    kept = [detail for detail in status.details if not detail.type_url.endswith(_DEBUG_INFO)]
    del status.details[:]
    status.details.extend(kept)
    return status.SerializeToString()


def status_of(error: Exception, run_id: str = "", *, tracebacks: bool = True) -> status_pb2.Status:
    """The google.rpc.Status that tells this error.

    Args:
        error: What happened.
        run_id: Of the run that failed with it.
        tracebacks: Whether user code's are told: they have paths of this machine, and its source.
    """
    if not isinstance(error, DomainError):
        # A bug of ours: the caller is told nothing of it.
        return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error of the daemon")
    mapping = TABLE[type(error)]
    metadata = mapping.metadata(error)
    if run_id:
        metadata.setdefault("run_id", run_id)
    info = error_details_pb2.ErrorInfo(
        reason=mapping.reason,
        domain=DOMAIN,
        metadata={key: _bounded(value, MAX_METADATA) for key, value in metadata.items()},
    )
    details: list[Message] = [info]
    if field := mapping.bad_field(error):
        description = getattr(error, "description", str(error))
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_bounded(field, MAX_METADATA), description=_bounded(description, MAX_TEXT)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (seconds := getattr(error, "retry_after", None)) is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    failure = getattr(error, "failure", None)
    if tracebacks and isinstance(failure, Failure) and failure.traceback:
        traceback = _bounded(failure.traceback, MAX_TRACEBACK)
        details.append(error_details_pb2.DebugInfo(detail=traceback))
    status = status_pb2.Status(code=mapping.code, message=_bounded(str(error), MAX_TEXT))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bounded(text: str, limit: int) -> str:
    """The text, or its beginning and its end."""
    data = text.encode()
    if len(data) <= limit:
        return text
    half = limit // 2 - 2
    return f"{data[:half].decode(errors='ignore')} … {data[-half:].decode(errors='ignore')}"


def _check_parsed(request: object) -> None:
    if isinstance(request, Malformed):
        raise InvalidRequest("request", f"is not a {request.expected}")


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], method: str, error: Exception
) -> NoReturn:
    if isinstance(error, DecodeError):
        # A message in the middle of a stream.
        error = InvalidRequest("request", "a message of the stream cannot be parsed")
    failed_calls.count(reason_of(error))
    if not isinstance(error, DomainError):
        log.error("rpc.internal_error", method=method, exc_info=error)
    trailing = tuple(context.trailing_metadata() or ())
    run_id = next((str(value) for key, value in trailing if key == RUN_ID_METADATA), "")
    rich = rpc_status.to_status(status_of(error, run_id, tracebacks=caller().sees_code))
    await context.abort(rich.code, rich.details, (*trailing, *rich.trailing_metadata))


def unary(
    method: Callable[[Any, Request, grpc.aio.ServicerContext[Any, Any]], Awaitable[Response]],
) -> Callable[[Any, Request, grpc.aio.ServicerContext[Any, Any]], Awaitable[Response]]:
    """Let a method with one response raise errors of the domain."""

    @functools.wraps(method)
    async def translated(
        self: Any, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Response:
        try:
            _check_parsed(request)
            return await method(self, request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, method.__qualname__, error)

    return translated


def streaming(
    method: Callable[[Any, Request, grpc.aio.ServicerContext[Any, Any]], AsyncIterator[Response]],
) -> Callable[[Any, Request, grpc.aio.ServicerContext[Any, Any]], AsyncIterator[Response]]:
    """Let a method with a stream of responses raise errors of the domain."""

    @functools.wraps(method)
    async def translated(
        self: Any, request: Request, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        try:
            _check_parsed(request)
            async for response in method(self, request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, method.__qualname__, error)

    return translated
