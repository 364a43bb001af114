"""What a function holds on to from where it was defined."""

from __future__ import annotations

from collections.abc import Callable
from types import CellType
from typing import Any

__all__ = ["closure"]

_EMPTY = object()


def closure(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the enclosing scopes' variables that a function uses and that have a value by now.

    A name that is defined further down than the function has none yet.
    """
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None)
    if code is None or cells is None:
        return {}
    contents = {name: _contents(cell) for name, cell in zip(code.co_freevars, cells, strict=True)}
    return {name: value for name, value in contents.items() if value is not _EMPTY}


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY
