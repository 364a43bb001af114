"""Locks that neither a fork nor a signal handler can turn into a deadlock."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class ForkLock:
    """A reentrant lock that is free in a forked child, where no thread is left that would free it.

    What it guards has to make sense at any instant, then: to a child, and to a signal handler or
    finaliser that interrupts its holder.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be free, whoever has it."""
        self._lock = threading.RLock()


_locks: WeakSet[ForkLock] = WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_after_fork)
