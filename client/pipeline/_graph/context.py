"""Which builder is open in this context, and where in the user's source we are."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline._graph.builder import Pipeline

__all__ = [
    "Placeholder",
    "current_builder",
    "open_builder",
    "plain_calls",
    "source_line",
    "user_frame",
]


class Placeholder:
    """Base of what stands for a value while a graph is built."""


open_builder: ContextVar[Pipeline | None] = ContextVar("pipeline_open_builder", default=None)

_LIBRARY = str(Path(__file__).resolve().parent.parent)


def current_builder() -> Pipeline | None:
    """Return the innermost builder whose ``with`` is open in this thread or task."""
    builder = open_builder.get()
    while builder is not None and not builder.is_open:
        builder = builder.outer
    return builder


class plain_calls:
    """Let pipes be plain functions inside, whatever builder is open outside.

    A class, as it is entered for each node of each run: a generator takes three times as long.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = open_builder.set(None)

    def __exit__(self, *_: object) -> None:
        open_builder.reset(self._token)


def user_frame() -> FrameType | None:
    """Return the innermost frame that is neither this library's nor contextlib's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_LIBRARY) and frame.f_globals.get("__name__") != "contextlib":
            return frame
        frame = frame.f_back
    return None


def source_line() -> str:
    """Return the user's file and line that this call came from, as ``"model.py:37"``."""
    frame = user_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "<unknown>:0"
