"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.running_daemon import RunningDaemon

# Imported by the nursery of tests that need no models: quick.
LIGHT_PRELOAD = ("--preload=numpy", "--preload=torch")
# Of those whose graphs need no torch: a nursery of two seconds less.
QUICK_PRELOAD = ("--preload=numpy",)


# Each may have a daemon of its own that has imported the model libraries, a gigabyte.
MAX_WORKERS = 8

MAX_ID_BYTES = 64

_TEMPORARY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Have a folder for temporary files of one's own.

    Tests look at what is left there: what other sessions, or other workers of this one, have there
    at the moment is none of their business. ``tmp_path`` stays where it is, and is kept.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # Sockets are made in it, whose names are short.
    config.stash[_TEMPORARY] = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="t-")
    tempfile.tempdir = None
    # readline, which pytest imports, sets them for the processes that it starts, workers too.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One for each core that there is: of `make test`, most is work, not waiting."""
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No contents of files in the names of tests, which have to be the same in every worker."""
    return argname if isinstance(val, bytes) and len(val) > MAX_ID_BYTES else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    folder = config.stash[_TEMPORARY]
    os.environ["TMPDIR"] = tempfile.tempdir = str(Path(folder).parent)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon with the default preload list, shared: use names of your own for deployments."""
    # Here, because the loader's tests run where there is no grpc.
    from tests.running_daemon import RunningDaemon

    running = RunningDaemon(tmp_path_factory.mktemp("daemon"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def fake_library() -> Path:
    """The fake libcuda.so.1, compiled if it has changed: what PIPELINED_CUDA_DRIVER may name."""
    from tests.cpp import compiling

    return compiling.build_library("fake_cuda")


@pytest.fixture
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon with a light nursery for one test that stops, kills or restarts it."""
    from tests.running_daemon import RunningDaemon

    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=QUICK_PRELOAD)
    yield running
    running.close()
