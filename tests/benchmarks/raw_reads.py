"""How fast the machine can bring a file into memory at all, without making tensors of it.

Each function reads the whole file and returns the seconds it took; memory that it reads into is
there before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import touching

STEP = 4 << 20
AHEAD_STEP = 2 << 20
# Which Python's mmap does not know.
MADV_POPULATE_READ = 22
# Not a way to have the bytes: for comparison only.
UNTOUCHED = "read-ahead, not touched"
_LIBC = ctypes.CDLL(None, use_errno=True)


def plain(path: Path) -> float:
    """One thread that calls read."""
    return _read(path, threads=1, flags=0)


def parallel(path: Path) -> float:
    """A thread for each core, up to four, that call pread."""
    return _read(path, threads=_threads(), flags=0)


def direct(path: Path) -> float:
    """Four threads that go around the page cache with O_DIRECT."""
    return _read(path, threads=4, flags=os.O_DIRECT)


def read_ahead(path: Path) -> float:
    """A mapping that a thread for each core, up to four, fills, while this one touches each page.

    The reads above copy every byte. A page that no processor has touched may not even be in this
    machine's memory, where that is another machine's in truth.
    """
    return _read_ahead(path, touching.touch)


def read_ahead_untouched(path: Path) -> float:
    """The same, without anybody who would see the bytes."""
    return _read_ahead(path, lambda _, __: None)


WAYS: dict[str, Callable[[Path], float]] = {
    "plain read": plain,
    "parallel read": parallel,
    "read-ahead": read_ahead,
    "O_DIRECT": direct,
    UNTOUCHED: read_ahead_untouched,
}


def _threads() -> int:
    return min(4, len(os.sched_getaffinity(0)))


def _read(path: Path, *, threads: int, flags: int) -> float:
    buffers = threading.local()
    descriptor = os.open(path, os.O_RDONLY | flags)
    size = os.fstat(descriptor).st_size

    def step(offset: int) -> None:
        count = os.preadv(descriptor, [buffers.memory], offset)
        if count != min(STEP, size - offset):
            raise OSError(f"a short read of {path}")

    def prepare() -> None:
        # Page-aligned, as O_DIRECT wants it, and there before the time is taken.
        buffers.memory = mmap.mmap(-1, STEP)
        buffers.memory.write(bytes(STEP))
        ready.wait()

    ready = threading.Barrier(threads + 1)
    try:
        with ThreadPoolExecutor(threads, initializer=prepare) as pool:
            # The pool starts a thread for each of the first tasks.
            idle = [pool.submit(int) for _ in range(threads)]
            ready.wait()
            for task in idle:
                task.result()
            started = time.perf_counter()
            for _ in pool.map(step, range(0, size, STEP)):
                pass
            return time.perf_counter() - started
    finally:
        os.close(descriptor)


def _read_ahead(path: Path, consume: Callable[[int, int], None]) -> float:
    with path.open("rb") as file:
        started = time.perf_counter()
        # Private, because ctypes takes the address of writable memory only.
        mapping = mmap.mmap(
            file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    size = len(mapping)
    held = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(held)

    def step(offset: int) -> None:
        length = min(AHEAD_STEP, size - offset)
        code = _LIBC.madvise(
            ctypes.c_void_p(address + offset), ctypes.c_size_t(length), MADV_POPULATE_READ
        )
        if code != 0:
            raise OSError(ctypes.get_errno(), "madvise")

    with ThreadPoolExecutor(_threads()) as pool:
        steps = pool.map(step, range(0, size, AHEAD_STEP))
        consume(address, size)
        for _ in steps:
            pass
    seconds = time.perf_counter() - started
    del held
    mapping.close()
    return seconds
