"""Faults of the user's code: it spins, crashes, leaks, forks, floods."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from pipeline import errors
from tests.chaos.incidents import NOBODY, told
from tests.chaos.processes import marked, resident_bytes
from tests.chaos.storm import FRAGILE, LEAKED_MIB, NotSurvived, Storm, kind, until
from tests.running_daemon import check_health

# Whoever cancels is answered at once; the machine is a busy one.
ANSWER_SECONDS = 5.0
# A run that does not heed that it was cancelled is ended by the daemon after its grace period.
KILL_SECONDS = 30.0
CHILDREN_SECONDS = 15.0
FLOOD_LINES = 20_000


@kind("code spins")
def spin(storm: Storm, dice: random.Random) -> str:
    """A loop in C that no signal handler interrupts: cancelled, then killed by the daemon."""
    note = storm.note()
    with storm.incidents.fault("code spins", NOBODY), storm.served.client() as client:
        run = client.submit("spin", "spin", note, 0)
        until(lambda: "" if Path(note).exists() else "queued", 30, "the run does not begin")
        began = time.monotonic()
        state = run.cancel().state
        if state != "cancelled" or time.monotonic() - began > ANSWER_SECONDS:
            seconds = time.monotonic() - began
            raise NotSurvived(f"cancel: {state} after {seconds:.1f} s")
        try:
            storm.well_again("spin", KILL_SECONDS)
        except NotSurvived:
            # Not to burn a processor for the rest of the storm.
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(Path(note).read_text()), signal.SIGKILL)
            raise
    return ""


@kind("code segfaults")
def segfault(storm: Storm, dice: random.Random) -> str:
    """A bad pointer: the caller is told which signal, and the next run works."""
    return _dies(storm, "segfault", "SIGSEGV", None)


@kind("code exits")
def leave(storm: Storm, dice: random.Random) -> str:
    """os._exit in the middle of a run."""
    return _dies(storm, "exit", None, 3)


def _dies(storm: Storm, how: str, name: str | None, code: int | None) -> str:
    with storm.incidents.fault(f"code {how}s", NOBODY), storm.served.client() as client:
        try:
            storm.misbehave(client, how, how)
        except errors.WorkerDied as error:
            if (error.signal, error.exit_code) != (name, code):
                raise NotSurvived(f"told {error.signal} and {error.exit_code}") from None
        else:
            raise NotSurvived("the run gave an answer")
        storm.well_again(how)
    return ""


@kind("code leaks")
def leak(storm: Storm, dice: random.Random) -> str:
    """Memory that is never given back: the worker's limit ends it, and the caller is told."""
    with storm.incidents.fault("code leaks", NOBODY), storm.served.client() as client:
        storm.well_again("leak")
        pids = client.deployment("leak").worker_pids
        try:
            storm.misbehave(client, "leak", "leak", size=LEAKED_MIB)
        except errors.PipelineError as error:
            if error.reason != "OUT_OF_MEMORY":
                raise NotSurvived(f"told {told(error)}") from None
        else:
            client.cool("leak")
            raise NotSurvived("it got more memory than its limit")
        storm.well_again("leak")
        until(
            lambda: " ".join(str(pid) for pid in pids if resident_bytes(pid)),
            CHILDREN_SECONDS,
            "the worker with the memory is still there",
        )
    return ""


@kind("startup fails")
def fail_to_start(storm: Storm, dice: random.Random) -> str:
    """Callers are told why, and health says that it does not serve until it does."""
    with (
        storm.incidents.fault("startup fails", NOBODY),
        storm.served.client() as client,
        grpc.insecure_channel(storm.served.address) as channel,
    ):
        client.cool(FRAGILE)
        storm.flag.touch()
        try:
            client.run(FRAGILE, "now", timeout=30)
        except errors.StartupFailed as error:
            if "told to fail" not in error.remote_traceback:
                raise NotSurvived(f"no traceback: {error}") from None
        else:
            raise NotSurvived("the run gave an answer")
        finally:
            status = check_health(channel, f"deployments/{FRAGILE}", timeout=10).status
            storm.flag.unlink()
        if status == health_pb2.HealthCheckResponse.SERVING:
            raise NotSurvived("health says SERVING of a deployment that has failed to start")
        storm.well_again(FRAGILE)
        status = check_health(channel, f"deployments/{FRAGILE}", timeout=10).status
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise NotSurvived("health does not say SERVING of one that answers")
    return ""


@kind("code forks")
def fork(storm: Storm, dice: random.Random) -> str:
    """Children, two of them in sessions of their own: they end with their worker."""
    with storm.incidents.fault("code forks", NOBODY), storm.served.client() as client:
        note = storm.misbehave(client, "fork", "fork")
        children = [int(pid) for pid in Path(note).read_text().split()]
        [worker] = client.deployment("fork").worker_pids
        killed = dice.random() < 0.5
        if killed:
            os.kill(worker, signal.SIGKILL)
        else:
            client.cool("fork")

        def left() -> str:
            alive = [p for p in marked(storm.served.storm) if p.pid in children]
            return "; ".join(f"{p.pid}: {p.command}" for p in alive)

        try:
            until(left, CHILDREN_SECONDS, "children outlive their worker")
        finally:
            for process in marked(storm.served.storm):
                if process.pid in children:
                    os.kill(process.pid, signal.SIGKILL)
        storm.well_again("fork")
    return "worker killed" if killed else "cooled"


@kind("code floods stdout")
def flood(storm: Storm, dice: random.Random) -> str:
    """More lines than anybody keeps: the answer comes nevertheless, and the log has an end."""
    with storm.incidents.fault("code floods stdout", NOBODY), storm.served.client() as client:
        storm.misbehave(client, "flood", "flood", size=FLOOD_LINES)
        kept = sum(1 for _ in client.logs("flood"))
        if not 0 < kept < 2 * FLOOD_LINES:
            raise NotSurvived(f"{kept} lines are kept")
    return ""
