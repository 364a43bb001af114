"""Starts a worker by exec: ``python -m pipelined.worker CHANNEL_FD``."""

import os
import signal
import socket
import sys

from pipelined.worker.channel import Channel


def main(channel_fd: int) -> int:
    """Run a worker on the channel; return its exit code."""
    # The daemon's terminal is not for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from pipelined import weights

    weights.install()
    from pipelined.worker import process

    return process.run(Channel(socket.socket(fileno=channel_fd)))


if __name__ == "__main__":
    # Not the interpreter's own way out, which waits for threads of the user.
    os._exit(main(int(sys.argv[1])))
