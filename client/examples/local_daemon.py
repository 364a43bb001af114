"""A daemon of one's own in a temporary folder, for as long as a `with` block lasts."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline import Client
from pipeline.deployment import NurseryInfo
from pipeline.errors import Unavailable

START_SECONDS = 30
PRELOAD_SECONDS = 120
# For a run that is in progress when the block is left, and for everything that has to stop.
DRAIN_SECONDS, STOP_SECONDS = 5, 15
POLL_SECONDS = 0.02


class DaemonFailed(Exception):
    """The daemon ended, or did not answer in time; the message holds what it logged last."""


@contextmanager
def local_daemon(environment: Mapping[str, str] | None = None) -> Iterator[Client]:
    """Start `pipelined serve` and connect to it; it is stopped however the block is left.

    Args:
        environment: variables for it, beyond this process's own.

    Raises:
        DaemonFailed: it does not start.

    """
    with tempfile.TemporaryDirectory(prefix="pipelined-") as name:
        folder = Path(name)
        socket, log = folder / "daemon.sock", folder / "daemon.log"
        command = [str(Path(sys.executable).with_name("pipelined")), "serve"]
        command += ["--address", f"unix:{socket}", "--state-dir", str(folder / "state")]
        command += ["--drain-seconds", str(DRAIN_SECONDS)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for this process, which then stops the daemon in its own time.
                start_new_session=True,
            )
        try:
            with Client(f"unix:{socket}") as client:
                _wait_until_serving(process, socket, client, log)
                yield client
        finally:
            _stop(process)


def wait_for_nursery(client: Client) -> NurseryInfo:
    """Wait until the nursery has imported its modules: a startup before that has to wait too."""
    deadline = time.monotonic() + PRELOAD_SECONDS
    while (nursery := client.info().nursery).state != "ready":
        if time.monotonic() > deadline:
            raise DaemonFailed(f"the nursery is still {nursery.state} after {PRELOAD_SECONDS} s")
        time.sleep(POLL_SECONDS)
    return nursery


def _wait_until_serving(
    process: subprocess.Popen[bytes], socket: Path, client: Client, log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if socket.exists():
            try:
                client.info()
            except Unavailable:
                pass
            else:
                return
        time.sleep(POLL_SECONDS)
    ended = f"ended with {process.returncode}" if process.poll() is not None else "does not answer"
    last = log.read_text(errors="replace")[-2000:]
    raise DaemonFailed(f"the daemon {ended}; it logged:\n{last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
