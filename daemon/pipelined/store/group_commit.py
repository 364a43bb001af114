"""One writer for many: what is asked for meanwhile goes to the disk in the next transaction.

A commit waits for the disk, so one for each of a thousand writes would take a thousand times that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

# Of one transaction: more only makes those wait longer that came first.
MOST_WRITES = 512
MOST_BYTES = 32 << 20

Result = TypeVar("Result")
Write = Callable[[sqlite3.Connection], Any]


class _Asked(NamedTuple):
    write: Write
    size: int
    done: asyncio.Future[Any]


class GroupCommit:
    """Carries out writes in the order in which they are asked for. Belongs to one event loop.

    Args:
        connection: Used by nobody else, in another thread; without transactions of its own.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="runs-writer")
        self._asked: deque[_Asked] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def do(self, write: Callable[[sqlite3.Connection], Result], size: int = 0) -> Result:
        """Write, and return what that returns once it is on disk. Goes on if its caller leaves.

        Args:
            write: Called in the writer's thread, inside of a transaction; again if that fails.
            size: Bytes that it writes, about.

        Raises:
            sqlite3.Error: Nothing of it has been written.
        """
        result: Result = await asyncio.shield(self._ask(write, size))
        return result

    def begin(self, write: Write) -> asyncio.Future[Any]:
        """Write some time from now."""
        return self._ask(write, 0)

    async def close(self) -> None:
        """Wait until all that was asked for is done, and close the connection."""
        while self._committing is not None:
            await asyncio.wait({self._committing})
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    def _ask(self, write: Write, size: int) -> asyncio.Future[Any]:
        done = asyncio.get_running_loop().create_future()
        # The caller may have left, and nobody else asks for the error.
        done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._asked.append(_Asked(write, size, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="commit")
        return done

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._asked:
                group = self._next_group()
                writes = [asked.write for asked in group]
                results = await loop.run_in_executor(self._thread, self._commit, writes)
                for asked, result in zip(group, results, strict=True):
                    if isinstance(result, BaseException):
                        asked.done.set_exception(result)
                    else:
                        asked.done.set_result(result)
        finally:
            self._committing = None

    def _next_group(self) -> list[_Asked]:
        group = [self._asked.popleft()]
        size = group[0].size
        while self._asked and len(group) < MOST_WRITES and size <= MOST_BYTES:
            group.append(self._asked.popleft())
            size += group[-1].size
        return group

    def _commit(self, writes: Sequence[Write]) -> list[Any]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [write(self._connection) for write in writes]
            self._connection.execute("COMMIT")
            return results
        except Exception as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if len(writes) == 1:
                return [error]
        # One of them is to blame, and the others shall not suffer for it.
        return [result for write in writes for result in self._commit([write])]
