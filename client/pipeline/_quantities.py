"""Durations and sizes in words that people read at a glance."""

from __future__ import annotations

_SIZES = ("B", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """Write ``0.4 ms``, ``38 ms``, ``1.24 s`` or ``3 min 05 s``."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def size(count: int) -> str:
    """Write ``512 B``, ``90.9 MB`` or ``1.72 GB``; decimal units, three digits."""
    scaled, unit = float(count), 0
    while scaled >= 999.5 and unit < len(_SIZES) - 1:
        scaled, unit = scaled / 1000, unit + 1
    if unit == 0 or scaled >= 99.95:
        return f"{scaled:.0f} {_SIZES[unit]}"
    return f"{scaled:.1f} {_SIZES[unit]}" if scaled >= 9.995 else f"{scaled:.2f} {_SIZES[unit]}"
