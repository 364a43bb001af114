"""Faults of clients: they vanish, read slowly, change their minds, or talk nonsense."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc

from pipeline import errors
from tests.chaos import graphs
from tests.chaos.code_faults import ANSWER_SECONDS
from tests.chaos.incidents import NOBODY
from tests.chaos.storm import READER, NotSurvived, Storm, kind, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
METHODS = (
    "/pipelined.v1.Runs/Run",
    "/pipelined.v1.Runs/Submit",
    "/pipelined.v1.Runs/Stream",
    "/pipelined.v1.Deployments/Deploy",
    "/pipelined.v1.Deployments/Get",
    "/pipelined.v1.Files/Upload",
    "/pipelined.v1.Daemon/Info",
    "/inference.GRPCInferenceService/ModelInfer",
    "/grpc.health.v1.Health/Check",
    "/no.such.Service/Method",
)


@kind("client vanishes")
def vanish(storm: Storm, dice: random.Random) -> str:
    """The process that reads a stream is killed: its run is called back."""
    with storm.incidents.fault("client vanishes", NOBODY):
        command = [sys.executable, "-m", "tests.chaos.vanishing", storm.served.address, READER]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert reader.stdout is not None
        try:
            # It says so when it has got the first element.
            line = reader.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.3))
        finally:
            reader.kill()
            reader.wait()
            reader.stdout.close()
        if line != b"reading\n":
            raise NotSurvived("the client got no element")
        # The instance takes the next run only when the abandoned one is over.
        storm.well_again(READER)
    return ""


@kind("slow reader")
def read_slowly(storm: Storm, dice: random.Random) -> str:
    """A stream of large elements that hardly anybody reads: the generator waits, not the daemon."""
    count, size = 64, 1 << 20
    with storm.incidents.fault("slow reader", NOBODY), storm.served.client() as client:
        asked = f"slow {dice.random()}"
        with client.stream(READER, asked, count, size) as rows:
            for number, [row] in enumerate(rows):
                expected = graphs.answer_to(f"{asked}/{number}").ljust(size, ".")
                if row != expected:
                    storm.incidents.violation("wrong answer", f"slow reader: element {number}")
                time.sleep(0.25)
                if number == 8:
                    break
        storm.well_again(READER)
    return ""


@kind("run cancelled")
def cancel(storm: Storm, dice: random.Random) -> str:
    """A submitted run, cancelled in the queue or in the middle."""
    with storm.incidents.fault("run cancelled", NOBODY), storm.served.client() as client:
        note = storm.note()
        run = client.submit("cancel", "leak", note, 1000)
        in_the_middle = dice.random() < 0.5
        if in_the_middle:
            until(lambda: "" if Path(note).exists() else "queued", 30, "the run does not begin")
        began = time.monotonic()
        info = run.cancel()
        seconds = time.monotonic() - began
        if info.state != "cancelled" or seconds > ANSWER_SECONDS:
            raise NotSurvived(f"cancel: {info.state} after {seconds:.1f} s")
        with contextlib.suppress(errors.Cancelled):
            run.result(ANSWER_SECONDS)
            raise NotSurvived("a cancelled run gave a result")
        client.cool("cancel")
        storm.well_again("cancel")
    return "in the middle" if in_the_middle else "right away"


@kind("deadline passes")
def overrun(storm: Storm, dice: random.Random) -> str:
    """A run that takes longer than its caller waits."""
    with storm.incidents.fault("deadline passes", NOBODY), storm.served.client() as client:
        storm.well_again("deadline")
        timeout = dice.uniform(0.1, 0.5)
        began = time.monotonic()
        try:
            storm.misbehave(client, "deadline", "leak", size=300, timeout=timeout)
        except errors.DeadlineExceeded:
            seconds = time.monotonic() - began
            if seconds > timeout + ANSWER_SECONDS:
                raise NotSurvived(f"answered after {seconds:.1f} s") from None
        else:
            raise NotSurvived("the run was in time")
        storm.well_again("deadline")
    return ""


@kind("malformed bytes")
def talk_nonsense(storm: Storm, dice: random.Random) -> str:
    """Bytes that are no HTTP/2, no frames, no messages."""
    pid = storm.served.pid
    with storm.incidents.fault("malformed bytes", NOBODY):
        how = dice.choice(("noise", "frames", "half a frame", "no message"))
        if how == "no message":
            _call_with(storm.served.address, dice)
        else:
            _send(storm.served.socket_path, _nonsense(how, dice), dice)
        storm.well_again("steady")
        if storm.served.pid != pid:
            raise NotSurvived("the daemon has ended")
    return how


def _nonsense(how: str, dice: random.Random) -> bytes:
    noise = dice.randbytes(dice.randrange(1, 4096))
    if how == "noise":
        return noise
    if how == "half a frame":
        # The header of one that is longer than what follows.
        return PREFACE + SETTINGS + b"\xff\xff\xff\0\1\0\0\0\1" + noise
    frames = []
    for _ in range(dice.randrange(1, 20)):
        body = dice.randbytes(dice.randrange(0, 64))
        header = len(body).to_bytes(3, "big") + dice.randbytes(2) + dice.randbytes(4)
        frames.append(header + body)
    return PREFACE + SETTINGS + b"".join(frames)


def _send(path: Path, data: bytes, dice: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(data)
        if dice.random() < 0.5:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(4096):
            pass


def _call_with(address: str, dice: random.Random) -> None:
    call: grpc.StreamStreamMultiCallable[bytes, bytes]
    with grpc.insecure_channel(address) as channel:
        for _ in range(10):
            call = channel.stream_stream(dice.choice(METHODS))
            noise = dice.randbytes(dice.randrange(0, 2048))
            with contextlib.suppress(grpc.RpcError):
                list(call(iter([noise]), timeout=10))
