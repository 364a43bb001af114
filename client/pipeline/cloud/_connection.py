"""The connection that all functions share."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from pipelined_api.address import default_address

if TYPE_CHECKING:
    from pipeline.client import Client

__all__ = ["connected"]

_lock = threading.Lock()
# By process, too: a connection does not survive a fork.
_clients: dict[tuple[int, str], Client] = {}


def connected() -> Client:
    """Return the client of the address that is the default one now."""
    # Programs that only build graphs import the functions too: gRPC is not for them.
    from pipeline.client import Client

    key = (os.getpid(), default_address())
    with _lock:
        if key not in _clients:
            _clients[key] = Client(key[1])
        return _clients[key]


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


def _close() -> None:
    for (process, _), client in _clients.items():
        if process == os.getpid():
            client.close()


# Another thread may hold the lock while this one forks.
os.register_at_fork(after_in_child=_renew_lock)
atexit.register(_close)
