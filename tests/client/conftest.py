"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.aborting_daemon import AbortingDaemon


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AbortingDaemon]:
    """A server that answers as the test wants it."""
    running = AbortingDaemon(tmp_path_factory.mktemp("s") / "d.sock")
    yield running
    running.stop()
