"""Tells systemd how the daemon is: the protocol of sd_notify(3) and sd_watchdog_enabled(3).

A datagram of ``NAME=value`` lines to the socket that NOTIFY_SOCKET names, which is a path, or a
name in the abstract namespace where it begins with "@".
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from types import TracebackType


class ServiceManager:
    """Whoever started the daemon, if it wants to know; nobody is told otherwise.

    What it cannot be told is lost: no caller has to expect that this fails.

    Args:
        environment: Has the names of the socket and of the watchdog, and loses them: no child of
            the daemon shall speak for it.

    Attributes:
        watchdog_seconds: Within which it wants a sign of life, again and again; None if it wants
            none.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        name = environment.pop("NOTIFY_SOCKET", "")
        pid = environment.pop("WATCHDOG_PID", "")
        micro = environment.pop("WATCHDOG_USEC", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        if name:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A manager that does not read must not hold up the event loop.
            self._socket.setblocking(False)
        self.watchdog_seconds: float | None = None
        if micro.isascii() and micro.isdigit() and int(micro) > 0 and pid in ("", str(os.getpid())):
            self.watchdog_seconds = int(micro) / 1e6
        self._status = ""

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    def ready(self, status: str) -> None:
        """The daemon serves, for the first time or again."""
        self._status = status
        self._tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """What it does, in one line; told if it is another one than before."""
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")

    def reloading(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """It reads its configuration again; ``ready`` says when that is over."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={clock() // 1000}")

    def stopping(self, status: str) -> None:
        """It has begun to stop."""
        self._status = status
        self._tell("STOPPING=1", f"STATUS={status}")

    def extend(self, seconds: float) -> None:
        """It needs so long from now for what it does, unless it says this again before that."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """The sign of life for the watchdog."""
        if self.watchdog_seconds is not None:
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._socket is None:
            return
        # One line each, whatever is in a status.
        message = "\n".join(" ".join(line.splitlines()) for line in lines)
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(), self._address)
