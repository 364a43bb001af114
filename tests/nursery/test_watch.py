"""Watching what workers take goes on, whatever a look at one comes to."""

from __future__ import annotations

import asyncio
import errno
import os

from pipelined.core.errors import Excess
from pipelined.nursery.watch import Watch, Watched

SOON_SECONDS = 30.0


class Process(int):
    """The number of this process, which cannot be looked at the first time."""

    looked_at = False

    def __format__(self, specification: str) -> str:
        if not self.looked_at:
            self.looked_at = True
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return str(int(self))


async def test_a_look_that_fails_is_not_the_last_one() -> None:
    told: asyncio.Future[tuple[Excess, float]] = asyncio.get_running_loop().create_future()
    watch = Watch()
    process = Process(os.getpid())
    watched = Watched(process, 0, 1, None, lambda *excess: told.set_result(excess))
    watch.add(watched)
    try:
        assert await asyncio.wait_for(told, SOON_SECONDS) == (Excess.MEMORY, 1)
    finally:
        watch.remove(watched)
    assert process.looked_at
