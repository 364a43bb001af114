"""Starts a worker by exec: ``python -m pipelined.worker CHANNEL_FD``."""

import os
import signal
import socket
import sys

from pipelined.worker import offspring
from pipelined.worker.channel import Channel


def main(channel_fd: int, parent: int) -> int:
    """Run a worker of this parent on the channel; return its exit code."""
    # User code may not let go of the interpreter when the daemon has gone.
    offspring.die_with_parent(parent)
    # The daemon's terminal is not for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from pipelined import weights

    weights.install()
    from pipelined.worker import process

    return process.run(Channel(socket.socket(fileno=channel_fd)))


if __name__ == "__main__":
    # Not the interpreter's own way out, which waits for threads of the user.
    os._exit(main(int(sys.argv[1]), os.getppid()))
