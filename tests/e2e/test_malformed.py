"""What no client of ours sends: each a typed error, and nothing of it in the log but a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from pipeline import errors
from pipelined_api.v1 import deployments_pb2, deployments_pb2_grpc
from tests.e2e.test_bad_input import deploy_header, scaling
from tests.running_daemon import RunningDaemon

NO_MESSAGE = b"\xff\xff\xff"


def reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Deployments/Get", "pipelined.v1.DeploymentsGetRequest"),
        ("Deployments/Warm", "pipelined.v1.WarmRequest"),
        ("Deployments/Deploy", "stream"),
        ("Daemon/Info", "pipelined.v1.InfoRequest"),
        ("Runs/Run", "pipelined.v1.RunRequest"),
    ],
)
def test_bytes_that_are_no_message(daemon: RunningDaemon, method: str, expected: str) -> None:
    path = f"/pipelined.v1.{method}"
    before = daemon.log()
    call: grpc.StreamStreamMultiCallable[bytes, bytes]
    with grpc.insecure_channel(daemon.address) as channel:
        # On the wire one request is a stream of one, and one response as well.
        call = channel.stream_stream(path)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([NO_MESSAGE])))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert expected in (caught.value.details() or "")
    assert reason(caught.value) == "INVALID_REQUEST"
    assert "Traceback" not in daemon.log()[len(before) :]


@pytest.mark.parametrize("length", [10_000, 1_000_000])
def test_what_is_quoted_in_an_error_is_cut(daemon: RunningDaemon, length: int) -> None:
    name = "x" * length
    # Of the headers in which an error travels, gRPC takes 8 KiB by default.
    with grpc.insecure_channel(daemon.address) as channel:
        stub = deployments_pb2_grpc.DeploymentsStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Get(deployments_pb2.DeploymentsGetRequest(name=name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason(caught.value) == "DEPLOYMENT_NOT_FOUND"
    with daemon.client() as client:
        client.deploy(scaling(), "quoting")
        with pytest.raises(errors.InvalidInput):
            client.run("quoting", 1.0, name)
        client.delete("quoting")


def test_code_of_an_equal_deployment_is_not_kept_twice(own_daemon: RunningDaemon) -> None:
    graph = scaling()
    # Pickled elsewhere, the same graph has other bytes.
    other = b"the same, in other bytes"
    header = deploy_header(graph, name="equal")
    with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
        first = client.deploy(graph, "equal")
        before = sorted((own_daemon.state_dir / "code").iterdir())
        header.header.digest = first.digest
        header.header.code_size = len(other)
        header.header.code_sha256 = hashlib.sha256(other).digest()

        def messages() -> Iterator[deployments_pb2.DeployRequest]:
            yield header
            yield deployments_pb2.DeployRequest(code=other)

        response = deployments_pb2_grpc.DeploymentsStub(channel).Deploy(messages())
        assert not response.created
        assert response.deployment.version == 1
        assert sorted((own_daemon.state_dir / "code").iterdir()) == before
        assert client.run("equal", 2.0, 3) == [6.0]


def test_a_caller_that_leaves_while_it_sends_code(own_daemon: RunningDaemon) -> None:
    folder = own_daemon.state_dir / "code"
    with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
        header = deploy_header(scaling(), name="left")
        header.header.code_size = 100
        sent: list[Path] = []

        def messages() -> Iterator[deployments_pb2.DeployRequest]:
            yield header
            # Only when the daemon has begun to receive, the caller breaks off.
            while not sent:
                sent.extend(folder.iterdir())
            raise RuntimeError("no more")

        with pytest.raises(grpc.RpcError):
            deployments_pb2_grpc.DeploymentsStub(channel).Deploy(messages())
        while any(folder.iterdir()):
            client.info()
        with pytest.raises(errors.NotFound):
            client.deployment("left")
