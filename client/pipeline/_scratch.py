"""Where this library makes its temporary folders."""

from __future__ import annotations

import tempfile

__all__ = ["make_folder", "set_parent"]

_parent: str | None = None


def set_parent(folder: str) -> None:
    """Have temporary folders made in this one; for workers, whose daemon removes it after them."""
    global _parent
    _parent = folder


def make_folder(prefix: str) -> str:
    """Make a temporary folder and return its path; the caller removes it."""
    return tempfile.mkdtemp(prefix=prefix, dir=_parent)
