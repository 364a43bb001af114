"""Every failure of a call becomes an error of the library: read back from real statuses."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Client, errors
from pipeline._errors_wire import BY_CODE, BY_REASON
from pipeline.timeline import Stage
from pipelined.core import access
from pipelined.core import errors as domain
from pipelined.core.errors import DomainError, Exit, Failure
from pipelined.rpc.status import TABLE, status_of
from tests.client.aborting_daemon import AbortingDaemon, aborting

WORDS = st.sampled_from(["signal", "exit_code", "node", "field", "bound", "module", "output", ""])
FACTS = st.text(max_size=20) | st.text("-0123456789²٣", max_size=4)
FAILURE = Failure("ValueError", "bad value", "Traceback (most recent call last): …", "Model.load")


@pytest.fixture
def client(server: AbortingDaemon) -> Iterator[Client]:
    with Client(server.address) as made:
        yield made


def failure_of(call: Callable[[], object]) -> errors.PipelineError:
    with pytest.raises(errors.PipelineError) as caught:
        call()
    # No gRPC error follows in the traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


FROM_DAEMON: list[tuple[DomainError, type[errors.PipelineError], dict[str, object]]] = [
    (domain.DeploymentNotFound("x"), errors.NotFound, {}),
    (domain.VersionNotFound("x", 3, [1]), errors.NotFound, {}),
    (domain.PointerNotFound("x", "p", []), errors.NotFound, {}),
    (domain.DeploymentDeleted("x"), errors.NotFound, {}),
    (domain.DeploymentCooled("x", 3), errors.Cancelled, {}),
    (domain.VersionInUse("x", 3, ["p"]), errors.PipelineError, {}),
    (domain.PointerExists("x:p", 3), errors.AlreadyExists, {}),
    (domain.PointerLocked("x:p", 3), errors.PipelineError, {}),
    (domain.EnvironmentNotFound("x"), errors.NotFound, {}),
    (domain.EnvironmentExists("x"), errors.AlreadyExists, {}),
    (domain.InvalidRequest("name", "is bad"), errors.InvalidInput, {"field": "name"}),
    (
        domain.InvalidInput("kwargs.height", "too big", "le=1024"),
        errors.InvalidInput,
        {"field": "kwargs.height", "bound": "le=1024"},
    ),
    (domain.InvalidInput("x", "missing"), errors.InvalidInput, {"field": "x", "bound": None}),
    (
        domain.PythonMismatch("3.9.1", "3.11.2"),
        errors.Incompatible,
        {"subject": "python", "client_version": "3.9.1", "daemon_version": "3.11.2"},
    ),
    (
        domain.ApiMismatch("2.0", "1.1"),
        errors.Incompatible,
        {"subject": "API", "client_version": "2.0", "daemon_version": "1.1"},
    ),
    (
        domain.MissingPackage("PIL", "pillow", "11.0"),
        errors.Incompatible,
        {"subject": "pillow", "client_version": "11.0", "daemon_version": ""},
    ),
    (domain.MissingPackage("mine", "", ""), errors.Incompatible, {"subject": "mine"}),
    (
        domain.RequirementsNotMet(["no"], package="torch", requirement="torch>=3", installed="2.4"),
        errors.Incompatible,
        {"subject": "torch", "client_version": "torch>=3", "daemon_version": "2.4"},
    ),
    (domain.CodeDigestMismatch("short"), errors.PipelineError, {}),
    (domain.CodeTooLarge(3, 2), errors.SerialisationError, {"subject": "graph"}),
    (
        domain.StartupFailed("x", FAILURE, retry_after=1.5),
        errors.StartupFailed,
        {
            "deployment": "x",
            "node": "Model.load",
            "remote_traceback": FAILURE.traceback,
            "retry_after": 1.5,
        },
    ),
    (
        domain.StartupOutOfMemory("x", FAILURE, retry_after=1.5),
        errors.StartupFailed,
        {
            "deployment": "x",
            "node": "Model.load",
            "remote_traceback": FAILURE.traceback,
            "retry_after": 1.5,
            "reason": "OUT_OF_MEMORY",
        },
    ),
    (
        domain.RunFailed("id", FAILURE),
        errors.RunFailed,
        {"node": "Model.load", "remote_traceback": FAILURE.traceback},
    ),
    (domain.RunOutOfMemory("id", FAILURE), errors.RunFailed, {"node": "Model.load"}),
    (domain.DeviceOutOfMemory("id", FAILURE), errors.RunFailed, {"node": "Model.load"}),
    (domain.RunNotFound("id"), errors.NotFound, {"metadata": {"run_id": "id"}}),
    (domain.RunCancelled("id"), errors.Cancelled, {"metadata": {"run_id": "id"}}),
    (domain.RunTimedOut("id", 1.5), errors.DeadlineExceeded, {}),
    (domain.OutputsNotKept("id", "why"), errors.NotFound, {"metadata": {"run_id": "id"}}),
    (domain.KeyReused("key", "id"), errors.AlreadyExists, {}),
    (
        domain.OutputNotSendable("id", "outputs[0]", "no"),
        errors.SerialisationError,
        {"subject": "outputs[0]"},
    ),
    (domain.OutputTooLarge("id", 3, 2), errors.SerialisationError, {}),
    (
        domain.WorkerDied(Exit(signal="SIGKILL")),
        errors.WorkerDied,
        {"signal": "SIGKILL", "exit_code": None},
    ),
    (
        domain.WorkerDied.of(Exit(signal="SIGKILL", excess=domain.Excess.CPU_TIME, limit=2.5)),
        errors.WorkerDied,
        {"signal": "SIGKILL", "metadata": {"signal": "SIGKILL", "run_id": "", "limit": "2.5"}},
    ),
    (
        domain.WorkerDied.of(Exit(signal="SIGKILL", excess=domain.Excess.MEMORY, limit=2**40)),
        errors.WorkerDied,
        {"metadata": {"signal": "SIGKILL", "run_id": "", "limit": str(2**40)}},
    ),
    (
        domain.WorkerDied.of(Exit(signal="SIGKILL", excess=domain.Excess.HOST_MEMORY)),
        errors.WorkerDied,
        {"metadata": {"signal": "SIGKILL", "run_id": ""}},
    ),
    (domain.WorkerDied(Exit(exit_code=3)), errors.WorkerDied, {"signal": None, "exit_code": 3}),
    (domain.NurseryUnavailable("why", 2.5), errors.Unavailable, {"retry_after": 2.5}),
    (domain.QueueFull("x", 10, 0.25), errors.Overloaded, {"retry_after": 0.25}),
    (domain.WaitTooLong("x", 2.5, 1.0), errors.Overloaded, {"retry_after": 2.5}),
    (domain.WaitingRunsTooLarge(3, 2, 1.5), errors.Overloaded, {"retry_after": 1.5}),
    (domain.RunInterrupted("run-1", 1), errors.WorkerDied, {}),
    (domain.UploadStalled(60.0), errors.DeadlineExceeded, {}),
    (domain.ShuttingDown(), errors.Unavailable, {"retry_after": None}),
    (domain.StorageFailed("store", "full"), errors.PipelineError, {}),
    (domain.FileMissing("ab", "a.txt"), errors.NotFound, {"metadata": {"sha256": "ab"}}),
    (domain.FileInUse("ab"), errors.PipelineError, {}),
    (domain.FileTooLarge(3, 2), errors.InvalidInput, {"field": "file", "bound": "max_bytes=2"}),
    (domain.FilesFull(3, 2), errors.Overloaded, {"retry_after": None}),
    (domain.FileDigestMismatch("ab", "bad"), errors.PipelineError, {}),
    (access.TokenMissing(), errors.PermissionDenied, {"metadata": {}}),
    (access.TokenInvalid(), errors.PermissionDenied, {"metadata": {}}),
    (access.TokenExpired("id"), errors.PermissionDenied, {"metadata": {"token": "id"}}),
    (access.TokenRevoked("id"), errors.PermissionDenied, {"metadata": {"token": "id"}}),
    (
        access.RoleTooLow("Delete", access.Role.DEPLOY, access.Role.RUN),
        errors.PermissionDenied,
        {"metadata": {"method": "Delete", "needed": "deploy", "role": "run"}},
    ),
]


@pytest.mark.parametrize(
    ("error", "cls", "fields"), FROM_DAEMON, ids=[type(row[0]).__name__ for row in FROM_DAEMON]
)
def test_what_the_daemon_says_keeps_its_type_and_fields(
    server: AbortingDaemon,
    client: Client,
    error: DomainError,
    cls: type[errors.PipelineError],
    fields: dict[str, object],
) -> None:
    server.behaviour = aborting(status_of(error))
    raised = failure_of(client.info)
    assert type(raised) is cls
    assert raised.message == str(error)
    assert raised.reason == TABLE[type(error)].reason
    assert {name: getattr(raised, name) for name in fields} == fields
    # It was answered: asking again would not help.
    assert server.calls == 1


def test_the_tables_are_total() -> None:
    assert {mapping.reason for mapping in TABLE.values()} <= set(BY_REASON)
    assert {type(error) for error, _, _ in FROM_DAEMON} == set(TABLE)
    assert set(BY_CODE) == set(grpc.StatusCode)


BY_CODE_ALONE: list[tuple[grpc.StatusCode, type[errors.PipelineError]]] = [
    (grpc.StatusCode.CANCELLED, errors.Cancelled),
    (grpc.StatusCode.UNKNOWN, errors.PipelineError),
    (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidInput),
    (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
    (grpc.StatusCode.NOT_FOUND, errors.NotFound),
    (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
    (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
    (grpc.StatusCode.UNAUTHENTICATED, errors.PermissionDenied),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
    (grpc.StatusCode.FAILED_PRECONDITION, errors.PipelineError),
    (grpc.StatusCode.ABORTED, errors.PipelineError),
    (grpc.StatusCode.OUT_OF_RANGE, errors.InvalidInput),
    (grpc.StatusCode.UNIMPLEMENTED, errors.NotServed),
    (grpc.StatusCode.INTERNAL, errors.PipelineError),
    (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
    (grpc.StatusCode.DATA_LOSS, errors.PipelineError),
]


@pytest.mark.parametrize(("code", "cls"), BY_CODE_ALONE)
def test_without_a_reason_the_code_decides(
    server: AbortingDaemon,
    client: Client,
    code: grpc.StatusCode,
    cls: type[errors.PipelineError],
) -> None:
    server.behaviour = lambda context: context.abort(code, "because")
    raised = failure_of(lambda: client.delete("x"))
    assert type(raised) is cls
    assert raised.reason == ""


def test_an_unknown_reason_of_a_newer_daemon_is_kept(
    server: AbortingDaemon, client: Client
) -> None:
    info = error_details_pb2.ErrorInfo(domain="pipelined", reason="TOO_HOT", metadata={"t": "99"})
    detail = any_pb2.Any()
    detail.Pack(info)
    server.behaviour = aborting(
        status_pb2.Status(code=code_pb2.UNAVAILABLE, message="too hot", details=[detail])
    )
    raised = failure_of(client.info)
    assert type(raised) is errors.Unavailable
    assert (raised.reason, raised.metadata, raised.message) == ("TOO_HOT", {"t": "99"}, "too hot")


def test_a_reason_of_another_domain_is_not_ours(server: AbortingDaemon, client: Client) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(domain="proxy.example", reason="RUN_FAILED"))
    server.behaviour = aborting(
        status_pb2.Status(code=code_pb2.NOT_FOUND, message="no route", details=[detail])
    )
    raised = failure_of(client.info)
    assert type(raised) is errors.NotFound
    assert raised.reason == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_garbage_in_the_details_leaves_the_code(
    server: AbortingDaemon, client: Client, details: bytes
) -> None:
    def behave(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    server.behaviour = behave
    assert type(failure_of(client.info)) is errors.NotFound


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(BY_REASON)), st.dictionaries(WORDS, FACTS, max_size=4))
def test_odd_facts_of_a_known_reason_are_no_error_of_ours(
    server: AbortingDaemon, client: Client, reason: str, metadata: dict[str, str]
) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(domain="pipelined", reason=reason, metadata=metadata))
    server.behaviour = aborting(
        status_pb2.Status(code=code_pb2.ABORTED, message="x", details=[detail])
    )
    raised = failure_of(client.info)
    assert (raised.reason, raised.metadata) == (reason, metadata)


def test_a_long_traceback_arrives_with_its_beginning_and_its_end(
    server: AbortingDaemon, client: Client
) -> None:
    long = "".join(f'  File "model.py", line {line}, in load\n' for line in range(3000))
    server.behaviour = aborting(
        status_of(domain.RunFailed("id", Failure("ValueError", "x", long, "load")))
    )
    raised = failure_of(client.info)
    assert isinstance(raised, errors.RunFailed)
    assert raised.remote_traceback.startswith(long[:1000])
    assert raised.remote_traceback.endswith(long[-1000:])


def test_a_startup_that_fails_ends_the_stream(server: AbortingDaemon, client: Client) -> None:
    server.behaviour = aborting(status_of(domain.StartupFailed("x", FAILURE)))
    assert type(failure_of(lambda: client.warm("x"))) is errors.StartupFailed


def test_nobody_at_the_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    address = f"unix:{tmp_path_factory.mktemp('s')}/d.sock"
    with Client(address) as client:
        raised = failure_of(client.list)
    assert type(raised) is errors.Unavailable
    assert address in raised.message
    assert "No such file or directory" in raised.message
    assert "pipelined serve" in raised.message


def test_reading_is_tried_again_and_acting_is_not(server: AbortingDaemon, client: Client) -> None:
    server.behaviour = lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    assert type(failure_of(client.info)) is errors.Unavailable
    assert server.calls > 1
    server.calls = 0
    assert type(failure_of(lambda: client.delete("x"))) is errors.Unavailable
    assert server.calls == 1


def functions_of(thread: int) -> list[str]:
    """What a thread is in the middle of."""
    frames = traceback.walk_stack(sys._current_frames()[thread])
    return [frame.f_code.co_name for frame, _ in frames]


def test_an_interrupted_wait_cancels_the_call(server: AbortingDaemon, client: Client) -> None:
    cancelled = threading.Event()
    main = threading.get_ident()

    def behave(context: grpc.ServicerContext) -> None:
        context.add_callback(cancelled.set)
        # The call arrives here before its caller has begun to wait for the result.
        while "result" not in functions_of(main):
            cancelled.wait(0.01)
        signal.pthread_kill(main, signal.SIGINT)
        cancelled.wait(30)

    server.behaviour = behave
    with pytest.raises(KeyboardInterrupt):
        client.delete("x")
    assert cancelled.wait(30)


def test_a_startup_that_nobody_watches_any_more(server: AbortingDaemon, client: Client) -> None:
    def interrupt(stage: Stage) -> None:
        raise KeyboardInterrupt

    def behave(context: grpc.ServicerContext) -> None:
        server.warm_ended.wait(30)

    server.behaviour = behave
    with pytest.raises(KeyboardInterrupt):
        client.warm("x", on_progress=interrupt)
    assert server.warm_ended.wait(30)


def test_a_closed_client_says_so(server: AbortingDaemon) -> None:
    client = Client(server.address)
    client.info()
    client.close()
    with pytest.raises(errors.PipelineError, match="closed"):
        client.info()


@pytest.mark.parametrize("name", ["a b", "a#b?c", "100%41", "ü"])
def test_any_path_can_be_a_socket(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    socket = tmp_path_factory.mktemp("s") / name
    server = AbortingDaemon(socket)
    try:
        assert socket.is_socket()
        for address in (f"unix:{socket}", str(socket)):
            with Client(address) as client:
                client.info()
    finally:
        server.stop()


@pytest.mark.parametrize(
    "address", ["nonsense", "host:port", "http://h:1", "unix:", "unix:/" + "x" * 200]
)
def test_no_address(address: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Client(address)
    assert caught.value.field == "address"


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="No such file") as caught:
        Client("localhost:1", ca=tmp_path / "ca.pem")
    assert caught.value.field == "ca"


def test_a_file_without_a_certificate(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(errors.InvalidInput, match=r"no PEM in the file .*ca\.pem") as caught:
        Client("localhost:1", ca=path)
    assert caught.value.field == "ca"
