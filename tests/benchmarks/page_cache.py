"""Puts a file into the page cache, or takes it out."""

import errno
import os
from pathlib import Path

PROBES = 256
READ_BYTES = 16 << 20


def warm(path: Path) -> None:
    """Read all of it."""
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass


def evict(path: Path) -> str:
    """Take it out of the cache with posix_fadvise, and say what that achieved.

    Only this file: dropping all caches would also drop the libraries that a fresh process imports,
    and no kernel evicts pages that a live process has mapped. Below the kernel, a virtual machine's
    host may still hold the file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Pages not yet written back cannot be dropped.
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        share = _cached_share(descriptor)
        # The kernel may read ahead of each probe.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if share is None:
        return "posix_fadvise; this file system does not tell whether it worked"
    return f"posix_fadvise; {share:.0%} of the file was still cached"


def _cached_share(descriptor: int) -> float | None:
    """By asking for single bytes, spread evenly, without waiting for the disk."""
    size = os.fstat(descriptor).st_size
    cached = 0
    for probe in range(PROBES):
        try:
            os.preadv(descriptor, [bytearray(1)], size * probe // PROBES, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise
        cached += 1
    return cached / PROBES
