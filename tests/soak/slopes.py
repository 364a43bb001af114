"""Whether a series is flat: its slope by least squares, with the confidence that it deserves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

# Blocks that a series is cut into. Samples right after each other are alike, so that a line through
# them would look far more certain than it is; one figure per block is nearly independent.
BLOCKS = 24
# Student's t for BLOCKS - 2 degrees of freedom, two-sided, 99 %.
_T = 2.819


@dataclass(frozen=True)
class Slope:
    """A line through a series.

    Attributes:
        per_hour: By how much it rises in an hour, in the unit of the series.
        margin: Half of the 99 % confidence interval of that.
        first: Where the line begins.
        last: Where it ends.
    """

    per_hour: float
    margin: float
    first: float
    last: float

    def grows(self, most_per_hour: float) -> bool:
        """Whether it certainly rises by more than that."""
        return self.per_hour - self.margin > most_per_hour

    def certain(self, most_per_hour: float) -> bool:
        """Whether it certainly rises by no more than that."""
        return self.per_hour + self.margin <= most_per_hour


def slope_of(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line to the least value of each of BLOCKS blocks.

    The least, because what a caller makes the daemon hold for a moment is no growth.

    Args:
        times: Of the samples, in seconds, rising.
        values: Of the samples; at least two for each block.

    Raises:
        ValueError: There are too few.
    """
    if len(times) < 2 * BLOCKS:
        raise ValueError(f"{len(times)} samples are too few for {BLOCKS} blocks")
    edges = [round(number * len(times) / BLOCKS) for number in range(BLOCKS + 1)]
    blocks = [range(start, end) for start, end in zip(edges, edges[1:], strict=False)]
    x = [sum(times[i] for i in block) / len(block) / 3600 for block in blocks]
    y = [min(values[i] for i in block) for block in blocks]
    slope, intercept = linear_regression(x, y)
    squares = sum((value - intercept - slope * at) ** 2 for at, value in zip(x, y, strict=True))
    mean = sum(x) / len(x)
    spread = sum((at - mean) ** 2 for at in x)
    margin = _T * math.sqrt(squares / (len(x) - 2) / spread)
    return Slope(slope, margin, intercept + slope * x[0], intercept + slope * x[-1])
