"""Functions that run in workers."""

from __future__ import annotations


def identity(number: int) -> int:
    return number


def pause(number: int) -> int:
    import signal

    print("pausing", end="\n" * number)  # noqa: T201
    signal.pause()
    return number


def start_child() -> int:
    import subprocess
    import sys

    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    return child.pid
