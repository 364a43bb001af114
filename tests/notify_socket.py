"""A real socket of the sd_notify protocol, and a daemon that tells it how it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

WAIT_SECONDS = 60.0


class NotifySocket:
    """Receives what a service tells; in the abstract namespace unless there is a folder for it.

    Attributes:
        address: What NOTIFY_SOCKET is to be.
        told: The messages that have been read, each by its names.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(WAIT_SECONDS)
        name = f"pipelined-test-{os.getpid()}-{id(self)}"
        self.address = f"@{name}" if folder is None else str(folder / "notify")
        self._socket.bind(f"\0{name}" if folder is None else self.address)
        self.told: list[dict[str, str]] = []

    def until(self, condition: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
        """Read until a message is what is waited for; returns what has come, that one last."""
        came = []
        while True:
            text = self._socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in text.split("\n"))
            self.told.append(message)
            came.append(message)
            if condition(message):
                return came

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
