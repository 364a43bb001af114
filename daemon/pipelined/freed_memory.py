"""What the allocator does with large blocks of memory that have been freed."""

from __future__ import annotations

import contextlib
import ctypes

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# glibc takes no threshold for mmap above this one.
_KEPT_BYTES = 32 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let blocks of up to 32 MiB come from memory that was freed before, here and in forks.

    By default glibc gives the memory of a few MiB back at once and gets new memory the next time,
    whose every page is touched for the first time then: that takes longer than what is done with
    it. What is kept at most is 32 MiB at the end of each heap. Another C library is left alone.
    """
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
