from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelined import weights


@pytest.fixture(autouse=True)
def _no_records_of_other_tests() -> None:
    weights.reset_loads()


@pytest.fixture
def installed() -> Iterator[None]:
    """The loader in the place of safetensors, for one test."""
    weights.install()
    yield
    weights.uninstall()
