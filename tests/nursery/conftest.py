"""One nursery for the tests of a module, unless they kill it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.nursery.launching import Launching, launching


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Launching]:
    """A nursery that has imported numpy and torch."""
    async with launching(tmp_path_factory.mktemp("nursery")) as result:
        yield result


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Launching]:
    """A nursery with nothing imported, for a test that kills it or its workers."""
    async with launching(tmp_path, ()) as result:
        yield result
