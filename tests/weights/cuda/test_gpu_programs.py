"""What `make test-gpu` runs, with the fake driver in place of a GPU's: so that it is not rusty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipelined.weights import _devices
from tests.cpp.compiling import ROOT


def _run(driver: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, _devices.DRIVER_VARIABLE: str(driver)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tests_that_need_no_torch(fake_library: Path) -> None:
    done = _run(fake_library, "-m", "unittest", "tests.gpu.test_device_loads")
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert "no CUDA device" not in done.stderr


def test_the_table(fake_library: Path) -> None:
    done = _run(fake_library, "-m", "tests.gpu.load_times", "--rounds=2", "--megabytes=5")
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[1]: line for line in done.stdout.splitlines() if line[:2] == "  "}
    assert {"pipelined", "one pinned copy"} <= rows.keys()
    assert rows["one pinned copy"].endswith("100.0%")


def test_without_a_device_it_says_so() -> None:
    done = _run(Path("/nowhere/libcuda.so.1"), "tests/gpu/run.py")
    assert done.returncode == 1
    assert done.stderr.startswith("make test-gpu needs a GPU: no CUDA device: /nowhere/libcuda.so")
    assert done.stdout == ""


def test_what_is_missing_is_named() -> None:
    # A Python without site-packages, which has none of what is needed.
    done = _run(Path("/nowhere/libcuda.so.1"), "-S", "-I", "tests/gpu/run.py")
    assert done.returncode == 2
    assert "needs the Python package torch, the Python package safetensors" in done.stderr
    assert len(done.stderr.splitlines()) == 1
