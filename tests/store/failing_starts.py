"""Opens a state directory while the disk fails, for each call once; the disk is preloaded.

Prints how many of the starts were refused, and how many there were.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipelined.core.errors import StorageFailed
from pipelined.store.directory import StateDirectoryError
from tests.store.failing_disk import FailingDisk
from tests.store.old_databases import expected, open_state, write_state


def failures(disk: FailingDisk, after: int) -> list[Callable[[], None]]:
    """The ways in which a call and those after it fail."""
    return [
        lambda: disk.fill(after),
        lambda: disk.fail_once(after, errno.ENOSPC),
        lambda: disk.fail_once(after, errno.EIO, torn=True),
        lambda: disk.fill(after, errno.EROFS),
    ]


async def attempt(folder: Path, version: int) -> bool:
    """Open it; whether that was refused, as the daemon refuses."""
    try:
        assert await open_state(folder) == expected(version)
    except (StateDirectoryError, StorageFailed):
        return True
    return False


async def sweep(disk: FailingDisk, version: int, every: int) -> tuple[int, int]:
    """Fail every ``every``-th call, each in another way, or all calls in all ways if that is 1."""
    folder = disk.folder / "state"
    refusals = starts = 0
    after = 0
    while True:
        ways = failures(disk, after)
        for fail in ways if every == 1 else [ways[after // every % len(ways)]]:
            write_state(folder, version)
            before = sum(disk.failed.values())
            fail()
            refused = await attempt(folder, version)
            disk.mend()
            if sum(disk.failed.values()) == before:
                # All calls of a start have had their turn.
                return refusals, starts
            refusals += refused
            starts += 1
            # On a good disk, everything is there.
            assert await open_state(folder) == expected(version)
            shutil.rmtree(folder)
        after += every


def main(folder: str, control: str, version: str, every: str) -> None:
    """Run as a program."""
    disk = FailingDisk(Path(folder), Path(control))
    print(*asyncio.run(sweep(disk, int(version), int(every))))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
