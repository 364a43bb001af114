"""What workers print: the lines that are kept of it, and how they are read while more come."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

# What is kept of one run, and of one deployment.
MAX_LINES = 10_000
MAX_BYTES = 2**20
# What is kept of all runs together: text, and what each line takes beside it.
MAX_JOURNAL_BYTES = 128 * 2**20
LINE_BYTES = 160
# Names whose lines are kept; those that were printed under least recently go first.
MAX_DEPLOYMENTS = 64
# Lines that a reader gets at once.
BATCH = 256


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines that a process has printed one after the other.

    Attributes:
        process: Id of a worker, or "nursery".
        lines: One or more, without their ends.
        deployment: That the worker was started for; empty if none is known.
        run_id: Of the run that the worker was on; empty outside of runs.
    """

    process: str
    lines: Sequence[str]
    deployment: str = ""
    run_id: str = ""


class Line(NamedTuple):
    """One line.

    Attributes:
        at: When it was read, in seconds since the epoch.
        text: Without its end.
        run_id: Of the run during which it was printed; empty outside of runs.
        worker: Id of the worker.
        note: It was not printed, but says how many lines are not here.
    """

    at: float
    text: str
    run_id: str = ""
    worker: str = ""
    note: bool = False


# Of buffers that have no lines, which most stay: a deque of its own has memory for 64.
_NO_LINES: deque[Line] = deque(maxlen=0)


class LineBuffer:
    """The newest lines of a run or of a deployment. Belongs to one event loop.

    Readers hold nothing up: one that is too slow gets a note in place of the lines that it missed.
    """

    __slots__ = ("_bytes", "_changed", "_closed", "_come", "_lines", "_newest_at")

    def __init__(self) -> None:
        self._lines = _NO_LINES
        self._bytes = 0
        self._come = 0
        self._newest_at = 0.0
        self._closed = False
        self._changed: asyncio.Future[None] | None = None

    @property
    def cost(self) -> int:
        """Bytes that its lines take, about."""
        return self._bytes + LINE_BYTES * len(self._lines)

    def add(self, lines: Sequence[Line], left_out: int = 0) -> None:
        """Take lines; the oldest make room.

        Args:
            lines: One or more.
            left_out: How many came before them and after those that are here.
        """
        if left_out:
            self.clear()
        self._come += left_out + len(lines)
        self._newest_at = lines[-1].at
        if self._lines is _NO_LINES:
            self._lines = deque()
        self._lines.extend(lines)
        self._bytes += sum(_size(line.text) for line in lines)
        while len(self._lines) > MAX_LINES or self._bytes > MAX_BYTES:
            self._drop_oldest()
        self._wake()

    def close(self) -> None:
        """Take note that readers need not wait for more."""
        self._closed = True
        self._wake()

    def clear(self) -> None:
        """Drop the lines; readers are told that they are not here."""
        self._lines = _NO_LINES
        self._bytes = 0

    async def read(
        self, *, follow: bool = False, tail: int | None = None
    ) -> AsyncGenerator[Sequence[Line], None]:
        """Yield the lines in batches, then, if asked to follow, those that come until it is closed.

        Args:
            follow: Wait for more.
            tail: Begin with so many of the newest; None begins with all, and a note of those that
                are not here any more.
        """
        position = 0 if tail is None else max(self._first, self._come - tail)
        end = self._come
        while True:
            if position < self._first:
                yield [self._missed(self._first - position)]
                position = self._first
            batch = self._batch(position - self._first)
            if batch and (follow or position < end):
                position += len(batch)
                yield batch
            elif not follow or self._closed:
                return
            else:
                await self._more()

    @property
    def _first(self) -> int:
        """Number of the oldest line that is here, counting all that have come."""
        return self._come - len(self._lines)

    def _batch(self, start: int) -> Sequence[Line]:
        behind = len(self._lines) - start
        if behind > BATCH:
            return [*islice(self._lines, start, start + BATCH)]
        # From the end: who follows shall not pass by thousands of lines for each that comes.
        return [*islice(reversed(self._lines), behind)][::-1]

    def _missed(self, count: int) -> Line:
        at = self._lines[0].at if self._lines else self._newest_at
        return Line(at, f"… {count} {'line' if count == 1 else 'lines'} not kept …", note=True)

    def _drop_oldest(self) -> None:
        self._bytes -= _size(self._lines.popleft().text)

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)

    async def _more(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        # Others may wait for it, too.
        await asyncio.shield(self._changed)


class Journal:
    """The lines of runs and of deployments. Belongs to one event loop.

    Args:
        clock: Seconds since the epoch.
        limit: Bytes of the lines of all runs together.
    """

    def __init__(self, clock: Callable[[], float], limit: int = MAX_JOURNAL_BYTES) -> None:
        self._clock = clock
        self._limit = limit
        self._cost = 0
        self._runs: dict[str, LineBuffer] = {}
        # Those that have lines, in the order of their first ones.
        self._costly: OrderedDict[str, LineBuffer] = OrderedDict()
        self._deployments: OrderedDict[str, LineBuffer] = OrderedDict()

    def open(self, run_id: str) -> LineBuffer:
        """Keep the lines of a run from now on."""
        self._runs[run_id] = LineBuffer()
        return self._runs[run_id]

    def forget(self, run_id: str) -> None:
        """Keep no lines of a run any more."""
        buffer = self._runs.pop(run_id)
        if self._costly.pop(run_id, None) is not None:
            self._cost -= buffer.cost
        buffer.close()

    def of_deployment(self, name: str) -> LineBuffer:
        """The lines of a deployment; there may be none yet."""
        buffer = self._deployments.get(name)
        if buffer is None:
            buffer = self._deployments[name] = LineBuffer()
            while len(self._deployments) > MAX_DEPLOYMENTS:
                self._deployments.popitem(last=False)[1].close()
        self._deployments.move_to_end(name)
        return buffer

    def forget_deployment(self, name: str) -> None:
        """Keep the lines of a deployment no longer; who follows them has come to their end."""
        if (buffer := self._deployments.pop(name, None)) is not None:
            buffer.close()

    def add(self, printed: Printed) -> None:
        """Take what a process has printed."""
        at, run_id, process = self._clock(), printed.run_id, printed.process
        # Of more than are kept the first need not be made at all.
        lines = [Line(at, text, run_id, process) for text in printed.lines[-MAX_LINES:]]
        left_out = len(printed.lines) - len(lines)
        if printed.deployment:
            self.of_deployment(printed.deployment).add(lines, left_out)
        buffer = self._runs.get(printed.run_id)
        if buffer is None:
            return
        before = buffer.cost
        buffer.add(lines, left_out)
        self._cost += buffer.cost - before
        self._costly.setdefault(printed.run_id, buffer)
        # All of the oldest ones', but never of the one that has just come.
        while self._cost > self._limit and len(self._costly) > 1:
            oldest = next(iter(self._costly))
            if oldest == printed.run_id:
                self._costly.move_to_end(oldest)
                continue
            cleared = self._costly.pop(oldest)
            self._cost -= cleared.cost
            cleared.clear()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
