"""Counts the calls that are answered with an error, by its reason. One account for the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# Of errors that no caller should see: bugs of ours.
INTERNAL = "INTERNAL"
_counted: Counter[str] = Counter()


def count(reason: str) -> None:
    """Count one; the reason is that of the table in ``status.py``, empty for a bug of ours."""
    _counted[reason or INTERNAL] += 1


def counted() -> Mapping[str, int]:
    """How many there were of each reason since the process was started."""
    return _counted
