"""The daemon under test: a process of its own, restarted by its keeper as systemd would."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from pipeline import Client
from tests.chaos.clock import Clock
from tests.chaos.place import Place
from tests.chaos.processes import LIFE, STORM
from tests.running_daemon import check_health

START_SECONDS = 60.0
STOP_SECONDS = 60.0
OPTIONS = (
    "--preload=numpy",
    "--drain-seconds=5",
    "--versions-kept=2",
    "--file-store-size=24MiB",
    "--run-store-size=16MiB",
    "--log-format=json",
)


class Served:
    """`pipelined serve` on a unix socket, in one life after another.

    Attributes:
        address: As clients take it.
        storm: The mark of all its processes.
        life: How many daemons there have been.
        log_path: What they wrote.
    """

    def __init__(self, place: Place, clock: Clock, options: tuple[str, ...] = OPTIONS) -> None:
        self._place = place
        self._clock = clock
        self._options = options
        # Sockets have short names: TMPDIR may not fit into one.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="storm-", dir="/tmp")
        self.socket_path = Path(self._socket_folder.name) / "s"
        self.address = f"unix:{self.socket_path}"
        self.storm = secrets.token_hex(8)
        self.life = 0
        self.log_path = place.root / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        # Held by who ends a life and begins the next.
        self.changing = threading.RLock()

    @property
    def pid(self) -> int:
        """Of the living daemon; 0 if there is none."""
        process = self._process
        return 0 if process is None or process.poll() is not None else process.pid

    def client(self) -> Client:
        """A new client; use it in a `with`."""
        return Client(self.address)

    def start(self) -> None:
        """Begin a life.

        Raises:
            DidNotStart: It ended, or is not healthy in time.
        """
        self.life += 1
        command = [
            str(Path(sys.executable).with_name("pipelined")),
            "serve",
            f"--address={self.address}",
            f"--state-dir={self._place.state}",
            *self._options,
        ]
        environment = {
            **os.environ,
            **self._clock.environment,
            "TMPDIR": str(self._place.temporary),
            STORM: self.storm,
            LIFE: str(self.life),
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # Ctrl-C is for the storm, which then stops the daemon.
                start_new_session=True,
            )
        self._wait_healthy(self._process)

    def _wait_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(self.address) as channel:
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(grpc.RpcError):
                    status = check_health(channel, timeout=1).status
                    if status == health_pb2.HealthCheckResponse.SERVING:
                        return
        raise DidNotStart(f"exit code {process.poll()}", self.log_tail())

    def log_tail(self, lines: int = 15) -> str:
        """The end of the log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End the life as a crash would."""
        process = self._process
        assert process is not None
        process.kill()
        process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit code, -9 where it had to be killed."""
        process = self._process
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def close(self) -> None:
        """Remove the folder of the socket; the daemon has been stopped before."""
        if self.pid:
            self.kill()
        self._socket_folder.cleanup()


class DidNotStart(Exception):
    """A life that did not begin."""

    def __init__(self, how: str, log: str) -> None:
        super().__init__(f"the daemon did not become healthy ({how}):\n{log}")
