"""Every test of a C++ unit, as one test here. See testing.hpp for how to write one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.cpp import compiling
from tests.cpp.compiling import UNITS, Built, sources

# In a fresh clone the first of them compiles everything.
pytestmark = pytest.mark.timeout(900)

_TEST = re.compile(r"^UNIT_TEST\((\w+)\)", re.MULTILINE)
# Found in the text, so that collecting compiles nothing.
NAMES = [
    f"{path.stem.removesuffix('_test')}.{name}"
    for path in sources(UNITS)
    for name in _TEST.findall(path.read_text())
]


@pytest.fixture(scope="session")
def module(built: Built) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_weights_tests", built.module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_unit(name: str, built: Built, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not compiling.sanitizer():
        request.getfixturevalue("module").run(name, str(tmp_path), str(built.libraries))
        return
    # It brings its own runtime, and leaks can be told from those of an interpreter.
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=1",
        "TSAN_OPTIONS": f"{os.environ.get('TSAN_OPTIONS', '')}:report_thread_leaks=1",
    }
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [built.program, name, tmp_path, built.libraries],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_test_that_was_compiled_is_run(module: ModuleType) -> None:
    assert sorted(module.names()) == sorted(NAMES)
