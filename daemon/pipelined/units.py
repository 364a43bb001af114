"""Times as people write them, "90s" or "7d", and sizes that the loader can work with."""

from __future__ import annotations

import re

from pipelined_api.sizes import InvalidSize, parse_size

# Four buffers of a page each, with what reading past the page cache needs beside it: with less the
# loader cannot read and copy at the same time (csrc/weights/cuda/loading_device.hpp).
LEAST_PINNED_BYTES = 48 << 10
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d*\.?\d+)\s*(ms|[smhd]?)\s*")


class InvalidDuration(ValueError):
    """A time that is none; the text says which."""


def parse_duration(text: str, *, least: float = 0.0) -> float:
    """Return the seconds of a time such as "90s", "12h", "7d", "250ms" or "3600".

    Raises:
        InvalidDuration: It is no time, or less than ``least``; 0 is one only if ``least`` is below.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidDuration(f"{text!r} is not a time such as 90s, 15m, 12h or 7d")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds < least or (seconds == 0 and least >= 0):
        bound = f"less than {least:g}s" if seconds < least else "not more than nothing"
        raise InvalidDuration(f"{text!r} is {bound}: a time such as 90s, 15m, 12h or 7d is needed")
    return seconds


def parse_pinned_size(text: str) -> int:
    """Return the bytes of a size, as ``parse_size``, that the loader can work with."""
    size = parse_size(text)
    if size < LEAST_PINNED_BYTES:
        raise InvalidSize(
            f"{text!r} is less than {LEAST_PINNED_BYTES >> 10}KiB, without which nothing can be "
            "loaded onto a device"
        )
    return size
