"""What the tests of this folder share: one daemon with every kind of listener."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.guarded import Guarded


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A daemon that asks who calls; use names of your own for deployments."""
    running = Guarded(tmp_path_factory.mktemp("g"))
    yield running
    running.daemon.close()
