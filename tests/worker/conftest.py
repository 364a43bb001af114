"""What the tests of startups that load weights share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from pipelined.nursery.limits import Limits
from tests.nursery.launching import Launching, launching
from tests.worker.starting import DEVICE_BYTES, PINNED_BYTES, environment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(
    tmp_path_factory: pytest.TempPathFactory, fake_library: Path
) -> AsyncIterator[Launching]:
    """A nursery whose workers see the fake driver and may have little memory."""
    folder = tmp_path_factory.mktemp("nursery")
    limits = Limits(pinned_bytes=PINNED_BYTES, device_bytes=DEVICE_BYTES)
    async with launching(folder, environment=environment(fake_library), limits=limits) as result:
        yield result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Larger than what may be pinned."""
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.arange(250_000, dtype=torch.float32)}, path)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Larger than what may be had of the device."""
    path = tmp_path / "large.safetensors"
    save_file({"weight": torch.zeros(DEVICE_BYTES + 1, dtype=torch.uint8)}, path)
    return path
