"""How many instances a deployment should have now: a pure function of what is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, and with what.

    Attributes:
        waiting: Runs that wait for an instance.
        live: Instances that are warm or being started.
        starting: Whether one of them is being started.
        busy_seconds: For how long all warm ones have been busy while runs waited.
        run_seconds: What a run takes; 0 if none has ended yet.
        startup_seconds: What a startup takes; 0 if none has ended yet.
    """

    waiting: int
    live: int
    starting: bool
    busy_seconds: float
    run_seconds: float
    startup_seconds: float


def wanted(load: Load, least: int, most: int) -> int:
    """Return how many instances there should be, at least as many as there are.

    Another one is worth starting where the runs that wait would wait longer for those that are
    there than for its startup. How long they would is told by their number and the mean of the runs
    of late; and by how long it has been so already, for runs that take longer than those before, or
    the first of which has not ended.
    """
    there = max(load.live, least, 1)
    if load.waiting == 0:
        return min(there, most)
    by_number = load.waiting * load.run_seconds / there
    if by_number > load.startup_seconds:
        # With as many as this they would wait as long as a startup takes, but no run needs two.
        enough = math.ceil(load.waiting * load.run_seconds / max(load.startup_seconds, 1e-3))
        return min(max(there + 1, min(enough, there + load.waiting)), most)
    if not load.starting and load.busy_seconds > load.startup_seconds:
        return min(there + 1, most)
    return min(there, most)
