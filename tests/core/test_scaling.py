"""How many instances there should be, by the rule and on real workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelined.core.options import Options
from pipelined.core.scaling import Load, wanted
from pipelined.core.states import State
from tests.core.test_deployment import COOLED, Deployed
from tests.e2e.test_crashes import waiting
from tests.nursery.launching import Launching, launching

IDLE = Load(
    waiting=0, live=0, starting=False, busy_seconds=0.0, run_seconds=1.0, startup_seconds=10.0
)


def test_without_waiting_runs_there_are_as_many_as_before_and_at_least_one() -> None:
    assert wanted(IDLE, 0, 4) == 1
    assert wanted(IDLE, 3, 4) == 3
    assert wanted(replace(IDLE, live=4), 3, 4) == 4


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        # It is over before another one would be there.
        ({"waiting": 1}, 1),
        ({"waiting": 10}, 1),
        # So many that those who wait do so for a startup, and no longer.
        ({"waiting": 11}, 2),
        ({"waiting": 35}, 4),
        ({"waiting": 1000}, 8),
        # Those that are being started count.
        ({"waiting": 35, "live": 4, "starting": True}, 4),
        # No run needs two.
        ({"waiting": 2, "run_seconds": 1000.0}, 3),
        # Nothing has been measured yet: the first startup is waited for,
        ({"waiting": 5, "run_seconds": 0.0, "startup_seconds": 0.0}, 1),
        ({"waiting": 5, "run_seconds": 0.0, "starting": True, "busy_seconds": 20.0}, 1),
        # and then a first run that takes longer than that.
        ({"waiting": 5, "run_seconds": 0.0, "busy_seconds": 20.0}, 2),
        ({"waiting": 5, "busy_seconds": 20.0, "live": 8}, 8),
    ],
)
def test_runs_that_wait_longer_than_a_startup_are_worth_one(
    changes: dict[str, float], count: int
) -> None:
    assert wanted(replace(IDLE, **{"live": 1} | changes), 0, 8) == count  # type: ignore[arg-type]


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Launching]:
    async with launching(tmp_path, ()) as result:
        yield result


async def until_live(deployed: Deployed, count: int) -> None:
    while len(deployed.deployment.instances.worker_pids) != count:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)


async def test_instances_come_while_runs_wait_and_go_when_they_idle(
    nursery: Launching, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(0, 3), idle_seconds=0.2)
    deployed.release.touch()
    await deployed.run("first")
    deployed.release.unlink()
    runs = [deployed.run(name) for name in ("a", "b", "c", "d")]
    # Each of the first three is executed by another worker, at the same time.
    for name in ("a", "b", "c"):
        await deployed.executing(name)
    deployed.release.touch()
    assert len({await run for run in runs}) == 3
    await until_live(deployed, 1)
    assert deployed.deployment.state is State.WARM
    assert await deployed.run("last") in {run.result() for run in runs}
    await deployed.deployment.drain(COOLED, 60)


async def test_the_least_number_is_started_at_once_and_kept(
    nursery: Launching, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(2, 3), idle_seconds=0.0)
    deployed.deployment.keep_minimum()
    await until_live(deployed, 2)
    deployed.release.touch()
    pids = set(deployed.deployment.instances.worker_pids)
    assert await deployed.run("one") in pids
    await deployed.deployment.begin_cooling(COOLED, 60)
    assert deployed.deployment.instances.worker_pids == []
    await deployed.run("two")
    await until_live(deployed, 2)
    await deployed.deployment.drain(COOLED, 60)
