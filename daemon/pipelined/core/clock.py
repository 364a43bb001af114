"""The time that runs are noted with."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch, as they are now, that never jump."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
