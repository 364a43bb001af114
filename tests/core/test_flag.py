"""A flag: whoever waits is told, whether it came before or after."""

from __future__ import annotations

import asyncio

from pipelined.core.flag import Flag


async def test_all_who_wait_are_told() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0)
    assert not done
    assert not flag.is_set()
    flag.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert flag.is_set()


async def test_who_comes_late_does_not_wait() -> None:
    flag = Flag()
    flag.set()
    flag.set()
    await asyncio.wait_for(flag.wait(), 30)
