"""Faults of processes: killed, stalled, restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import errors
from tests.chaos.incidents import DAEMON_GONE, EVERYBODY, NOBODY, WORKER_GONE
from tests.chaos.processes import catches, marked
from tests.chaos.storm import NotPossible, NotSurvived, Storm, kind, until

# Their workers may be killed. Not the bystander's, which has to answer whatever happens.
VICTIMS = ("echo", "counter", "stream", "large", "schema", "files", "durable")
# What a dead daemon has left has to be gone by then.
GONE_SECONDS = 15.0


def worker_of(storm: Storm, name: str, dice: random.Random) -> int:
    """Pick one of a deployment's workers, starting them if need be."""
    with storm.served.client() as client:
        client.warm(name)
        pids = client.deployment(name).worker_pids
    if not pids:
        raise NotSurvived(f"{name} has no worker although it is warm")
    return dice.choice(pids)


@kind("worker killed")
def kill_worker(storm: Storm, dice: random.Random) -> str:
    """SIGKILL, idle or in the middle of a run."""
    name = dice.choice(VICTIMS)
    with storm.held[name], storm.incidents.fault("worker killed", name, WORKER_GONE):
        pid = worker_of(storm, name, dice)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        storm.well_again(name)
    return name


@kind("worker stalled")
def stall_worker(storm: Storm, dice: random.Random) -> str:
    """SIGSTOP, and SIGCONT later: callers wait, and get their answers."""
    name = dice.choice(VICTIMS)
    with (
        storm.held[name],
        storm.incidents.fault("worker stalled", name),
        contextlib.suppress(ProcessLookupError),
    ):
        pid = worker_of(storm, name, dice)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(dice.uniform(0.3, 2.0))
        finally:
            os.kill(pid, signal.SIGCONT)
        storm.well_again(name)
    return name


@kind("nursery killed", alone=True)
def kill_nursery(storm: Storm, dice: random.Random) -> str:
    """SIGKILL: workers go on, new ones wait for the next nursery."""
    with storm.served.client() as client:
        pid = client.info().nursery.pid
        if not pid:
            until(lambda: "" if client.info().nursery.pid else "none", 30, "no nursery")
            pid = client.info().nursery.pid
        with storm.incidents.fault("nursery killed", NOBODY):
            os.kill(pid, signal.SIGKILL)
            until(
                lambda: "" if client.info().nursery.pid not in (0, pid) else "none",
                60,
                "no other nursery",
            )
            # One that has to be forked from the new one.
            client.cool("fresh")
            storm.well_again("fresh", 60)
    return ""


@kind("nursery stalled")
def stall_nursery(storm: Storm, dice: random.Random) -> str:
    """SIGSTOP, and SIGCONT later: startups wait."""
    with storm.served.client() as client:
        pid = client.info().nursery.pid
        if not pid:
            return "there was none"
        with storm.incidents.fault("nursery stalled", NOBODY):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                try:
                    time.sleep(dice.uniform(0.3, 2.0))
                finally:
                    os.kill(pid, signal.SIGCONT)
            client.cool("fresh")
            storm.well_again("fresh")
    return ""


@kind("daemon stalled", alone=True)
def stall_daemon(storm: Storm, dice: random.Random) -> str:
    """SIGSTOP, and SIGCONT later: everybody waits, and gets an answer."""
    with storm.incidents.fault("daemon stalled", NOBODY):
        os.kill(storm.served.pid, signal.SIGSTOP)
        try:
            time.sleep(dice.uniform(0.3, 2.0))
        finally:
            os.kill(storm.served.pid, signal.SIGCONT)
        storm.well_again("steady")
    return ""


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("pipeline*")}


@kind("daemon killed", alone=True)
def kill_daemon(storm: Storm, dice: random.Random) -> str:
    """SIGKILL, and a new one on the same state; nothing of the old one may be left."""
    return _restart(storm, "daemon killed", storm.served.kill, dice.uniform(0.0, 0.5))


@kind("daemon drained", alone=True)
def drain_daemon(storm: Storm, dice: random.Random) -> str:
    """SIGTERM under load, and a new one on the same state."""

    def stop() -> None:
        code = storm.served.stop()
        if code != 0:
            raise NotSurvived(f"exit code {code}: {storm.served.log_tail(3)}")
        if storm.served.socket_path.exists():
            raise NotSurvived("its socket is still there")

    return _restart(storm, "daemon drained", stop, 0.0)


def _restart(storm: Storm, name: str, end: Callable[[], None], pause: float) -> str:
    served = storm.served
    with served.changing, storm.incidents.fault(name, EVERYBODY, DAEMON_GONE):
        left = _files(storm.place.temporary)
        try:
            end()
        finally:
            # The restart delay of a service manager.
            time.sleep(pause)
            served.start()
        until(lambda: _left_of(storm, served.life), GONE_SECONDS, "left by the dead daemon")
        until(
            lambda: " ".join(left & _files(storm.place.temporary)),
            GONE_SECONDS,
            "temporary files left by the dead daemon",
        )
        for load in storm.loads:
            storm.well_again(load)
    return ""


def _left_of(storm: Storm, life: int) -> str:
    return "; ".join(
        f"{process.pid} of life {process.life}: {process.command}"
        for process in marked(storm.served.storm)
        if process.life < life
    )


@kind("SIGHUP")
def reread(storm: Storm, dice: random.Random) -> str:
    """The configuration is read again, by the same process."""
    pid = storm.served.pid
    if not catches(pid, signal.SIGHUP):
        raise NotPossible("this daemon has no handler for it")
    with storm.incidents.fault("SIGHUP", NOBODY):
        os.kill(pid, signal.SIGHUP)
        storm.well_again("steady")
        if storm.served.pid != pid:
            raise NotSurvived("it is another process now")
    return ""


@kind("cooled")
def cool(storm: Storm, dice: random.Random) -> str:
    """Workers are stopped under load; runs that come meanwhile start them again."""
    name = dice.choice(VICTIMS)
    with (
        storm.held[name],
        storm.incidents.fault("cooled", name),
        storm.served.client() as client,
    ):
        try:
            client.cool(name)
        except errors.PipelineError as error:
            raise NotSurvived(f"cool: {error}") from None
        storm.well_again(name)
    return name
