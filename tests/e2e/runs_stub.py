"""The Runs service as its stub has it, for tests of what the client library does not show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from pipeline import _values
from pipelined_api.limits import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from pipelined_api.v1 import runs_pb2, runs_pb2_grpc, values_pb2
from tests.running_daemon import RunningDaemon

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)
# A run that should have ended by then hangs.
LONG = 120.0


@contextlib.contextmanager
def runs_of(daemon: RunningDaemon) -> Iterator[runs_pb2_grpc.RunsStub]:
    """A stub on a channel of its own."""
    with grpc.insecure_channel(daemon.address, options=OPTIONS) as channel:
        yield runs_pb2_grpc.RunsStub(channel)


def encoded(*inputs: object) -> list[values_pb2.Value]:
    """Positional inputs."""
    return [_values.encode(value) for value in inputs]


def submit(
    stub: runs_pb2_grpc.RunsStub,
    deployment: str,
    *inputs: object,
    key: str = "",
    timeout: float = 0.0,
) -> runs_pb2.RunInfo:
    """Submit a run."""
    request = runs_pb2.SubmitRequest(
        deployment=deployment,
        inputs=encoded(*inputs),
        idempotency_key=key,
        timeout_seconds=timeout,
    )
    return stub.Submit(request).run


def get(stub: runs_pb2_grpc.RunsStub, run_id: str, wait: float = 0.0) -> runs_pb2.RunsGetResponse:
    """Ask for a run."""
    return stub.Get(runs_pb2.RunsGetRequest(run_id=run_id, wait_seconds=wait))


def ended(stub: runs_pb2_grpc.RunsStub, run_id: str) -> runs_pb2.RunsGetResponse:
    """Wait for the end of a run."""
    response = get(stub, run_id, LONG)
    assert response.run.HasField("ended_at")
    return response


def cancel(stub: runs_pb2_grpc.RunsStub, run_id: str) -> runs_pb2.RunInfo:
    """Cancel a run."""
    return stub.Cancel(runs_pb2.CancelRequest(run_id=run_id)).run


def listed(stub: runs_pb2_grpc.RunsStub, deployment: str, limit: int = 0) -> list[runs_pb2.RunInfo]:
    """The runs of a deployment, the newest first."""
    return [*stub.List(runs_pb2.RunsListRequest(deployment=deployment, limit=limit)).runs]


def outputs(response: runs_pb2.RunsGetResponse) -> list[object]:
    """What a run gave back."""
    assert response.WhichOneof("outcome") == "response", response.run
    return [_values.decode(value) for value in response.response.outputs]


@dataclass(frozen=True)
class Told:
    """What a status says."""

    code: int
    message: str
    reason: str
    metadata: dict[str, str]
    traceback: str


def told(serialised: bytes) -> Told:
    """Read a serialised google.rpc.Status."""
    status = status_pb2.Status.FromString(serialised)
    info, debug = error_details_pb2.ErrorInfo(), error_details_pb2.DebugInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(debug)
    return Told(status.code, status.message, info.reason, dict(info.metadata), debug.detail)


def refused(call: Callable[[], object]) -> tuple[Told, dict[str, str | bytes]]:
    """What a call fails with, and its trailing metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: object = caught.value
    assert isinstance(error, grpc.Call)
    trailing = dict(error.trailing_metadata() or ())
    details = trailing["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    return told(details), trailing
