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


def hide_children(folder: str) -> list[int]:
    """Start processes that leave the session, their parents, and their environment; their ids."""
    import os
    import signal
    import subprocess
    import sys
    import time
    from pathlib import Path

    def detached(number: int) -> None:
        if os.fork():
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        (Path(folder) / f"{number}.new").write_text(str(os.getpid()))
        (Path(folder) / f"{number}.new").rename(Path(folder) / str(number))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if number:
            sleep = "import signal; signal.pause()"
            os.execve(sys.executable, [sys.executable, "-Ic", sleep], {})
        while True:
            signal.pause()

    for number in range(2):
        detached(number)
    os.wait()
    os.wait()
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True
    )
    while len(files := list(Path(folder).glob("[01]"))) < 2:
        time.sleep(0.001)
    return [child.pid, *(int(file.read_text()) for file in files)]
