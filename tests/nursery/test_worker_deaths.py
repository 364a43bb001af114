"""Workers that die, in all the ways they can, and what becomes of the others."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import Pipeline, Variable, pipe
from pipelined.core.errors import Exit, RunFailed, WorkerDied
from tests.nursery.launching import Launching, call, ended, graph_of
from tests.nursery.user_code import hide_children, identity, pause, start_child

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_worker_killed_in_the_middle_of_a_run_fails_that_run_only(
    shared: Launching,
) -> None:
    victim = await shared.start(graph_of(pause, int))
    other = await shared.start(graph_of(identity, int))
    running = asyncio.ensure_future(call(victim, 1, run_id="run-9"))
    await shared.printed(victim, "pausing")
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="killed by SIGKILL") as caught:
        await running
    assert caught.value.exit == Exit(signal="SIGKILL")
    assert caught.value.run_id == "run-9"
    assert await victim.exited == Exit(signal="SIGKILL")
    assert await call(other, 5) == 5
    with pytest.raises(WorkerDied):
        await call(victim, 1)


def leave(code: int) -> int:
    import os

    print("last words", flush=True)  # noqa: T201
    os._exit(code)


async def test_a_worker_that_leaves_tells_its_code_and_its_last_words(shared: Launching) -> None:
    worker = await shared.start(graph_of(leave, int))
    with pytest.raises(WorkerDied, match="exited with code 3"):
        await call(worker, 3)
    assert (worker.id, "last words") in shared.lines


@pipe(on_startup=True, run_once=True)
def crash() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


async def test_a_worker_that_dies_in_a_startup_node_fails_the_startup(shared: Launching) -> None:
    with Pipeline() as builder:
        crash()
        builder.output(pipe(identity)(Variable(int)))
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        await shared.start(builder.get_pipeline())


def spin(number: int) -> int:
    print("spinning")  # noqa: T201
    while True:
        number += 1


async def test_a_worker_ends_when_the_daemon_is_gone_whatever_it_is_doing(
    shared: Launching,
) -> None:
    busy = await shared.start(graph_of(spin, int))
    idle = await shared.start(graph_of(identity, int))
    running = asyncio.ensure_future(call(busy, 1))
    await shared.printed(busy, "spinning")
    for worker in (busy, idle):
        worker.abandon()
        assert await worker.exited == Exit(exit_code=1)
    with pytest.raises(WorkerDied):
        await running


def ignore_sigterm(number: int) -> int:
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ignoring")  # noqa: T201
    while True:
        time.sleep(1000)


async def test_stopping_asks_first_and_kills_what_does_not_listen(shared: Launching) -> None:
    polite = await shared.start(graph_of(identity, int))
    await polite.stop(60)
    assert await polite.exited == Exit(exit_code=0)
    await polite.stop(60)
    paused = await shared.start(graph_of(pause, int))
    running = [asyncio.ensure_future(call(paused, 1))]
    await shared.printed(paused, "pausing")
    await paused.stop(0.01)
    assert await paused.exited == Exit(signal="SIGTERM")
    stubborn = await shared.start(graph_of(ignore_sigterm, int))
    running.append(asyncio.ensure_future(call(stubborn, 1)))
    await shared.printed(stubborn, "ignoring")
    await stubborn.stop(0.01)
    assert await stubborn.exited == Exit(signal="SIGKILL")
    for run in running:
        with pytest.raises(WorkerDied):
            await run


async def test_the_children_of_a_worker_do_not_outlive_it(shared: Launching) -> None:
    worker = await shared.start(graph_of(start_child))
    child = await call(worker)
    os.kill(worker.pid, signal.SIGKILL)
    await worker.exited
    await ended(child)


@pytest.mark.parametrize("end", ["killed", "stopped", "left", "exec"])
async def test_what_a_worker_has_hidden_does_not_outlive_it(
    shared: Launching, tmp_path: Path, end: str
) -> None:
    # A variable that is read at import.
    environment = {"HF_HOME": str(tmp_path)} if end == "exec" else None
    worker = await shared.start(graph_of(hide_children, str), environment)
    hidden = await call(worker, str(tmp_path))
    assert all(psutil.pid_exists(pid) for pid in hidden)
    if end == "stopped":
        await worker.stop(60)
    elif end == "left":
        worker.abandon()
    else:
        os.kill(worker.pid, signal.SIGKILL)
    await worker.exited
    for pid in hidden:
        await ended(pid)


def fork_and_return() -> int:
    import os

    # A child that comes back from user code must not answer in the worker's place.
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return status
    return -1


async def test_a_child_that_user_code_forks_cannot_speak_for_the_worker(shared: Launching) -> None:
    worker = await shared.start(graph_of(fork_and_return))
    assert await call(worker) != -1
    assert await call(worker) != -1


def write_garbage() -> None:
    import os
    import signal
    import stat
    from pathlib import Path

    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            continue
        if is_socket:
            os.write(fd, b"garbage that is longer than a prefix")
    signal.pause()


async def test_a_worker_that_breaks_the_protocol_is_killed(shared: Launching) -> None:
    worker = await shared.start(graph_of(write_garbage))
    with pytest.raises(WorkerDied):
        await call(worker)
    assert await worker.exited == Exit(signal="SIGKILL")


def raise_exit(number: int) -> Any:
    raise SystemExit(number)


async def test_user_code_that_exits_fails_the_run_and_not_the_worker(shared: Launching) -> None:
    worker = await shared.start(graph_of(raise_exit, int))
    for _ in range(2):
        with pytest.raises(RunFailed, match="SystemExit"):
            await call(worker, 3)
