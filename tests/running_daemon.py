"""A real daemon in a process of its own, on a real socket, for tests."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2

from pipeline import Client

START_SECONDS = 30.0
STOP_SECONDS = 60.0
# Between looks at what is not there yet: spinning would take a core from what makes it.
POLL_SECONDS = 0.01
PROGRAM = (str(Path(sys.executable).with_name("pipelined")),)


def check_health(
    channel: grpc.Channel, service: str = "", *, timeout: float | None = None
) -> health_pb2.HealthCheckResponse:
    """Ask once; fails with a grpc.RpcError."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    response: health_pb2.HealthCheckResponse = check(
        health_pb2.HealthCheckRequest(service=service), timeout=timeout, wait_for_ready=True
    )
    return response


def state_directory(folder: Path) -> Path:
    """The state directory of a folder, which is a link to another place.

    Workers are kept from the state directory, and so from what is made later in the folders around
    it: those of the tests, for one.
    """
    link = folder / "state"
    if not link.is_symlink():
        place = tempfile.mkdtemp(prefix="pld-", dir="/var/tmp")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        link.symlink_to(place)
    return link


class RunningDaemon:
    """`pipelined serve` on a unix socket in a folder of its own.

    Attributes:
        address: As clients take it.
        state_dir: Its state directory.
        log_path: What it wrote to stderr.
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._program = program
        # Without the configuration file of whoever runs the tests.
        self._environment = {**os.environ, "PIPELINED_CONFIG": "", **(environment or {})}
        self.state_dir = state_directory(folder)
        self.log_path = folder / "daemon.log"
        # Sockets have short names: the folder of a test does not fit into one.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="pld-")
        self.socket_path = Path(self._socket_folder.name) / "s"
        self.address = f"unix:{self.socket_path}"
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """Of the daemon's own process."""
        assert self._process is not None
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The daemon's own process."""
        assert self._process is not None
        return self._process

    def client(self) -> Client:
        """A new client; close it, or use it in a `with`."""
        return Client(self.address)

    def log(self) -> str:
        """What the daemon has logged."""
        return self.log_path.read_text()

    def start(self) -> None:
        """Start it, and return when it is healthy."""
        command = [
            *self._program,
            "serve",
            f"--address={self.address}",
            f"--state-dir={self.state_dir}",
            *self._options,
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Return when health says SERVING; fail if the process ends before."""
        deadline = time.monotonic() + START_SECONDS
        # A channel that was refused waits for a second before it tries again.
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the daemon did not start:\n{self.log()}")
            time.sleep(POLL_SECONDS)
        with grpc.insecure_channel(self.address) as channel:
            while True:
                try:
                    response = check_health(channel, timeout=1)
                except grpc.RpcError:
                    response = health_pb2.HealthCheckResponse()
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the daemon did not start:\n{self.log()}")

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True

    def stop(self) -> int:
        """Ask it to stop, and return its exit code; no child of it may be left."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            children = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(children, timeout=STOP_SECONDS)
        assert not alive, f"left behind: {alive}"
        return code

    def restart(self) -> None:
        """Stop it and start it again on the same socket and state."""
        assert self.stop() == 0, self.log()
        self.start()

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        self._process = None

    def close(self) -> None:
        """Stop it and remove the socket's folder."""
        try:
            code = self.stop()
            assert code == 0, f"exit code {code}:\n{self.log()}"
        finally:
            self._socket_folder.cleanup()
