"""The threads of the OpenBLAS libraries that are loaded: numpy and scipy have one each."""

from __future__ import annotations

import ctypes
from pathlib import Path

_SET_THREADS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
)


def set_blas_threads(number: int) -> None:
    """Tell each of them."""
    for library in _libraries():
        for name in _SET_THREADS:
            if (function := getattr(library, name, None)) is not None:
                function(ctypes.c_int(number))


def _libraries() -> list[ctypes.CDLL]:
    paths = {
        fields[5]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if len(fields := line.split(maxsplit=5)) == 6 and "openblas" in fields[5].rpartition("/")[2]
    }
    return [ctypes.CDLL(path) for path in sorted(paths)]
