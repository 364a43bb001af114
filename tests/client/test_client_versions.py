"""Versions, pointers and cool: the client against a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pipeline import AsyncClient, Client, Graph, Pipeline, Variable, errors, pipe
from tests.running_daemon import RunningDaemon


@pipe
def add(number: int, offset: int) -> int:
    return number + offset


def adding(offset: int) -> Graph:
    with Pipeline() as builder:
        builder.output(add(Variable(int), offset))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def deploy(client: Client, name: str, *offsets: int) -> None:
    for version, offset in enumerate(offsets, 1):
        assert client.deploy(adding(offset), name).version == version


def test_every_version_can_be_run(client: Client) -> None:
    deploy(client, "client-kept", 10, 20, 30)
    for reference, result in {
        "client-kept": 31,
        "client-kept:latest": 31,
        "client-kept:v1": 11,
        "client-kept:v2": 21,
        "client-kept:v3": 31,
    }.items():
        assert client.run(reference, 1) == [result]
    assert [each.version for each in client.versions("client-kept")] == [1, 2, 3]
    assert client.deployment("client-kept:v2").version == 2
    assert client.deployment("client-kept").version == 3
    assert client.warm("client-kept:v1").version == 1
    assert [each.version for each in client.list() if each.name == "client-kept"] == [3]
    with pytest.raises(errors.NotFound, match="no version 4"):
        client.run("client-kept:v4", 1)
    with pytest.raises(errors.NotFound):
        client.versions("client-kept-by-nobody")


def test_pointers(client: Client) -> None:
    deploy(client, "client-pointed", 10, 20)
    made = client.create_pointer("client-pointed:prod", "client-pointed:v1")
    assert (made.pointer, made.name, made.version, made.locked) == (
        "client-pointed:prod",
        "client-pointed",
        1,
        False,
    )
    assert client.run("client-pointed:prod", 1) == [11]
    assert client.deployment("client-pointed:v1").pointers == ("prod",)
    with pytest.raises(errors.AlreadyExists):
        client.create_pointer("client-pointed:prod", "client-pointed:v2")
    client.create_pointer(
        "client-pointed:prod", "client-pointed:latest", overwrite=True, locked=True
    )
    assert client.run("client-pointed:prod", 1) == [21]
    # What a pointer means does not move with the newest version.
    client.deploy(adding(30), "client-pointed")
    assert client.run("client-pointed:prod", 1) == [21]
    assert client.run("client-pointed", 1) == [31]
    for change in (
        lambda: client.create_pointer("client-pointed:prod", "client-pointed:v1", overwrite=True),
        lambda: client.delete_pointer("client-pointed:prod"),
    ):
        with pytest.raises(errors.PipelineError, match="locked"):
            change()
    with pytest.raises(errors.PipelineError, match="prod"):
        client.delete("client-pointed:v2")
    assert [each.pointer for each in client.pointers("client-pointed")] == ["client-pointed:prod"]
    assert "client-pointed:prod" in [each.pointer for each in client.pointers()]
    client.delete_pointer("client-pointed:prod", unlock=True)
    with pytest.raises(errors.NotFound, match="prod"):
        client.run("client-pointed:prod", 1)
    client.delete("client-pointed:v2")
    assert [each.version for each in client.versions("client-pointed")] == [1, 3]
    with pytest.raises(errors.InvalidInput):
        client.create_pointer("client-pointed:v7", "client-pointed:v1")
    with pytest.raises(errors.InvalidInput):
        client.create_pointer("client-pointed:prod", "client-kept:v1")


def test_cool(client: Client) -> None:
    deploy(client, "client-cooled", 10)
    client.run("client-cooled", 1)
    assert client.cool("client-cooled").state == "cold"
    assert client.deployment("client-cooled").worker_pids == ()
    assert client.cool("client-cooled").state == "cold"
    assert client.run("client-cooled", 1) == [11]
    assert client.deployment("client-cooled").startups == 2
    with pytest.raises(errors.NotFound):
        client.cool("client-cooled-nobody")


def test_on_asyncio(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.address) as client:
            for offset in (10, 20):
                await client.deploy(adding(offset), "async-versions")
            assert len(await client.versions("async-versions")) == 2
            await client.create_pointer("async-versions:prod", "async-versions:v1")
            assert await client.run("async-versions:prod", 1) == [11]
            assert [each.version for each in await client.pointers("async-versions")] == [1]
            await client.delete_pointer("async-versions:prod")
            assert (await client.cool("async-versions:v1")).state == "cold"

    asyncio.run(main())
