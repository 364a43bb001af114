"""Which fault is injected when: all of it follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# In a run of this length, so many of each kind and so many in all are injected, or it has failed.
WHOLE_MINUTES = 10.0
LEAST_OF_KIND = 10
LEAST_IN_ALL = 200
# In each round every kind has its turn, in another order.
ROUND_SECONDS = 50.0


@dataclass(frozen=True)
class Slot:
    """One fault to come.

    Attributes:
        at: Seconds after the storm's beginning.
        kind: Its name.
        seed: Of the dice that it throws: its target, its times, its bytes.
    """

    at: float
    kind: str
    seed: int


def schedule(seed: int, minutes: float, kinds: Sequence[str]) -> list[Slot]:
    """Return the faults of a storm, in their order: the same for the same arguments.

    Whole rounds, at least one, evenly over the time; at least LEAST_OF_KIND of them where the storm
    lasts WHOLE_MINUTES.
    """
    dice = random.Random(seed)
    rounds = max(1, round(minutes * 60 / ROUND_SECONDS))
    if minutes >= WHOLE_MINUTES:
        rounds = max(rounds, LEAST_OF_KIND, -(-LEAST_IN_ALL // len(kinds)))
    names = [name for _ in range(rounds) for name in dice.sample(kinds, len(kinds))]
    pause = minutes * 60 / len(names)
    return [Slot(number * pause, name, dice.getrandbits(64)) for number, name in enumerate(names)]
