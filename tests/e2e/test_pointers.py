"""Pointers: names of their own for versions, which are set, locked and deleted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from pipelined.core.deployments import MAX_POINTERS
from pipelined_api.v1 import deployments_pb2
from tests.e2e.test_crashes import wait_until, waiting
from tests.e2e.test_malformed import reason
from tests.e2e.test_versions import deploy, point, stub
from tests.running_daemon import RunningDaemon


def listed(channel: grpc.Channel, name: str = "") -> dict[str, int]:
    request = deployments_pb2.ListPointersRequest(name=name)
    return {p.pointer: p.version for p in stub(channel).ListPointers(request).pointers}


def delete(channel: grpc.Channel, pointer: str, *, unlock: bool = False) -> None:
    request = deployments_pb2.DeletePointerRequest(pointer=pointer, unlock=unlock)
    stub(channel).DeletePointer(request)


def test_a_pointer_names_what_it_was_set_to(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "pointed", "a", "b")
        made = point(channel, "pointed:prod", "pointed")
        assert (made.pointer, made.name, made.version) == ("pointed:prod", "pointed", 2)
        assert not made.locked
        assert made.created_at == made.updated_at
        deploy(client, "pointed", "c")
        # The target was looked up when it was set: it stays.
        assert client.run("pointed:prod") == ["b"]
        assert client.run("pointed") == ["c"]
        point(channel, "pointed:dev", "pointed:v1")
        point(channel, "pointed:a-copy", "pointed:dev")
        assert client.run("pointed:a-copy") == ["a"]
        moved = point(channel, "pointed:prod", "pointed:latest", overwrite=True)
        assert moved.version == 3
        assert moved.created_at == made.created_at
        assert moved.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
        assert client.run("pointed:prod") == ["c"]
        assert client.deployment("pointed:prod").version == 3
        assert client.warm("pointed:dev").version == 1
        expected = {"pointed:a-copy": 1, "pointed:dev": 1, "pointed:prod": 3}
        assert listed(channel, "pointed") == expected
        assert expected.items() <= listed(channel).items()
        request = deployments_pb2.DeploymentsListRequest(all_versions=True)
        pointers = {
            d.version: list(d.pointers)
            for d in stub(channel).List(request).deployments
            if d.name == "pointed"
        }
        assert pointers == {1: ["a-copy", "dev"], 2: [], 3: ["prod"]}
        delete(channel, "pointed:dev")
        assert listed(channel, "pointed") == {"pointed:a-copy": 1, "pointed:prod": 3}
        client.delete("pointed")


def test_a_pointer_is_not_overwritten_unawares(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "taken", "a", "b")
        point(channel, "taken:prod", "taken:v1")
        with pytest.raises(grpc.RpcError) as caught:
            point(channel, "taken:prod", "taken:v2")
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert reason(caught.value) == "POINTER_EXISTS"
        assert "'taken:prod' exists already and names version 1" in str(caught.value.details())
        assert listed(channel, "taken") == {"taken:prod": 1}
        client.delete("taken")


def test_a_locked_pointer_changes_only_for_who_unlocks_it(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "locked", "a", "b")
        assert point(channel, "locked:prod", "locked:v1", locked=True).locked
        for call in (
            lambda: point(channel, "locked:prod", "locked:v2", overwrite=True),
            lambda: delete(channel, "locked:prod"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason(caught.value) == "POINTER_LOCKED"
            assert "'locked:prod' is locked" in str(caught.value.details())
        # To unlock is not to overwrite.
        with pytest.raises(grpc.RpcError) as taken:
            point(channel, "locked:prod", "locked:v2", unlock=True)
        assert reason(taken.value) == "POINTER_EXISTS"
        assert listed(channel, "locked") == {"locked:prod": 1}
        both = {"overwrite": True, "unlock": True}
        assert point(channel, "locked:prod", "locked:v2", locked=True, **both).locked
        # What is set to what it names already is unlocked, and nothing else.
        unlocked = point(channel, "locked:prod", "locked:prod", **both)
        assert (unlocked.version, unlocked.locked) == (2, False)
        assert point(channel, "locked:prod", "locked:prod", locked=True, overwrite=True).locked
        delete(channel, "locked:prod", unlock=True)
        assert listed(channel, "locked") == {}
        client.delete("locked")


@pytest.mark.parametrize(
    ("pointer", "target", "field"),
    [
        ("bad", "bad:v1", "pointer"),
        ("bad:latest", "bad:v1", "pointer"),
        ("bad:v7", "bad:v1", "pointer"),
        ("bad:-", "bad:v1", "pointer"),
        ("bad:" + "p" * 129, "bad:v1", "pointer"),
        ("", "bad:v1", "pointer"),
        ("bad:prod", "bad:", "target"),
        ("bad:prod", "other:v1", "target"),
        ("bad:prod", "", "target"),
    ],
)
def test_what_is_no_pointer_or_no_target(
    daemon: RunningDaemon, pointer: str, target: str, field: str
) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            point(channel, pointer, target)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(caught.value.details()).startswith(f"{field}: ")


def test_what_a_pointer_needs_is_there(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "needs", "a")
        for call, expected in (
            (lambda: point(channel, "none:prod", "none:v1"), "DEPLOYMENT_NOT_FOUND"),
            (lambda: point(channel, "needs:prod", "needs:v2"), "VERSION_NOT_FOUND"),
            (lambda: point(channel, "needs:prod", "needs:dev"), "POINTER_NOT_FOUND"),
            (lambda: point(channel, "needs:prod", "needs:prod"), "POINTER_NOT_FOUND"),
            (lambda: delete(channel, "needs:prod"), "POINTER_NOT_FOUND"),
            (lambda: delete(channel, "none:prod"), "DEPLOYMENT_NOT_FOUND"),
            (lambda: listed(channel, "none"), "DEPLOYMENT_NOT_FOUND"),
            (lambda: listed(channel, "needs:prod"), "DEPLOYMENT_NOT_FOUND"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert reason(caught.value) == expected
        client.delete("needs")


def test_there_is_a_limit_to_pointers(daemon: RunningDaemon) -> None:
    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        deploy(client, "many", "a")
        for number in range(MAX_POINTERS):
            point(channel, f"many:p{number}", "many")
        with pytest.raises(grpc.RpcError) as caught:
            point(channel, "many:one-more", "many")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(MAX_POINTERS) in str(caught.value.details())
        point(channel, "many:p0", "many", overwrite=True)
        client.delete("many")


def test_what_a_pointer_names_is_not_drained_until_no_pointer_does(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    with (
        daemon.client() as client,
        grpc.insecure_channel(daemon.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        client.deploy(waiting(), "served")
        point(channel, "served:prod", "served")
        point(channel, "served:dev", "served")
        client.warm("served")
        [pid] = client.deployment("served").worker_pids
        # The next version is there, and the one that is served goes on in its worker.
        deploy(client, "served", "next")
        assert client.deployment("served:prod").state == "warm"
        run = pool.submit(client.run, "served:prod", str(ready), str(release))
        wait_until(ready.exists)
        point(channel, "served:prod", "served:v2", overwrite=True)
        assert client.deployment("served:v1").state == "warm"
        delete(channel, "served:dev")
        assert client.deployment("served:v1").state == "draining"
        release.touch()
        assert run.result() == [pid]
        wait_until(lambda: client.deployment("served:v1").state == "cold")
        assert not Path(f"/proc/{pid}").exists()
        assert client.run("served:prod") == ["next"]
        client.delete("served")
