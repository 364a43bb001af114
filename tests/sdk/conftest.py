"""Where a graph of these tests runs: here, and in a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import LIGHT_PRELOAD
from tests.running_daemon import RunningDaemon
from tests.sdk.places import Here, InDaemon, Place


@pytest.fixture(scope="session")
def light_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon with a light nursery for all of these tests."""
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=LIGHT_PRELOAD)
    yield running
    running.close()


@pytest.fixture
def in_daemon(light_daemon: RunningDaemon) -> Iterator[InDaemon]:
    """Runs graphs in a daemon; what it has deployed is deleted in the end."""
    with light_daemon.client() as client:
        place = InDaemon(client)
        yield place
        place.clear()


@pytest.fixture(params=["here", "daemon"])
def place(request: pytest.FixtureRequest) -> Any:
    """Both, in turns: what holds for one holds for the other."""
    if request.param == "here":
        chosen: Place = Here()
        return chosen
    return request.getfixturevalue("in_daemon")
