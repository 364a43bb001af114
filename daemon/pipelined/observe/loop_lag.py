"""Measures how late the event loop is: what makes it wait makes every call wait."""

from __future__ import annotations

import asyncio

from pipelined.observe.activity import Histogram

INTERVAL_SECONDS = 0.25
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class LoopLag:
    """Asks to be woken again and again. Belongs to the event loop in which it was made.

    Attributes:
        seconds: How much later than asked for it was woken.
    """

    def __init__(self) -> None:
        self.seconds = Histogram(BOUNDS)
        self._loop = asyncio.get_running_loop()
        self._ask()

    def close(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def _ask(self) -> None:
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._woken)

    def _woken(self) -> None:
        self.seconds.add(max(0.0, self._loop.time() - self._due))
        self._ask()
