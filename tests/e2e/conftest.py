"""Fixtures that several tests of the whole share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Client
from tests.e2e.held_runs import Paths
from tests.running_daemon import RunningDaemon


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def client(shared: RunningDaemon) -> Iterator[Client]:
    """A client of the daemon that a module shares."""
    with shared.client() as made:
        yield made
