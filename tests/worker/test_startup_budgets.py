"""The least that may be pinned is what the loader can work with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelined.core.errors import StartupOutOfMemory
from pipelined.nursery.limits import Limits
from pipelined.units import LEAST_PINNED_BYTES
from tests.nursery.launching import call, launching
from tests.worker.starting import environment, failure, load, only_pinned, starting


@pytest.mark.parametrize("missing", [0, 1])
async def test_the_least_of_pinned_memory_is_what_the_loader_can_work_with(
    tmp_path: Path, fake_library: Path, path: Path, missing: int
) -> None:
    limits = Limits(pinned_bytes=LEAST_PINNED_BYTES - missing)
    graph = starting(load, only_pinned, str(path))
    async with launching(tmp_path, (), environment=environment(fake_library), limits=limits) as own:
        if missing:
            error = await failure(own, graph)
            assert isinstance(error, StartupOutOfMemory)
            assert f"{LEAST_PINNED_BYTES} bytes of pinned memory are needed" in str(error)
        else:
            worker = await own.start(graph)
            now, peak = await call(worker)
            assert (now, 0 < peak <= LEAST_PINNED_BYTES) == (0, True)
