"""State in an entity: as long as the worker lives, and no longer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

import stateful
from pipeline import Client
from pipeline.errors import InvalidInput
from stateful import HISTORY, Reading
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon

NAME = "watch"


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    """With a deployment that has seen nothing yet."""
    with daemon.client() as client:
        client.deploy(stateful.graph, NAME)
        yield client
        client.delete(NAME)


def observe(client: Client, sensor: str, celsius: float) -> tuple[bool, dict[str, float]]:
    unusual, known = client.run(NAME, Reading(sensor=sensor, celsius=celsius))
    assert isinstance(unusual, bool)
    assert isinstance(known, dict)
    return unusual, known


def test_runs_learn_from_the_runs_before(client: Client) -> None:
    readings = [20.0, 23.5, -100, 19, 55.25]
    for count in range(1, len(readings) + 1):
        _, known = observe(client, "kitchen", readings[count - 1])
        seen = [*HISTORY, *readings[:count]]
        assert known["readings"] == count
        assert known["mean"] == pytest.approx(np.mean(seen))
        assert known["deviation"] == pytest.approx(np.std(seen, ddof=1))
    # Of another sensor nothing is known but the history, which is as it was.
    _, known = observe(client, "cellar", 20.0)
    assert known["readings"] == 1
    assert known["mean"] == pytest.approx(np.mean([*HISTORY, 20.0]))
    assert client.deployment(NAME).startups == 1


def test_what_is_unusual_becomes_usual(client: Client) -> None:
    assert [observe(client, "oven", 40.0)[0] for _ in range(3)] == [True, False, False]
    assert observe(client, "kitchen", 40.0)[0] is True


def test_deploying_the_same_code_again_keeps_the_state(client: Client) -> None:
    observe(client, "kitchen", 20.0)
    client.deploy(stateful.builder.get_pipeline(), NAME)
    assert observe(client, "kitchen", 20.0)[1]["readings"] == 2
    assert client.deployment(NAME).version == 1


def test_each_deployment_has_a_state_of_its_own(client: Client) -> None:
    other = f"{NAME}-other"
    client.deploy(stateful.graph, other)
    try:
        observe(client, "kitchen", 20.0)
        [_, known] = client.run(other, Reading(sensor="kitchen", celsius=20.0))
        assert isinstance(known, dict)
        assert known["readings"] == 1
    finally:
        client.delete(other)


def test_a_worker_that_replaces_one_that_died_begins_anew(client: Client) -> None:
    assert [observe(client, "kitchen", 20.0)[1]["readings"] for _ in range(2)] == [1, 2]
    [pid] = client.deployment(NAME).worker_pids
    os.kill(pid, signal.SIGKILL)
    # A run that is sent before the daemon has noticed fails as its worker did.
    wait_until(lambda: client.deployment(NAME).startups == 2)
    assert observe(client, "kitchen", 20.0)[1]["readings"] == 1
    assert pid not in client.deployment(NAME).worker_pids


@pytest.mark.parametrize(
    ("reading", "field", "bound"),
    [
        ({"sensor": "kitchen", "celsius": 200.5}, "reading.celsius", "le=200.0"),
        ({"sensor": "kitchen", "celsius": float("nan")}, "reading.celsius", "le=200.0"),
        ({"sensor": "", "celsius": 20.0}, "reading.sensor", "min_length=1"),
    ],
)
def test_a_reading_that_cannot_be_changes_nothing(
    client: Client, reading: dict[str, object], field: str, bound: str
) -> None:
    observe(client, "kitchen", 20.0)
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, reading)
    assert (refused.value.field, refused.value.bound) == (field, bound)
    assert observe(client, "kitchen", 20.0)[1]["readings"] == 2
