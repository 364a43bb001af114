"""A daemon whose parts hang, fail and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pipelined.core.heartbeat import Heartbeat, Probe, Unwell

# So short that a part which hangs is found out at once, and so long that one which does not is not.
PATIENCE_SECONDS = 0.2


class Life:
    """What a heartbeat has said.

    Attributes:
        reasons: In their order.
        ticks: Beats in which all parts did their work.
    """

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.ticks = 0
        self._news = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what it has said fulfils something."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def ticked(self) -> None:
        self.ticks += 1
        self._news.set()

    def changed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._news.set()


@asynccontextmanager
async def beating(**probes: Probe) -> AsyncIterator[Life]:
    life = Life()
    heartbeat = Heartbeat(
        probes,
        life.ticked,
        life.changed,
        interval_seconds=0.0,
        patience_seconds=PATIENCE_SECONDS,
    )
    keeping = asyncio.create_task(heartbeat.keep())
    yield life
    keeping.cancel()
    await asyncio.wait({keeping})


async def well() -> None:
    """A part that does its work."""


async def test_a_part_that_hangs_is_named_and_not_asked_again() -> None:
    asked = 0
    answers = asyncio.Event()

    async def slow() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            await answers.wait()

    async with beating(quick=well, slow=slow) as life:
        await life.until(lambda: len(life.reasons) == 2)
        assert life.reasons == ["", f"slow: no answer within {PATIENCE_SECONDS:g} s"]
        assert life.ticks == 2
        assert asked == 3
        # The answer that comes late is one.
        answers.set()
        await life.until(lambda: life.ticks > 3)
        assert life.reasons[2:] == [""]


async def test_a_part_that_fails_says_why_and_is_asked_again() -> None:
    failures = [Unwell("first"), Unwell("first"), OSError("second"), None]
    asked = 0

    async def failing() -> None:
        nonlocal asked
        asked += 1
        if (error := failures[min(asked, len(failures)) - 1]) is not None:
            raise error

    async with beating(failing=failing) as life:
        await life.until(lambda: life.ticks == 1)
        assert life.reasons == ["failing: first", "failing: second", ""]
        assert asked == 4
