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
    deploy(client, "kept", 10, 20, 30)
    for reference, result in {
        "kept": 31,
        "kept:latest": 31,
        "kept:v1": 11,
        "kept:v2": 21,
        "kept:v3": 31,
    }.items():
        assert client.run(reference, 1) == [result]
    assert [each.version for each in client.versions("kept")] == [1, 2, 3]
    assert client.deployment("kept:v2").version == 2
    assert client.deployment("kept").version == 3
    assert client.warm("kept:v1").version == 1
    assert [each.version for each in client.list() if each.name == "kept"] == [3]
    with pytest.raises(errors.NotFound, match="no version 4"):
        client.run("kept:v4", 1)
    with pytest.raises(errors.NotFound):
        client.versions("kept-by-nobody")


def test_pointers(client: Client) -> None:
    deploy(client, "pointed", 10, 20)
    made = client.create_pointer("pointed:prod", "pointed:v1")
    assert (made.pointer, made.name, made.version, made.locked) == (
        "pointed:prod",
        "pointed",
        1,
        False,
    )
    assert client.run("pointed:prod", 1) == [11]
    assert client.deployment("pointed:v1").pointers == ("prod",)
    with pytest.raises(errors.AlreadyExists):
        client.create_pointer("pointed:prod", "pointed:v2")
    client.create_pointer("pointed:prod", "pointed:latest", overwrite=True, locked=True)
    assert client.run("pointed:prod", 1) == [21]
    # What a pointer means does not move with the newest version.
    client.deploy(adding(30), "pointed")
    assert client.run("pointed:prod", 1) == [21]
    assert client.run("pointed", 1) == [31]
    for change in (
        lambda: client.create_pointer("pointed:prod", "pointed:v1", overwrite=True),
        lambda: client.delete_pointer("pointed:prod"),
    ):
        with pytest.raises(errors.PipelineError, match="locked"):
            change()
    with pytest.raises(errors.PipelineError, match="prod"):
        client.delete("pointed:v2")
    assert [each.pointer for each in client.pointers("pointed")] == ["pointed:prod"]
    assert "pointed:prod" in [each.pointer for each in client.pointers()]
    client.delete_pointer("pointed:prod", unlock=True)
    with pytest.raises(errors.NotFound, match="prod"):
        client.run("pointed:prod", 1)
    client.delete("pointed:v2")
    assert [each.version for each in client.versions("pointed")] == [1, 3]
    with pytest.raises(errors.InvalidInput):
        client.create_pointer("pointed:v7", "pointed:v1")
    with pytest.raises(errors.InvalidInput):
        client.create_pointer("pointed:prod", "kept:v1")


def test_cool(client: Client) -> None:
    deploy(client, "cooled", 10)
    client.run("cooled", 1)
    assert client.cool("cooled").state == "cold"
    assert client.deployment("cooled").worker_pids == ()
    assert client.cool("cooled").state == "cold"
    assert client.run("cooled", 1) == [11]
    assert client.deployment("cooled").startups == 2
    with pytest.raises(errors.NotFound):
        client.cool("cooled-nobody")


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
