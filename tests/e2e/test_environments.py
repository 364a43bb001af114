"""Recorded requirements: the two clients against a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pipeline import AsyncClient, Client, Pipeline, Variable, errors, pipe
from pipeline.objects import Graph
from tests.running_daemon import RunningDaemon


@pipe
def same(number: int) -> int:
    return number


def graph() -> Graph:
    with Pipeline() as builder:
        builder.output(same(Variable(int)))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def test_what_is_recorded_is_compared(client: Client) -> None:
    assert "environments" in client.info().features
    requirements = ["numpy", "torch<1", 'nobodys; python_version < "3"', "nobodys"]
    with pytest.warns(errors.DeploymentWarning) as caught:
        made = client.create_environment("env-compared", requirements)
    assert len(caught) == 2
    assert made.requirements == tuple(requirements)
    assert [each.state for each in made.statuses] == [
        "satisfied",
        "differing",
        "satisfied",
        "missing",
    ]
    assert [each.requirement for each in made.unmet] == ["torch<1", "nobodys"]
    assert made.created_at == made.updated_at
    assert client.environment("env-compared") == made
    assert made in client.environments()
    assert list(made.statuses) == client.check_requirements(requirements)


def test_overwriting_and_deleting(client: Client) -> None:
    made = client.create_environment("env-changed", ["numpy"])
    with pytest.raises(errors.AlreadyExists) as caught:
        client.create_environment("env-changed", ["numpy"])
    assert caught.value.reason == "ENVIRONMENT_EXISTS"
    # What is the same stays as it was.
    assert client.create_environment("env-changed", ["numpy"], overwrite=True) == made
    changed = client.create_environment("env-changed", ["torch"], overwrite=True)
    assert (changed.requirements, changed.created_at) == (("torch",), made.created_at)
    assert changed.updated_at > made.updated_at
    client.delete_environment("env-changed")
    for gone in (client.environment, client.delete_environment):
        with pytest.raises(errors.NotFound) as missing:
            gone("env-changed")
        assert missing.value.reason == "ENVIRONMENT_NOT_FOUND"
    assert "env-changed" not in [each.name for each in client.environments()]


@pytest.mark.parametrize(
    ("name", "requirements", "field"),
    [
        ("", [], "name"),
        ("a/b", [], "name"),
        ("x" * 129, [], "name"),
        ("env-bad", ["numpy", "not a requirement"], "requirements[1]"),
        ("env-bad", ["numpy @ https://example.com/numpy.whl"], "requirements[0]"),
        ("env-bad", ["a"] * 1001, "requirements"),
        ("env-bad", ["a" * 1000] * 66, "requirements"),
    ],
)
def test_what_is_no_environment_is_refused(
    client: Client, name: str, requirements: list[str], field: str
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        client.create_environment(name, requirements)
    assert caught.value.field == field
    with pytest.raises(errors.NotFound):
        client.environment("env-bad")


def test_requirements_of_a_graph(client: Client) -> None:
    assert client.deploy(graph(), "env-met", requirements=["numpy"]).version == 1
    with pytest.raises(errors.Incompatible, match=r"nobodys>=3.*torch<1") as caught:
        client.deploy(graph(), "env-unmet", requirements=["nobodys>=3", "torch<1"])
    assert caught.value.reason == "REQUIREMENTS_NOT_MET"
    with pytest.warns(errors.DeploymentWarning, match="nobodys>=3"):
        client.deploy(graph(), "env-unmet", requirements=["nobodys>=3"], allow_differing=True)
    assert client.run("env-unmet", 3) == [3]


def test_there_is_a_most(own_daemon: RunningDaemon) -> None:
    with own_daemon.client() as client:
        for number in range(100):
            client.create_environment(f"env-{number}", [])
        with pytest.raises(errors.InvalidInput, match="100 environments, the most"):
            client.create_environment("env-more", [])
        client.create_environment("env-7", ["numpy"], overwrite=True)
        assert len(client.environments()) == 100


def test_they_survive_a_crash(own_daemon: RunningDaemon) -> None:
    with own_daemon.client() as client:
        made = client.create_environment("env-kept", ["numpy"])
        own_daemon.kill()
        own_daemon.start()
        assert client.environments() == [made]


def test_the_async_client(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.address) as client:
            with pytest.warns(errors.DeploymentWarning, match="nobodys"):
                made = await client.create_environment("env-async", ["nobodys"])
            assert await client.environment("env-async") == made
            assert made in await client.environments()
            with pytest.raises(errors.Incompatible):
                await client.deploy(graph(), "env-async", requirements=made.requirements)
            await client.delete_environment("env-async")
            with pytest.raises(errors.NotFound):
                await client.environment("env-async")

    asyncio.run(main())
