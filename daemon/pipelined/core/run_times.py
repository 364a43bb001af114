"""How long the runs, or the startups, of one deployment take, going by those that there were."""

from __future__ import annotations

from collections import deque

# Weight of the newest one in the moving average.
NEWEST_WEIGHT = 0.2
# The least is that of so many of the newest.
REMEMBERED = 16


class Times:
    """Measured times, in seconds.

    Args:
        enough: Of fewer than so many nothing is concluded.
    """

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._newest: deque[float] = deque(maxlen=REMEMBERED)
        self._mean = 0.0

    def add(self, seconds: float) -> None:
        """Take note of one."""
        if self._newest:
            self._mean += NEWEST_WEIGHT * (seconds - self._mean)
        else:
            self._mean = seconds
        self._newest.append(seconds)

    @property
    def mean(self) -> float:
        """A moving average; 0 before the first one."""
        return self._mean

    @property
    def least(self) -> float:
        """What the next one takes at least, as far as is known; 0 while too little is."""
        return min(self._newest) if len(self._newest) >= self._enough else 0.0
