"""Faults of the user's code: it spins, crashes, leaks, forks, floods."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import signal
import time
from pathlib import Path

from pipeline import Client, errors
from tests.chaos.incidents import NOBODY
from tests.chaos.processes import marked, resident_bytes
from tests.chaos.storm import NotSurvived, Storm, kind, until

# Whoever cancels is answered at once; the machine is a busy one.
ANSWER_SECONDS = 5.0
# A run that does not heed that it was cancelled is ended by the daemon after its grace period.
KILL_SECONDS = 30.0
CHILDREN_SECONDS = 15.0
FLOOD_LINES = 20_000
MIB = 1 << 20
LEAK_LIMIT = 256 * MIB


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


def memory_limit(client: Client) -> str:
    """The keyword of ``deploy`` that bounds a worker's memory; empty if there is none."""
    names = inspect.signature(client.deploy).parameters
    return next((name for name in ("memory", "memory_bytes") if name in names), "")


@kind("code leaks")
def leak(storm: Storm, dice: random.Random) -> str:
    """Memory that is never given back: the limit ends the worker, or else cooling does."""
    with storm.incidents.fault("code leaks", NOBODY), storm.served.client() as client:
        limited = memory_limit(client)
        try:
            storm.misbehave(client, "leak", "leak", size=600 if limited else 200)
        except errors.PipelineError as error:
            if not limited:
                raise NotSurvived(f"without a limit: {error}") from None
            if "MEMORY" not in error.reason:
                raise NotSurvived(f"told {error.reason}: {error}") from None
        else:
            if limited:
                raise NotSurvived("it got more memory than its limit")
        pids = client.deployment("leak").worker_pids
        client.cool("leak")
        left = sum(resident_bytes(pid) for pid in pids)
        if left:
            raise NotSurvived(f"{left >> 20} MiB are still held")
        storm.well_again("leak")
    return "ended by its limit" if limited else "no limit: given back when cooled"


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
