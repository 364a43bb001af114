"""Faults of what the daemon keeps: a full disk, a clock that jumps, deployments that change."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipeline import errors
from tests.chaos import graphs
from tests.chaos.incidents import DELETED, NO_ROOM, NOBODY
from tests.chaos.storm import NotPossible, NotSurvived, Storm, kind

# Of a run's time to live, so that no jump of these makes one expire.
LONGEST_JUMP_SECONDS = 1500
_builds = itertools.count(1)


@kind("state directory full", alone=True)
def fill(storm: Storm, dice: random.Random) -> str:
    """No byte left for it: what needs the disk is refused by a typed error, the rest goes on."""
    refused = ""
    # Only what has to be written may fail. A limit on sizes is one of shared memory, too.
    hit = ["files", "durable"] if storm.place.own_disk else ["files", "durable", "large"]
    with contextlib.ExitStack() as stack:
        for name in hit:
            stack.enter_context(storm.incidents.fault("state directory full", name, NO_ROOM))
        client = stack.enter_context(storm.served.client())
        with _no_room(storm):
            deadline = time.monotonic() + dice.uniform(0.5, 2.0)
            while time.monotonic() < deadline:
                storm.well_again("steady")
                try:
                    client.deploy(graphs.echo_graph(-next(_builds)), "bulky")
                except errors.PipelineError as error:
                    if not error.reason:
                        raise NotSurvived(f"no typed error: {error!r}") from None
                    refused = error.reason
                time.sleep(0.1)
        deployed = client.deploy(graphs.echo_graph(-next(_builds)), "bulky")
        [answer] = client.run("bulky", "room again", timeout=30)
        if answer != graphs.answer_to("room again"):
            raise NotSurvived(f"version {deployed.version} gave {answer!r}")
        for name in hit:
            storm.well_again(name)
    return refused or "deploys had room"


@contextmanager
def _no_room(storm: Storm) -> Iterator[None]:
    if not storm.place.own_disk:
        daemon = psutil.Process(storm.served.pid)
        before = daemon.rlimit(psutil.RLIMIT_FSIZE)
        # What it writes beyond one page of any file fails, with another error than ENOSPC.
        daemon.rlimit(psutil.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            daemon.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, before[1]))
        return
    filler = storm.place.state / "filler"
    try:
        _write_until_full(filler)
        yield
    finally:
        filler.unlink(missing_ok=True)


def _write_until_full(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, bytes(size))
    finally:
        os.close(descriptor)


@kind("clock jumps")
def jump(storm: Storm, dice: random.Random) -> str:
    """The time of day is another one at once, ahead or back: nothing may come of it."""
    if not storm.clock.jumps:
        raise NotPossible("no C compiler to make the library with that fakes the time of day")
    with storm.incidents.fault("clock jumps", NOBODY), storm.served.client() as client:
        run = client.submit("durable", str(storm.place.notes / "jumps"), storm.note(), 0.0)
        run.result(30)
        seconds = dice.randrange(-LONGEST_JUMP_SECONDS, LONGEST_JUMP_SECONDS)
        storm.clock.jump(seconds)
        storm.well_again("steady")
        if run.status() != "succeeded":
            raise NotSurvived(f"a run that had succeeded is {run.status()}")
    return "ahead" if seconds > 0 else "back"


@kind("deployed anew")
def redeploy(storm: Storm, dice: random.Random) -> str:
    """The next version under load: no caller is to notice."""
    load = storm.loads["echo"]
    with (
        storm.held[load.name],
        storm.incidents.fault("deployed anew", NOBODY),
        storm.served.client() as client,
    ):
        before = client.deployment(load.name).version
        load.deploy(client)
        after = client.deployment(load.name).version
        if after <= before:
            raise NotSurvived(f"version {after} after {before}")
        storm.well_again(load.name)
    return ""


@kind("deleted")
def delete(storm: Storm, dice: random.Random) -> str:
    """A deployment goes under load, and comes back."""
    name = dice.choice(("stream", "schema", "large"))
    with (
        storm.held[name],
        storm.incidents.fault("deleted", name, DELETED),
        storm.served.client() as client,
    ):
        client.delete(name)
        if any(deployment.name == name for deployment in client.list()):
            raise NotSurvived(f"{name} is still listed")
        time.sleep(dice.uniform(0.0, 0.3))
        storm.loads[name].deploy(client)
        storm.well_again(name)
    return name
