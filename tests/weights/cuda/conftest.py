"""What the tests of the CUDA path share: a driver that needs no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cpp import compiling
from tests.weights.cuda.fake_driver import FakeDriver


@pytest.fixture(scope="session")
def fake_library() -> Path:
    """The fake libcuda.so.1, compiled if it has changed."""
    sources = sorted((compiling.HERE / "fake_cuda").glob("*.cpp"))
    return compiling.build("libfake_cuda.so", sources, [], ["-shared", "-ldl"])


@pytest.fixture
def fake(fake_library: Path) -> Iterator[FakeDriver]:
    """The fake driver in its first state. What a test leaves behind is its own affair."""
    driver = FakeDriver(fake_library)
    driver.reset()
    yield driver
    driver.reset()
