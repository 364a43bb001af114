"""The servers that ours is compared with: where each comes from, and how it is started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from environments import ROOT, python_in
from overhead_load import Target

SERVERS = Path(__file__).with_name("overhead_servers")
START_SECONDS = 180.0
STOP_SECONDS = 15.0
# None of them needs it; if one asks for it, it is the build without CUDA.
CONSTRAINTS = "torch==2.13.0\n"


@dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        key: as --peers takes it.
        name: as the tables have it.
        server: program in overhead_servers.
        requirements: what pip is asked for; none for what is in our own environment.
        own_messages: it takes messages of our own API.
    """

    key: str
    name: str
    server: str
    requirements: tuple[str, ...] = ()
    own_messages: bool = False


BARE = Peer("bare", "bare grpc.aio", "bare.py", own_messages=True)
PEERS = (
    Peer("kserve", "KServe 0.21.0", "kserve_echo.py", ("kserve==0.21.0",)),
    Peer("mlserver", "MLServer 1.7.1", "mlserver_echo.py", ("mlserver==1.7.1", "uvloop<0.22")),
    Peer("pytriton", "pytriton 0.7.0", "pytriton_echo.py", ("nvidia-pytriton==0.7.0",)),
    Peer("litserve", "LitServe 0.2.19", "litserve_echo.py", ("litserve==0.2.19",)),
    Peer("bentoml", "BentoML < 1.4.40", "bentoml_echo.py", ("bentoml<1.4.40",)),
    Peer(
        "ray",
        "Ray Serve 2.60.0",
        "ray_echo.py",
        ("ray[serve-grpc]==2.60.0",),
        own_messages=True,
    ),
)


class NotCompared(Exception):
    """A peer cannot be installed or started here; the message says why."""


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        name: as the tables have it.
        target: where it is.
        requests: by size; one that it does not take is not there.
    """

    name: str
    target: Target
    requests: dict[str, bytes]


@contextmanager
def started(peer: Peer) -> Iterator[Server]:
    """Start a peer in its environment, which is made on first use; stopped in the end.

    Raises:
        NotCompared: It does not install, or does not answer.
    """
    try:
        python = _python(peer)
    except subprocess.CalledProcessError as error:
        raise NotCompared(_last(error.stderr)) from None
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        log = folder / "log"
        paths = [str(SERVERS)] + ([str(ROOT / "proto")] if peer.own_messages else [])
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), str(SERVERS / peer.server), str(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,
            )
        try:
            yield _server(peer, process, folder, log)
        finally:
            _stop(process)


def _python(peer: Peer) -> Path:
    if not peer.requirements:
        return Path(sys.executable)
    folder = re.sub(r"\[.*?\]", "", peer.requirements[0]).replace("==", "-").partition("<")[0]
    return python_in(folder, peer.requirements, constraints=CONSTRAINTS)


def _server(peer: Peer, process: subprocess.Popen[bytes], folder: Path, log: Path) -> Server:
    ready = folder / "ready.json"
    end = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise NotCompared(_last(log.read_text(errors="replace")))
        time.sleep(0.05)
    sizes = ("small", "large")
    requests = {s: (folder / s).read_bytes() for s in sizes if (folder / s).exists()}
    return Server(peer.name, Target(**json.loads(ready.read_text())), requests)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that it started."""
    assert process.stdin is not None
    process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "it says nothing"
