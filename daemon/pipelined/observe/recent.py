"""Run times of the last minute, in little memory whatever the load.

Times are counted in bins whose bounds grow by a constant factor, as DDSketch has them (Masson et
al., VLDB 2019): a quantile is right within a few per cent of itself.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence

SECONDS = 60.0
# The minute slides by so much at once.
SLOT_SECONDS = 5.0
GROWTH = 1.04
_LOG_GROWTH = math.log(GROWTH)
# What is shorter counts as this.
_LEAST_SECONDS = 1e-6


class RecentTimes:
    """Times that were added within the last minute. Belongs to one thread.

    Args:
        clock: Seconds that do not go back.
    """

    __slots__ = ("_clock", "_slots", "_started")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._slots: deque[tuple[int, Counter[int]]] = deque()

    def add(self, seconds: float) -> None:
        """Count one."""
        number = int(self._clock() / SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] != number:
            self._drop(number)
            self._slots.append((number, Counter()))
        index = math.floor(math.log(max(seconds, _LEAST_SECONDS)) / _LOG_GROWTH)
        self._slots[-1][1][index] += 1

    def per_second(self) -> float:
        """How many were added a second; over a shorter time if it has not been a minute yet."""
        now = self._clock()
        since = max(self._started, (int(now / SLOT_SECONDS) - self._kept + 1) * SLOT_SECONDS)
        return sum(self._counts().values()) / max(now - since, 1.0)

    def quantiles(self, *wanted: float) -> Sequence[float]:
        """The times in seconds that such parts of all are not above; 0 where there is none."""
        counts = self._counts()
        total = sum(counts.values())
        found = []
        for part in wanted:
            rank, seen, value = part * total, 0, 0.0
            for index in sorted(counts):
                seen += counts[index]
                # The middle of the bin, on the scale on which bins are equal.
                value = GROWTH ** (index + 0.5)
                if seen >= rank:
                    break
            found.append(value)
        return found

    @property
    def _kept(self) -> int:
        return int(SECONDS / SLOT_SECONDS)

    def _counts(self) -> Counter[int]:
        self._drop(int(self._clock() / SLOT_SECONDS))
        total: Counter[int] = Counter()
        for _, counts in self._slots:
            total.update(counts)
        return total

    def _drop(self, newest: int) -> None:
        while self._slots and self._slots[0][0] <= newest - self._kept:
            self._slots.popleft()
