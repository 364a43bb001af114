"""Reaping children. The daemon and the nursery each do it in one place only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from pipelined.worker.offspring import become_subreaper, children, is_subreaper

# Exits of processes that nobody asked for yet; the oldest are forgotten.
_REMEMBERED = 256


def reap_children(leaders: Container[int]) -> Iterator[tuple[int, int]]:
    """Yield process id and wait status of every child that has ended.

    Of those in ``leaders`` the rest of the process group is killed first: while the leader is not
    reaped yet, the group's number cannot have become another's.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in leaders:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            yield os.waitpid(ended.si_pid, 0)


class Reaper:
    """Reaps all children of the daemon, and those that their own parents left behind.

    The daemon becomes a subreaper: workers whose nursery died become its children, so that their
    ends still have a status. What other processes left behind, workers above all, is killed when
    it has come here: its session is never the daemon's, whose own children have that or are
    expected. Needs a running loop in the main thread. From its creation to ``close`` nothing else
    in the process may wait for children, or start any in sessions of their own but within
    ``starting``.
    """

    def __init__(self) -> None:
        if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
            raise RuntimeError("something else in this process waits for children already")
        self._was_subreaper = is_subreaper()
        become_subreaper()
        # Children that are being started, and are not expected yet.
        self._starting = 0
        self._expected: dict[int, Callable[[int], None]] = {}
        self._early: OrderedDict[int, int] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        # Not the loop's own way, which uvloop keeps for itself.
        signal.signal(signal.SIGCHLD, lambda *_: self._loop.call_soon_threadsafe(self._reap))
        signal.siginterrupt(signal.SIGCHLD, False)

    def expect(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """Call ``on_exit`` with the wait status once the process has been reaped here.

        It may have ended already. The process has to be the leader of its process group.
        """
        self._expected[pid] = on_exit
        if pid in self._early:
            status = self._early.pop(pid)
            # If it exists, then the number has been used for another one since.
            if not exists(pid):
                self._loop.call_soon(self._dispatch, pid, status)

    def forget(self, pid: int) -> None:
        """Take back ``expect``: somebody else has reaped it."""
        self._expected.pop(pid, None)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While a child is started: until it is expected, or will not be."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1
            self.kill_orphans()

    def kill_orphans(self) -> None:
        """Kill what has come here because the process that started it has ended.

        What those have started comes here when they have been reaped, and is killed then.
        """
        if self._starting:
            return
        session = os.getsid(0)
        for pid in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if pid not in self._expected and os.getsid(pid) != session:
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop reaping: what others leave behind from now on is not this process's any more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become_subreaper(wanted=self._was_subreaper)

    def _reap(self) -> None:
        for pid, status in reap_children(self._expected):
            if pid in self._expected:
                self._dispatch(pid, status)
            else:
                self._early[pid] = status
                while len(self._early) > _REMEMBERED:
                    self._early.popitem(last=False)
        self.kill_orphans()

    def _dispatch(self, pid: int, status: int) -> None:
        on_exit = self._expected.pop(pid, None)
        if on_exit is not None:
            on_exit(status)


def exists(pid: int) -> bool:
    """Whether there is a process of this id, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
