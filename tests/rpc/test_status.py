"""The table of errors is total, and its reasons are stable."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from pipelined.core import access, errors
from pipelined.core.access import AccessRefused, Role
from pipelined.core.errors import DomainError, Exit, Failure
from pipelined.rpc.status import TABLE, status_of

EXHAUSTED = code_pb2.RESOURCE_EXHAUSTED
FAILURE = Failure("ValueError", "bad value", "Traceback …", "Model.load")

# One of each, with the reason and the code that clients rely on: changing one breaks them.
EXAMPLES: list[tuple[DomainError, str, int]] = [
    (errors.DeploymentNotFound("x"), "DEPLOYMENT_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.VersionNotFound("x", 3, [1]), "VERSION_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.PointerNotFound("x", "p", []), "POINTER_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.DeploymentDeleted("x"), "DEPLOYMENT_DELETED", code_pb2.NOT_FOUND),
    (errors.DeploymentCooled("x", 3), "DEPLOYMENT_COOLED", code_pb2.ABORTED),
    (errors.VersionInUse("x", 3, ["p"]), "VERSION_IN_USE", code_pb2.FAILED_PRECONDITION),
    (errors.PointerExists("x:p", 3), "POINTER_EXISTS", code_pb2.ALREADY_EXISTS),
    (errors.PointerLocked("x:p", 3), "POINTER_LOCKED", code_pb2.FAILED_PRECONDITION),
    (errors.EnvironmentNotFound("x"), "ENVIRONMENT_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.EnvironmentExists("x"), "ENVIRONMENT_EXISTS", code_pb2.ALREADY_EXISTS),
    (errors.InvalidRequest("name", "is bad"), "INVALID_REQUEST", code_pb2.INVALID_ARGUMENT),
    (errors.InvalidInput("a.b", "too big", "le=3"), "INVALID_INPUT", code_pb2.INVALID_ARGUMENT),
    (errors.PythonMismatch("3.9", "3.11"), "PYTHON_MISMATCH", code_pb2.FAILED_PRECONDITION),
    (errors.ApiMismatch("2.0", "1.1"), "API_MISMATCH", code_pb2.FAILED_PRECONDITION),
    (errors.MissingPackage("m", "d", "1"), "MISSING_PACKAGE", code_pb2.FAILED_PRECONDITION),
    (
        errors.RequirementsNotMet(["no"], package="p", requirement="p>1", installed=""),
        "REQUIREMENTS_NOT_MET",
        code_pb2.FAILED_PRECONDITION,
    ),
    (errors.CodeDigestMismatch("short"), "CODE_DIGEST_MISMATCH", code_pb2.DATA_LOSS),
    (errors.CodeTooLarge(3, 2), "CODE_TOO_LARGE", code_pb2.RESOURCE_EXHAUSTED),
    (
        errors.StartupFailed("x", FAILURE, retry_after=1.5),
        "STARTUP_FAILED",
        code_pb2.FAILED_PRECONDITION,
    ),
    (errors.StartupOutOfMemory("x", FAILURE), "OUT_OF_MEMORY", code_pb2.RESOURCE_EXHAUSTED),
    (errors.RunFailed("id", FAILURE), "RUN_FAILED", code_pb2.INTERNAL),
    (errors.RunOutOfMemory("id", FAILURE), "RUN_OUT_OF_MEMORY", code_pb2.RESOURCE_EXHAUSTED),
    (errors.DeviceOutOfMemory("id", FAILURE), "DEVICE_OUT_OF_MEMORY", code_pb2.RESOURCE_EXHAUSTED),
    (errors.RunNotFound("id"), "RUN_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.RunCancelled("id"), "RUN_CANCELLED", code_pb2.CANCELLED),
    (errors.RunTimedOut("id", 1.5), "DEADLINE_EXCEEDED", code_pb2.DEADLINE_EXCEEDED),
    (errors.RunInterrupted("id", 1), "RUN_INTERRUPTED", code_pb2.ABORTED),
    (errors.OutputsNotKept("id", "why"), "OUTPUTS_NOT_KEPT", code_pb2.NOT_FOUND),
    (errors.KeyReused("key", "id"), "IDEMPOTENCY_KEY_REUSED", code_pb2.ALREADY_EXISTS),
    (errors.OutputNotSendable("id", "o", "no"), "OUTPUT_TYPE", code_pb2.FAILED_PRECONDITION),
    (errors.OutputTooLarge("id", 3, 2), "OUTPUT_TOO_LARGE", code_pb2.RESOURCE_EXHAUSTED),
    (errors.WorkerDied(Exit("SIGKILL")), "WORKER_DIED", code_pb2.UNAVAILABLE),
    *(
        (errors.WorkerDied.of(Exit("SIGKILL", excess=excess, limit=3)), reason, EXHAUSTED)
        for excess, reason in (
            (errors.Excess.MEMORY, "WORKER_OUT_OF_MEMORY"),
            (errors.Excess.HOST_MEMORY, "HOST_OUT_OF_MEMORY"),
            (errors.Excess.CPU_TIME, "CPU_TIME_EXCEEDED"),
        )
    ),
    (errors.NurseryUnavailable("why"), "NURSERY_UNAVAILABLE", code_pb2.UNAVAILABLE),
    (errors.QueueFull("x", 10, 2.0), "QUEUE_FULL", code_pb2.RESOURCE_EXHAUSTED),
    (errors.WaitTooLong("x", 9.0, 1.0), "WAIT_TOO_LONG", code_pb2.RESOURCE_EXHAUSTED),
    (
        errors.WaitingRunsTooLarge(3, 2, 1.0),
        "WAITING_RUNS_TOO_LARGE",
        code_pb2.RESOURCE_EXHAUSTED,
    ),
    (errors.ShuttingDown(), "DRAINING", code_pb2.UNAVAILABLE),
    (errors.StorageFailed("store", "full"), "STORAGE_FAILED", code_pb2.INTERNAL),
    (errors.FileMissing("ab"), "FILE_NOT_FOUND", code_pb2.NOT_FOUND),
    (errors.FileInUse("ab"), "FILE_IN_USE", code_pb2.FAILED_PRECONDITION),
    (errors.FileTooLarge(3, 2), "FILE_TOO_LARGE", code_pb2.RESOURCE_EXHAUSTED),
    (errors.FilesFull(3, 2), "FILES_FULL", code_pb2.RESOURCE_EXHAUSTED),
    (errors.UploadStalled(60.0), "UPLOAD_STALLED", code_pb2.DEADLINE_EXCEEDED),
    (errors.FileDigestMismatch("ab", "bad"), "FILE_DIGEST_MISMATCH", code_pb2.DATA_LOSS),
    (access.TokenMissing(), "TOKEN_MISSING", code_pb2.UNAUTHENTICATED),
    (access.TokenInvalid(), "TOKEN_INVALID", code_pb2.UNAUTHENTICATED),
    (access.TokenExpired("id"), "TOKEN_EXPIRED", code_pb2.UNAUTHENTICATED),
    (access.TokenRevoked("id"), "TOKEN_REVOKED", code_pb2.UNAUTHENTICATED),
    (access.RoleTooLow("M", Role.DEPLOY, Role.RUN), "ROLE_TOO_LOW", code_pb2.PERMISSION_DENIED),
]


def leaves(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from leaves(subclass)


def test_every_error_of_the_domain_has_a_status() -> None:
    # That one is only a base.
    assert set(TABLE) == set(leaves(DomainError)) - {AccessRefused}
    assert {type(error) for error, _, _ in EXAMPLES} == set(TABLE)


@pytest.mark.parametrize(
    ("error", "reason", "code"), EXAMPLES, ids=lambda value: getattr(value, "reason", None)
)
def test_status(error: DomainError, reason: str, code: int) -> None:
    status = status_of(error)
    assert status.code == code
    assert status.message == str(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason, "pipelined")


def details(error: DomainError) -> dict[str, bytes]:
    return {detail.TypeName(): detail.value for detail in status_of(error).details}


def test_bad_input_names_the_field() -> None:
    found = details(errors.InvalidInput("a.b", "too big", "le=3"))
    request = error_details_pb2.BadRequest.FromString(found["google.rpc.BadRequest"])
    [violation] = request.field_violations
    assert (violation.field, violation.description) == ("a.b", "too big")


def test_what_is_worth_another_try_says_when() -> None:
    found = details(errors.StartupFailed("x", FAILURE, retry_after=1.5))
    retry = error_details_pb2.RetryInfo.FromString(found["google.rpc.RetryInfo"])
    assert retry.retry_delay.ToMilliseconds() == 1500
    debug = error_details_pb2.DebugInfo.FromString(found["google.rpc.DebugInfo"])
    assert debug.detail == "Traceback …"
    assert "google.rpc.RetryInfo" not in details(errors.StartupFailed("x", FAILURE))


def test_a_startup_out_of_memory_tells_what_any_failed_startup_tells() -> None:
    found = details(errors.StartupOutOfMemory("x", FAILURE, retry_after=1.5))
    info = error_details_pb2.ErrorInfo.FromString(found["google.rpc.ErrorInfo"])
    assert dict(info.metadata) == {
        "deployment": "x",
        "node": "Model.load",
        "type": "ValueError",
        "cause": "out_of_memory",
        "subject": "",
    }
    assert {"google.rpc.RetryInfo", "google.rpc.DebugInfo"} <= found.keys()


def test_a_status_fits_into_the_headers_that_most_clients_take() -> None:
    long = "ü" * 10_000
    failure = Failure(long, long, long, long)
    for error in (
        errors.StartupFailed(long, failure, cause=long, subject=long, retry_after=1.0),
        errors.RunFailed(long, failure),
        errors.InvalidInput(long, long, long),
        errors.DeploymentNotFound(long, [long]),
        errors.VersionInUse(long, 3, [long, long]),
    ):
        rich = rpc_status.to_status(status_of(error))
        [(_, details)] = rich.trailing_metadata
        # Binary metadata is sent as base64.
        assert isinstance(details, bytes)
        assert len(base64.b64encode(details)) + len(rich.details.encode()) < 8192
