"""The library (loader_touch.cpp) that touches pages, the same for every loader and raw read."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from pathlib import Path

from environments import ROOT

CACHE = ROOT / ".cache" / "loader-benchmark"


@functools.cache
def compiled() -> Path:
    """The library's path; it is compiled by the first call."""
    CACHE.mkdir(parents=True, exist_ok=True)
    source, target = Path(__file__).with_name("loader_touch.cpp"), CACHE / "libtouch.so"
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    return target


def touch(address: int, size: int) -> None:
    """Read a byte of every page, without the interpreter's lock."""
    one = ctypes.c_uint64 * 1
    ctypes.CDLL(str(compiled())).touch(one(address), one(size), ctypes.c_size_t(1))
