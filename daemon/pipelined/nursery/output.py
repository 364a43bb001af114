"""Reads what a child process prints, without letting a flood of it harm the daemon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

MAX_LINE = 8 * 1024
_READ = 64 * 1024
_LINES_PER_READ = 200
# A child that fills its pipe again and again is held to this pace by the pipe.
_PAUSE_SECONDS = 0.01


class OutputReader:
    """Hands on the lines of a pipe.

    Lines longer than MAX_LINE bytes are cut. Of a flood only some lines are handed on, with a note
    of how many were not, and the child waits.

    Args:
        pipe: Read end of the pipe; owned by the reader.
        on_line: Gets each line, without its end.
    """

    def __init__(self, pipe: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._on_line = on_line
        self._line = bytearray()
        self._closed = False
        self._paused: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe, self._readable)

    def close(self) -> None:
        """Hand on what is left in the pipe and close it."""
        if self._closed:
            return
        # Bounded: somebody else may have the pipe and go on writing.
        for _ in range(4):
            if not self._read_once():
                break
        if self._line:
            self._end_line()
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)

    def _readable(self) -> None:
        if not self._read_once():
            self._loop.remove_reader(self._pipe)

    def _read_once(self) -> bool:
        """Read once; return False at the end."""
        try:
            data = os.read(self._pipe, _READ)
        except BlockingIOError:
            return True
        if not data:
            return False
        if len(data) == _READ and self._paused is None:
            self._loop.remove_reader(self._pipe)
            self._paused = self._loop.call_later(_PAUSE_SECONDS, self._resume)
        *lines, rest = data.split(b"\n")
        for line in lines[:_LINES_PER_READ]:
            self._add(line)
            self._end_line()
        if len(lines) > _LINES_PER_READ:
            self._on_line(f"… {len(lines) - _LINES_PER_READ} lines left out …")
        self._add(rest)
        return True

    def _resume(self) -> None:
        self._paused = None
        if not self._closed:
            self._loop.add_reader(self._pipe, self._readable)

    def _add(self, data: bytes) -> None:
        # One byte more than is handed on, to know that it was cut.
        self._line += data[: MAX_LINE + 1 - len(self._line)]

    def _end_line(self) -> None:
        cut = len(self._line) > MAX_LINE
        text = self._line[:MAX_LINE].decode("utf-8", "replace").rstrip("\r")
        self._line.clear()
        self._on_line(f"{text} …" if cut else text)
