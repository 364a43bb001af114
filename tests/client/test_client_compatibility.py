"""Ends of different versions work together, or are told by name that they do not."""

from __future__ import annotations

import grpc
import pytest

from pipeline import Client, Pipeline, Variable, errors, pipe
from pipeline._errors_wire import read
from pipelined_api.v1 import daemon_pb2, deployments_pb2
from pipelined_api.v1.daemon_pb2_grpc import DaemonStub
from pipelined_api.v1.deployments_pb2_grpc import DeploymentsStub
from pipelined_api.versions import API_VERSION, API_VERSION_KEY, major
from tests.client.aborting_daemon import AbortingDaemon
from tests.running_daemon import RunningDaemon

MAJOR = int(major(API_VERSION))
MINOR = int(API_VERSION.partition(".")[2])


@pipe
def same(number: int) -> int:
    return number


def listing(daemon: RunningDaemon, version: str | None) -> deployments_pb2.DeploymentsListResponse:
    metadata = () if version is None else ((API_VERSION_KEY, version),)
    with grpc.insecure_channel(daemon.address) as channel:
        # As any client has to be able to, whatever it is.
        DaemonStub(channel).Info(daemon_pb2.InfoRequest(), metadata=metadata)
        return DeploymentsStub(channel).List(
            deployments_pb2.DeploymentsListRequest(), metadata=metadata
        )


@pytest.mark.parametrize(
    "version", [None, f"{MAJOR}.{MINOR - 1}", f"{MAJOR}.{MINOR + 1}", f"{MAJOR}"]
)
def test_a_client_with_another_minor_version_is_served(
    daemon: RunningDaemon, version: str | None
) -> None:
    assert isinstance(listing(daemon, version), deployments_pb2.DeploymentsListResponse)


@pytest.mark.parametrize("version", [f"{MAJOR + 1}.0", f"{MAJOR - 1}.9", "", "nonsense" * 100])
def test_a_client_with_another_major_version_is_refused_by_name(
    daemon: RunningDaemon, version: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        listing(daemon, version)
    wire = read(caught.value)
    assert wire.code is grpc.StatusCode.FAILED_PRECONDITION
    assert wire.reason == "API_MISMATCH"
    assert f"the client has API {version[:20]}, the daemon API {API_VERSION}" in wire.message


@pytest.mark.parametrize("minor", [MINOR - 1, MINOR + 1])
def test_a_daemon_with_another_minor_version_that_lacks_a_call(
    server: AbortingDaemon, minor: int
) -> None:
    server.api_version = f"{MAJOR}.{minor}"
    with Client(server.address) as client:
        # What both know works.
        assert client.list() == []
        assert client.info().api_version == server.api_version
        with pytest.raises(errors.NotServed) as caught:
            client.files.stat("0" * 64)
    text = str(caught.value)
    assert f"pipelined 0.0.9 with API {MAJOR}.{minor}" in text
    assert "does not serve FilesStat: it is" in text
    assert f"this client has API {API_VERSION}" in text


def test_a_daemon_with_another_major_version(server: AbortingDaemon) -> None:
    server.api_version = f"{MAJOR + 1}.0"
    with Client(server.address) as client, pytest.raises(errors.Incompatible) as caught:
        client.files.stat("0" * 64)
    assert caught.value.subject == "API"
    assert caught.value.client_version == API_VERSION
    assert caught.value.daemon_version == f"{MAJOR + 1}.0"


def test_the_client_says_its_version(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pipeline() as builder:
        builder.output(same(Variable(int)))
    monkeypatch.setattr("pipeline._transport.API_VERSION", f"{MAJOR + 1}.0")
    with daemon.client() as client:
        with pytest.raises(errors.Incompatible) as caught:
            client.deploy(builder.get_pipeline(), "too-new")
        assert caught.value.reason == "API_MISMATCH"
        assert (caught.value.client_version, caught.value.daemon_version) == (
            f"{MAJOR + 1}.0",
            API_VERSION,
        )
