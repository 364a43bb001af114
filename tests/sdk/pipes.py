"""Pipes that several rows of the table use."""

from __future__ import annotations

from typing import Any

from pipeline import pipe


@pipe
def scaled(x: int, by: int = 2, *, plus: int = 0) -> int:
    """Scales."""
    return x * by + plus


@pipe()
def same(value: Any) -> Any:
    return value
