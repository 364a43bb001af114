"""Nurseries that die: live workers go on, and new ones can be started."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from pipelined.core.errors import Exit, WorkerDied
from tests.nursery.launching import (
    Launching,
    call,
    ended,
    graph_of,
    launching,
    open_descriptors,
    with_modules,
)
from tests.nursery.user_code import identity, pause, start_child

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def kill_nursery(launching: Launching) -> int:
    pid = launching.nursery.status().pid
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    return pid


async def test_live_workers_survive_their_nursery_and_it_is_replaced(own: Launching) -> None:
    worker = await own.start(graph_of(identity, int))
    before = await kill_nursery(own)
    assert await call(worker, 1) == 1
    another = await own.start(graph_of(identity, int))
    assert await call(another, 2) == 2
    assert await call(worker, 3) == 3
    status = own.nursery.status()
    assert status.pid != before
    assert status.restarts == 1
    assert psutil.Process(another.pid).ppid() == status.pid


async def test_the_end_of_a_worker_whose_nursery_is_dead_is_still_told(own: Launching) -> None:
    worker = await own.start(graph_of(pause, int))
    await kill_nursery(own)
    running = asyncio.ensure_future(call(worker, 1, run_id="run-7"))
    await own.printed(worker, "pausing")
    os.kill(worker.pid, signal.SIGUSR1)
    assert await worker.exited == Exit(signal="SIGUSR1")
    with pytest.raises(WorkerDied, match="SIGUSR1") as caught:
        await running
    assert caught.value.run_id == "run-7"


async def test_workers_and_nursery_killed_together_are_both_noticed(own: Launching) -> None:
    workers = [await own.start(graph_of(identity, int)) for _ in range(3)]
    nursery = own.nursery.status().pid
    for pid in (workers[0].pid, nursery, workers[1].pid, workers[2].pid):
        os.kill(pid, signal.SIGKILL)
    for worker in workers:
        # The nursery may have reaped one and died before it could tell.
        assert (await worker.exited).signal in ("SIGKILL", None)
    assert await call(await own.start(graph_of(identity, int)), 4) == 4


async def test_the_children_of_a_worker_without_a_nursery_do_not_outlive_it(
    own: Launching,
) -> None:
    worker = await own.start(graph_of(start_child))
    child = await call(worker)
    await kill_nursery(own)
    os.kill(worker.pid, signal.SIGKILL)
    await worker.exited
    await ended(child)


async def test_a_launch_that_the_nursery_dies_under_succeeds(own: Launching) -> None:
    pid = own.nursery.status().pid
    os.kill(pid, signal.SIGSTOP)
    launches = [asyncio.create_task(own.launch()) for _ in range(3)]
    await asyncio.sleep(0)  # they have asked, and nobody answers
    os.kill(pid, signal.SIGKILL)
    workers = await asyncio.gather(*launches)
    assert len({worker.pid for worker in workers}) == 3


async def test_a_nursery_that_never_gets_ready_is_done_without(tmp_path: Path) -> None:
    environment = with_modules(tmp_path, deadly="import os; os.abort()")
    async with launching(tmp_path, ("deadly",), environment=environment) as own:
        assert "nurseries in a row" in own.nursery.status().exec_reason
        assert await call(await own.start(graph_of(identity, int)), 1) == 1


async def test_a_failing_entry_of_the_preload_list_is_named_and_the_rest_imported(
    tmp_path: Path,
) -> None:
    environment = with_modules(
        tmp_path, leaves="raise SystemExit(1)", good="", broken="raise ValueError('no')"
    )
    preload = ("leaves", "absent", "broken", "good:missing", "good", "json:loads")
    async with launching(tmp_path, preload, environment=environment) as own:
        status = own.nursery.status()
        assert list(status.preloaded) == ["good", "json:loads"]
        assert [failed.split(": ")[:2] for failed in status.failed] == [
            ["leaves", "SystemExit"],
            ["absent", "ModuleNotFoundError"],
            ["broken", "ValueError"],
            ["good:missing", "AttributeError"],
        ]
        assert await call(await own.start(graph_of(identity, int)), 1) == 1


async def test_stopping_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    before = open_descriptors()
    # A daemon that tests share may be a child of this process.
    others = psutil.Process().children(recursive=True)
    async with launching(tmp_path, ()) as own:
        worker = await own.start(graph_of(pause, int))
        running = asyncio.ensure_future(call(worker, 1))
        await asyncio.gather(*(own.launch({"TZ": tz}) for tz in ("UTC", "GMT")))
        await asyncio.gather(*(own.launch() for _ in range(5)))
        await own.printed(worker, "pausing")
    with pytest.raises(WorkerDied):
        await running
    assert set(psutil.Process().children(recursive=True)) <= set(others)
    assert open_descriptors() == before
