"""Texts of any length, cut to what may be kept of them."""

from __future__ import annotations


def bounded(value: str, limit: int) -> str:
    """Return at most about ``limit`` bytes of the text: its beginning and its end."""
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > limit:
        half = limit // 2
        left_out = f"\n… {len(data) - 2 * half} bytes left out …\n".encode()
        data = data[:half] + left_out + data[-half:]
    return data.decode("utf-8", "replace")
