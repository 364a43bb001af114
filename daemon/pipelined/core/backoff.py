"""How long to wait before the next try after failures in a row."""

from __future__ import annotations

import time
from collections.abc import Callable

# The second try may come at once: most first failures are a typo, and somebody is watching.
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0


class Backoff:
    """Exponential back-off: no delay after the first failure in a row, then 0.5 s, 1 s, … 30 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._not_before = 0.0
        self.failures = 0

    def failed(self) -> None:
        """Count a failure."""
        self.failures += 1
        doublings = self.failures - 2
        delay = (
            0.0
            if doublings < 0
            else min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(doublings, 16))
        )
        self._not_before = self._clock() + delay

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0
        self._not_before = 0.0

    def remaining(self) -> float:
        """Seconds until the next try may be made; 0 if it may be made now."""
        return max(0.0, self._not_before - self._clock())
