"""What the servers that are measured have in common; imports what is in every environment.

Each is started with a folder, in which it leaves its requests as files and, once it answers,
``ready.json`` with where to send them.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

SMALL, LARGE = "small", "large"
ELEMENTS = {SMALL: 16, LARGE: 1 << 20}
GRPC_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


def folder() -> Path:
    """Where the server is to leave what the caller needs."""
    return Path(sys.argv[1])


def data(size: str) -> bytes:
    """The elements of the tensor, as float32."""
    return array("f", (i % 1000 / 8 for i in range(ELEMENTS[size]))).tobytes()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    """Return when somebody listens on a port of the loopback interface."""
    until(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), OSError)


def until(attempt: Callable[[], object], failure: type[Exception], seconds: float = 120.0) -> None:
    """Try again while it fails so."""
    end = time.monotonic() + seconds
    while not _succeeds(attempt, failure, last=time.monotonic() > end):
        time.sleep(0.05)


def _succeeds(attempt: Callable[[], object], failure: type[Exception], *, last: bool) -> bool:
    try:
        attempt()
    except failure:
        if last:
            raise
        return False
    return True


def leave(where: Path, size: str, content: bytes) -> None:
    """Leave a request of that size."""
    (where / size).write_bytes(content)


def ready(where: Path, transport: str, address: str, method: str) -> None:
    """Say where the server is."""
    text = json.dumps({"transport": transport, "address": address, "method": method})
    (where / "new").write_text(text)
    (where / "new").rename(where / "ready.json")


def wait_for_the_end() -> None:
    """Return when whoever started the server closes its standard input."""
    sys.stdin.read()
