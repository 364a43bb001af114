"""What signals ask of the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from pipelined.core.shutdown import Shutdown
from pipelined.reloading import Reloading


def listen(shutdown: Shutdown, reloading: Reloading) -> None:
    """Stop on SIGTERM and SIGINT, and read the settings again on SIGHUP.

    A SIGHUP that says that the terminal has been closed stops the daemon, too: nobody who closes a
    window wants to have a daemon afterwards.
    """
    loop = asyncio.get_running_loop()
    has_terminal = _terminal_is_there()

    def hung_up() -> None:
        if has_terminal and not _terminal_is_there():
            shutdown.signalled()
        else:
            reloading.ask()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shutdown.signalled)
    loop.add_signal_handler(signal.SIGHUP, hung_up)


def _terminal_is_there() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False
