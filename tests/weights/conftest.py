from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pipelined import weights


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Garbage collections that look at what came from here on: these tests ask for hundreds.

    Tests of other folders have imported millions of objects by then.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_records_of_other_tests() -> None:
    weights.reset_loads()


@pytest.fixture
def installed() -> Iterator[None]:
    """The loader in the place of safetensors, for one test."""
    weights.install()
    yield
    weights.uninstall()
