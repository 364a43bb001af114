"""What the garbage collector has to look at."""

from __future__ import annotations

import gc


def spare_what_stays() -> None:
    """Let collections leave alone what the start has made: all but a little of it stays to the end.

    Measured with 5,000 runs of an echo: a full collection, one of which fell to them, took 80 ms
    with the 60,000 objects of the start and 22 ms without, and all collections 23 us a run and 13.
    Higher thresholds were no better: what a run leaves behind is its record, and what is looked at
    in the end are the records.
    """
    gc.collect()
    gc.freeze()
