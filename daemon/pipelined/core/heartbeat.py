"""Whether the daemon can do its work: the parts that runs go through, tried again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

# Raises, with a text for callers, where the part does not do its work.
Probe = Callable[[], Awaitable[None]]


class Unwell(Exception):
    """A part that answers, but does not do its work; the text says what is wrong."""


class Heartbeat:
    """Tries all parts in order; a beat in which each did its work in time is a tick.

    One beat is under way at a time: what hangs is waited for and not asked again, so that probes do
    not pile up behind it. Belongs to one event loop.

    Args:
        probes: By the names of the parts.
        on_tick: Called after each beat in which all parts did their work.
        on_change: Called with the reason when it is another one.
        interval_seconds: Between a beat and the next one.
        patience_seconds: What a beat may take.

    Attributes:
        reason: Why the daemon does not do its work; empty while it does.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        on_tick: Callable[[], None],
        on_change: Callable[[str], None],
        *,
        interval_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._probes = probes
        self._on_tick = on_tick
        self._on_change = on_change
        self._interval = interval_seconds
        self._patience = patience_seconds
        self._trying = ""
        self.reason = "not tried yet"

    async def keep(self) -> None:
        """Beat until cancelled."""
        while True:
            beat = asyncio.create_task(self._beat(), name="heartbeat")
            try:
                await asyncio.wait({beat}, timeout=self._patience)
                if not beat.done():
                    self._become(f"{self._trying}: no answer within {self._patience:g} s")
                    await asyncio.wait({beat})
            finally:
                beat.cancel()
            self._become(beat.result())
            if not self.reason:
                self._on_tick()
            await asyncio.sleep(self._interval)

    async def _beat(self) -> str:
        for name, probe in self._probes.items():
            self._trying = name
            try:
                await probe()
            except Exception as error:
                return f"{name}: {error}"
        return ""

    def _become(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._on_change(reason)
