"""Versions are kept, named by references, forgotten in order, and never mixed up."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from pipeline import Client, Graph, Pipeline, errors, pipe
from pipeline.deployment import Deployment
from pipelined_api.v1 import deployments_pb2, deployments_pb2_grpc
from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_bad_input import deploy_header
from tests.e2e.test_crashes import wait_until, waiting
from tests.e2e.test_lifecycle import double, single, triple
from tests.running_daemon import RunningDaemon, check_health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pipe
def say_which() -> str:
    return os.environ["WHICH"]


def which() -> Graph:
    with Pipeline() as builder:
        builder.output(say_which())
    return builder.get_pipeline()


def deploy(client: Client, name: str, *whiches: str) -> Deployment:
    """One version for each, all with the same code."""
    for text in whiches:
        deployment = client.deploy(which(), name, environment={"WHICH": text})
    return deployment


def stub(channel: grpc.Channel) -> deployments_pb2_grpc.DeploymentsStub:
    return deployments_pb2_grpc.DeploymentsStub(channel)


def point(
    channel: grpc.Channel,
    pointer: str,
    target: str,
    *,
    overwrite: bool = False,
    locked: bool = False,
    unlock: bool = False,
) -> deployments_pb2.Pointer:
    request = deployments_pb2.SetPointerRequest(
        pointer=pointer, target=target, overwrite=overwrite, locked=locked, unlock=unlock
    )
    return stub(channel).SetPointer(request).pointer


def kept(channel: grpc.Channel, name: str) -> list[int]:
    request = deployments_pb2.DeploymentsListRequest(all_versions=True)
    return [d.version for d in stub(channel).List(request).deployments if d.name == name]


def test_any_version_is_run_by_its_reference(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        assert deploy(client, "kept", "a", "b", "c").version == 3
        for reference, answer in {
            "kept": "c",
            "kept:latest": "c",
            "kept:v3": "c",
            "kept:v1": "a",
            "kept:v2": "b",
        }.items():
            assert client.run(reference) == [answer]
            assert list(client.stream(reference)) == [[answer]]
        assert client.warm("kept:v2").version == 2
        assert client.deployment("kept:v2").version == 2
        # The newest is what the list has of a name, unless all are asked for.
        assert [d.version for d in client.list() if d.name == "kept"] == [3]
        assert kept(channel, "kept") == [1, 2, 3]
        client.delete("kept")


@pytest.mark.parametrize(
    ("reference", "reason", "text"),
    [
        ("nowhere", "DEPLOYMENT_NOT_FOUND", "no deployment named 'nowhere'; there are "),
        ("nowhere:v1", "DEPLOYMENT_NOT_FOUND", "no deployment named 'nowhere'; there are "),
        ("found:v3", "VERSION_NOT_FOUND", "'found' has no version 3; it has v2, v1"),
        ("found:v0", "VERSION_NOT_FOUND", "'found' has no version 0; it has v2, v1"),
        ("found:prod", "POINTER_NOT_FOUND", "'found' has no pointer 'prod'; it has dev"),
    ],
)
def test_what_is_not_found_is_named_with_what_there_is(
    daemon: RunningDaemon, reference: str, reason: str, text: str
) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "found", "a", "b")
        point(channel, "found:dev", "found:v1")
        for call in (client.run, client.warm, client.deployment, client.delete):
            with pytest.raises(errors.NotFound, match=text) as caught:
                call(reference)
            assert caught.value.reason == reason
        with pytest.raises(grpc.RpcError) as refused:
            stub(channel).Cool(deployments_pb2.CoolRequest(name=reference))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        client.delete("found")


@pytest.mark.parametrize("reference", ["x:", "x:a:b", "x:v1 ", "x:v12345678901"])
def test_what_is_no_reference_is_bad_input(daemon: RunningDaemon, reference: str) -> None:
    with daemon.client() as client:
        with pytest.raises(errors.InvalidInput) as caught:
            client.deployment(reference)
        assert (caught.value.reason, caught.value.field) == ("INVALID_REQUEST", "name")
        with pytest.raises(errors.InvalidInput):
            client.run(reference)


def test_a_version_equal_to_an_older_one_is_a_new_one(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        deploy(client, "again-a", "a", "b")
        assert deploy(client, "again-a", "b").version == 2
        assert deploy(client, "again-a", "a").version == 3
        client.delete("again-a")


def test_a_replaced_version_ends_its_runs_and_is_started_again_on_demand(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with daemon.client() as client, ThreadPoolExecutor(2) as pool:
        client.deploy(waiting(), "old", instances=2)
        client.warm("old")
        run = pool.submit(client.run, "old", str(ready), str(release))
        wait_until(ready.exists)
        pids = client.deployment("old").worker_pids
        assert deploy(client, "old", "new").version == 2
        assert client.run("old") == ["new"]
        assert client.deployment("old:v1").state == "draining"
        # An instance is idle, and yet this has to wait for the end of the drain.
        with pytest.raises(errors.DeadlineExceeded):
            client.run("old:v1", str(ready), str(release), timeout=0.3)
        second = pool.submit(client.run, "old:v1", str(ready), str(release))
        release.touch()
        assert run.result()[0] in pids
        assert second.result()[0] not in pids
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert client.deployment("old:v1").startups == 4
        client.delete("old")


def test_the_newest_versions_and_those_with_pointers_are_kept(tmp_path: Path) -> None:
    running = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--versions-kept=2"])
    code = running.state_dir / "code"
    with running.client() as client, grpc.insecure_channel(running.address) as channel:
        client.deploy(single(double), "few")
        point(channel, "few:first", "few")
        client.deploy(single(triple), "few")
        assert client.run("few:v2", 7) == [21]
        [pid] = client.deployment("few:v2").worker_pids
        deploy(client, "few", "a")
        assert kept(channel, "few") == [1, 2, 3]
        assert len(list(code.iterdir())) == 3
        deploy(client, "few", "b")
        assert kept(channel, "few") == [1, 3, 4]
        with pytest.raises(errors.NotFound, match="no version 2; it has v4, v3, v1"):
            client.run("few:v2", 7)
        # Its worker and its code go with it; the code of v3 is that of v4.
        wait_until(lambda: len(list(code.iterdir())) == 2)
        assert not Path(f"/proc/{pid}").exists()
        assert client.run("few:first", 7) == [14]
        stub(channel).DeletePointer(deployments_pb2.DeletePointerRequest(pointer="few:first"))
        assert kept(channel, "few") == [3, 4]
        wait_until(lambda: len(list(code.iterdir())) == 1)
        assert client.run("few:v3") == ["a"]
    running.close()


def test_fewer_are_kept_when_the_daemon_is_told_so(tmp_path: Path) -> None:
    first = RunningDaemon(tmp_path, options=QUICK_PRELOAD)
    with first.client() as client:
        deploy(client, "fewer", "a", "b", "c")
    first.close()
    second = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--versions-kept=1"])
    with second.client() as client, grpc.insecure_channel(second.address) as channel:
        assert kept(channel, "fewer") == [3]
        assert deploy(client, "fewer", "d").version == 4
        assert kept(channel, "fewer") == [4]
    second.close()


def test_at_least_one_version_is_kept() -> None:
    command = [str(Path(sys.executable).with_name("pipelined")), "serve", "--versions-kept=0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "--versions-kept" in result.stderr


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_versions_and_pointers_outlive_the_daemon(own_daemon: RunningDaemon, how: str) -> None:
    with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
        deploy(client, "lasting", "a", "b", "c")
        client.delete("lasting:v3")
        point(channel, "lasting:prod", "lasting:v1", locked=True)
        before = stub(channel).ListPointers(deployments_pb2.ListPointersRequest()).pointers
    if how == "restart":
        own_daemon.restart()
    else:
        own_daemon.kill()
        own_daemon.start()
    with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
        assert kept(channel, "lasting") == [1, 2]
        assert stub(channel).ListPointers(deployments_pb2.ListPointersRequest()).pointers == before
        assert client.run("lasting") == ["b"]
        assert client.run("lasting:prod") == ["a"]
        # The number of a version that was deleted is not given again.
        assert deploy(client, "lasting", "d").version == 4


def test_what_was_answered_outlives_a_kill_at_any_time(own_daemon: RunningDaemon) -> None:
    # The versions whose deployment, and then whose pointer, was answered.
    answered = [0]

    def deploy_on(client: Client) -> None:
        with grpc.insecure_channel(own_daemon.address) as channel:
            while True:
                number = answered[-1] + 1
                assert deploy(client, "killed", f"v{number}").version == number
                point(channel, "killed:newest", "killed", overwrite=True)
                answered.append(number)

    for _ in range(3):
        enough = len(answered) + 5
        with own_daemon.client() as client, ThreadPoolExecutor(1) as pool:
            deploying = pool.submit(deploy_on, client)
            wait_until(lambda enough=enough: len(answered) >= enough)  # type: ignore[misc]
            own_daemon.kill()
            with pytest.raises((errors.Unavailable, grpc.RpcError)):
                deploying.result()
        own_daemon.start()
        with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
            versions = kept(channel, "killed")
            # One more may have been made, but not told.
            newest, last = versions[-1], answered[-1]
            assert newest in (last, last + 1)
            assert versions == list(range(max(1, newest - 9), newest + 1))
            pointed = client.deployment("killed:newest").version
            assert pointed in (last, newest)
            assert client.run("killed:newest") == [f"v{pointed}"]
            assert client.run("killed") == [f"v{newest}"]
            answered.append(newest)


def test_one_version_is_deleted(daemon: RunningDaemon) -> None:
    service = "deployments/one-gone"
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "one-gone", "a", "b", "c")
        point(channel, "one-gone:prod", "one-gone:v3", locked=True)
        with pytest.raises(errors.PipelineError, match="prod points to") as caught:
            client.delete("one-gone:v3")
        assert caught.value.reason == "VERSION_IN_USE"
        assert caught.value.metadata["pointers"] == "prod"
        point(channel, "one-gone:prod", "one-gone:v2", overwrite=True, unlock=True)
        client.run("one-gone")
        [pid] = client.deployment("one-gone").worker_pids
        client.delete("one-gone:latest")
        assert not Path(f"/proc/{pid}").exists()
        assert kept(channel, "one-gone") == [1, 2]
        # The one before is the newest now.
        assert client.run("one-gone") == ["b"]
        assert check_health(channel, service).status == SERVING
        # As long as the name exists.
        assert deploy(client, "one-gone", "c").version == 4
        for version in (1, 4):
            client.delete(f"one-gone:v{version}")
        stub(channel).DeletePointer(deployments_pb2.DeletePointerRequest(pointer="one-gone:prod"))
        client.delete("one-gone:v2")
        with pytest.raises(errors.NotFound) as gone:
            client.deployment("one-gone")
        assert gone.value.reason == "DEPLOYMENT_NOT_FOUND"
        with pytest.raises(grpc.RpcError) as unknown:
            check_health(channel, service)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert deploy(client, "one-gone", "e").version == 1
        client.delete("one-gone")


def test_a_name_is_deleted_with_all_that_it_has(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "all-gone", "a", "b")
        pids: list[int] = []
        for version in (1, 2):
            client.run(f"all-gone:v{version}")
            pids += client.deployment(f"all-gone:v{version}").worker_pids
        point(channel, "all-gone:prod", "all-gone:v1", locked=True)
        client.delete("all-gone")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert kept(channel, "all-gone") == []
        assert deploy(client, "all-gone", "c").version == 1
        listed = stub(channel).ListPointers(deployments_pb2.ListPointersRequest(name="all-gone"))
        assert list(listed.pointers) == []
        client.delete("all-gone")


def test_health_is_that_of_the_newest_version(daemon: RunningDaemon) -> None:
    @pipe(on_startup=True)
    def fail() -> None:
        raise ValueError("on purpose")

    with Pipeline() as builder:
        fail()
        builder.output(say_which())
    service = "deployments/healthy"
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        client.deploy(builder.get_pipeline(), "healthy")
        with pytest.raises(errors.StartupFailed):
            client.warm("healthy")
        assert check_health(channel, service).status == NOT_SERVING
        deploy(client, "healthy", "a")
        assert check_health(channel, service).status == SERVING
        # What an older one does is not told.
        with pytest.raises(errors.StartupFailed):
            client.warm("healthy:v1")
        assert client.deployment("healthy:v1").state == "failed"
        assert check_health(channel, service).status == SERVING
        client.delete("healthy:v2")
        assert check_health(channel, service).status == NOT_SERVING
        client.delete("healthy")


def send(
    channel: grpc.Channel, name: str, graph: Graph, key: str, **environment: str
) -> deployments_pb2.DeployResponse:
    code = graph.dumps()
    header = deploy_header(
        graph,
        name=name,
        idempotency_key=key,
        code_size=len(code),
        code_sha256=hashlib.sha256(code).digest(),
    )
    header.header.environment.update(environment)

    def messages() -> Iterator[deployments_pb2.DeployRequest]:
        yield header
        yield deployments_pb2.DeployRequest(code=code)

    return stub(channel).Deploy(messages())


def test_a_key_that_was_seen_makes_nothing(own_daemon: RunningDaemon) -> None:
    with own_daemon.client() as client, grpc.insecure_channel(own_daemon.address) as channel:
        first = send(channel, "keyed", single(double), "first")
        assert (first.created, first.deployment.version) == (True, 1)
        # Changes nothing, and is remembered all the same.
        equal = send(channel, "keyed", single(double), "equal")
        assert (equal.created, equal.deployment.version) == (False, 1)
        assert send(channel, "keyed", single(triple), "second").deployment.version == 2
        own_daemon.kill()
        own_daemon.start()
        for key in ("first", "equal"):
            again = send(channel, "keyed", single(double), key)
            assert (again.created, again.deployment.version) == (False, 1)
        assert kept(channel, "keyed") == [1, 2]
        client.delete("keyed:v1")
        with pytest.raises(grpc.RpcError) as caught:
            send(channel, "keyed", single(double), "first")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert kept(channel, "keyed") == [2]
        assert send(channel, "keyed", single(double), "another").deployment.version == 3


def test_deployments_at_the_same_time_get_a_version_each(daemon: RunningDaemon) -> None:
    with (
        daemon.client() as client,
        grpc.insecure_channel(daemon.address) as channel,
        ThreadPoolExecutor(8) as pool,
    ):
        made = list(pool.map(lambda text: deploy(client, "crowd", text).version, "abcdefgh"))
        assert sorted(made) == list(range(1, 9))
        assert kept(channel, "crowd") == list(range(1, 9))
        client.delete("crowd")


def test_the_daemon_says_that_it_serves_this(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        info = client.info()
    assert info.api_version == "1.2"
    since_1_2 = {"options", "durable", "stats", "drain", "tokens"}
    assert {"versions", "pointers", "cool"} | since_1_2 <= set(info.features)
