"""Reads what a child process prints, without letting a flood of it harm the daemon."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import termios
from collections.abc import Callable

MAX_LINE = 8 * 1024
_READ = 64 * 1024
_CUT = " …".encode()
# A child that fills its pipe again and again is held to this pace by the pipe.
_PAUSE_SECONDS = 0.01


class OutputReader:
    """Hands on the lines of a pipe.

    Lines longer than MAX_LINE bytes are cut. A child that floods the pipe waits a little.

    Args:
        pipe: Read end of the pipe; owned by the reader.
        on_lines: Gets the lines that were read at once, without their ends.
    """

    def __init__(self, pipe: int, on_lines: Callable[[list[str]], None]) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._on_lines = on_lines
        self._line = bytearray()
        self._closed = False
        # What the system answers how many bytes there are into; asked twice for each run.
        self._left = array.array("i", [0])
        self._paused: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe, self._readable)

    def drain(self) -> None:
        """Hand on what has been written by now, the beginning of a line as a line."""
        if self._closed:
            return
        # So much and no more: somebody may have the pipe and go on writing.
        fcntl.ioctl(self._pipe, termios.FIONREAD, self._left)
        left = self._left[0]
        if not left and not self._line:
            return
        # The child can read from its own pipe, too, and leave less than there was.
        with contextlib.suppress(BlockingIOError):
            while left > 0 and (count := self._read_once(min(left, _READ))):
                left -= count
        if self._line:
            self._hand_on([self._take_line()])

    def close(self) -> None:
        """Hand on what is left in the pipe and close it."""
        if self._closed:
            return
        self.drain()
        self._closed = True
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)

    def _readable(self) -> None:
        try:
            count = self._read_once(_READ)
        except BlockingIOError:
            # It has been drained meanwhile.
            return
        if count == 0:
            self._loop.remove_reader(self._pipe)
        elif count == _READ and self._paused is None:
            self._loop.remove_reader(self._pipe)
            self._paused = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _read_once(self, size: int) -> int:
        """Read once and return how many bytes; 0 at the end.

        Raises:
            BlockingIOError: There is nothing now.
        """
        data = os.read(self._pipe, size)
        *lines, rest = data.split(b"\n")
        if lines:
            self._add(lines[0])
            lines[0] = self._take_line()
            self._hand_on(lines)
        self._add(rest)
        return len(data)

    def _resume(self) -> None:
        self._paused = None
        if not self._closed:
            self._loop.add_reader(self._pipe, self._readable)

    def _add(self, data: bytes) -> None:
        # One byte more than is handed on, to know that it was cut.
        self._line += data[: MAX_LINE + 1 - len(self._line)]

    def _take_line(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        return line

    def _hand_on(self, lines: list[bytes]) -> None:
        if max(map(len, lines)) > MAX_LINE:
            lines = [line if len(line) <= MAX_LINE else line[:MAX_LINE] + _CUT for line in lines]
        # At once: there may be tens of thousands of them.
        text = b"\n".join(lines).decode("utf-8", "replace")
        texts = text.split("\n")
        self._on_lines([each.rstrip("\r") for each in texts] if "\r" in text else texts)
