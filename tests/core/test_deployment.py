"""Deployments on real workers, with times that no caller can choose."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from pipeline import Graph, Pipeline, Variable, _values, pipe
from pipelined.core.deployment import Deployment
from pipelined.core.errors import (
    DeploymentCooled,
    DeploymentDeleted,
    DomainError,
    QueueFull,
    WaitTooLong,
)
from pipelined.core.options import Options
from pipelined.core.scaler import IDLE_SECONDS
from pipelined.core.shared_limits import QUEUE_LENGTH
from pipelined.core.specification import Code, Specification
from pipelined.core.states import State
from pipelined_api.v1 import runs_pb2
from tests.e2e.test_crashes import waiting
from tests.nursery.launching import Launching, launching

COOLED = DeploymentCooled("test", 1)


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Launching]:
    async with launching(tmp_path, ()) as result:
        yield result


class Deployed:
    """A deployment of the graph that waits, and what it has said of its states.

    Attributes:
        release: Lets the runs end.
        states: In their order.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Launching,
        graph: Graph,
        options: Options,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        code = graph.dumps()
        path = folder / "code"
        path.write_bytes(code)
        self.release = folder / "release"
        self.states: list[State] = []
        specification = Specification(
            name="test",
            version=1,
            digest=graph.digest(),
            schema=b"",
            code=Code("CODE_FORMAT_CLOUDPICKLE", len(code), hashlib.sha256(code).hexdigest()),
            environment={},
            options=options,
            created_at=0.0,
        )
        self.deployment = Deployment(
            specification, path, nursery.nursery, self._changed, idle_seconds=idle_seconds
        )
        self._folder = folder

    def run(self, name: str) -> asyncio.Task[int]:
        """Begin a run, which makes a file of this name when it is executed."""
        return asyncio.create_task(self._run(name))

    async def executing(self, name: str) -> None:
        """Return when that run is executed."""
        while not (self._folder / name).exists():  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(0)

    async def _run(self, name: str) -> int:
        inputs = [_values.encode(str(path)) for path in (self._folder / name, self.release)]
        request = runs_pb2.RunRequest(inputs=inputs).SerializeToString()
        result = await self.deployment.run(name, request)
        (output,) = runs_pb2.RunResponse.FromString(bytes(result.response)).outputs
        pid = _values.decode(output)
        assert isinstance(pid, int)
        return pid

    def _changed(self, deployment: Deployment) -> None:
        self.states.append(deployment.state)


async def test_runs_that_outlast_the_cooling_are_told(nursery: Launching, tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(1, 1))
    executing = deployed.run("executing")
    await deployed.executing("executing")
    [pid] = deployed.deployment.instances.worker_pids
    queued = deployed.run("queued")
    await asyncio.sleep(0)
    cooling = deployed.deployment.begin_cooling(COOLED, 0.0)
    assert deployed.deployment.state is State.DRAINING
    assert deployed.deployment.takes_runs
    late = deployed.run("late")
    for run in (executing, queued):
        with pytest.raises(DeploymentCooled) as caught:
            await run
        assert caught.value is COOLED
    await cooling
    assert not psutil.pid_exists(pid)
    # Who came meanwhile, and who comes later, are executed on a worker of their own.
    deployed.release.touch()
    assert await late not in (pid, 0)
    assert await deployed.run("later") == await late
    assert deployed.deployment.runs_failed == 2
    await deployed.deployment.drain(DeploymentDeleted("test"), 0.0)
    assert State.FAILED not in deployed.states


async def test_who_waits_for_the_end_of_a_cooling_is_told_of_a_deletion(
    nursery: Launching, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(1, 1))
    executing = deployed.run("executing")
    await deployed.executing("executing")
    cooling = deployed.deployment.begin_cooling(COOLED, 3600.0)
    assert deployed.deployment.begin_cooling(DeploymentCooled("test", 1), 0.0) is cooling
    late = deployed.run("late")
    warming = asyncio.create_task(deployed.deployment.warm(lambda stage: None))
    await asyncio.sleep(0)
    deleted = DeploymentDeleted("test")
    # It does not wait as long as the cooling would.
    await deployed.deployment.drain(deleted, 0.0)
    assert cooling.done()
    assert not deployed.deployment.takes_runs
    # What the run was told first stays.
    expected: list[tuple[asyncio.Task[int] | asyncio.Task[object], DomainError]]
    expected = [(executing, COOLED), (late, deleted), (warming, deleted)]
    for task, reason in expected:
        with pytest.raises(type(reason)) as caught:
            await task
        assert caught.value is reason
    with pytest.raises(DeploymentDeleted):
        deployed.deployment.begin_cooling(COOLED, 0.0)
    assert deployed.deployment.instances.worker_pids == []


async def test_cooling_what_is_cold_begins_nothing(nursery: Launching, tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(2, 2))
    await deployed.deployment.begin_cooling(COOLED, 3600.0)
    assert deployed.deployment.state is State.COLD
    assert deployed.deployment.instances.startups == 0


async def test_no_more_wait_for_the_end_of_a_cooling_than_may_wait(
    nursery: Launching, tmp_path: Path
) -> None:
    deployed = Deployed(tmp_path, nursery, waiting(), Options(1, 1))
    executing = deployed.run("executing")
    await deployed.executing("executing")
    cooling = deployed.deployment.begin_cooling(COOLED, 3600.0)
    held_up = [deployed.run(f"held-up-{number}") for number in range(QUEUE_LENGTH)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match=str(QUEUE_LENGTH)) as caught:
        await deployed.run("one-more")
    assert caught.value.retry_after >= 1.0
    taking = [deployed.deployment.takes_runs]
    # Who leaves makes room.
    held_up[0].cancel()
    await asyncio.wait({held_up[0]})
    assert [*taking, deployed.deployment.takes_runs] == [False, True]
    another = deployed.run("another")
    await asyncio.sleep(0)
    assert not another.done()
    deployed.release.touch()
    await cooling
    pids = set(await asyncio.gather(*held_up[1:], another))
    assert len(pids) == 1
    assert await executing not in pids
    await deployed.deployment.drain(DeploymentDeleted("test"), 0.0)


@pipe
def slow_or_held(release: str) -> int:
    time.sleep(0.05)
    while release and not Path(release).exists():
        pass
    return 1


async def test_what_cannot_be_in_time_is_refused_at_once(
    nursery: Launching, tmp_path: Path
) -> None:
    with Pipeline() as builder:
        builder.output(slow_or_held(Variable(str)))
    deployed = Deployed(tmp_path, nursery, builder.get_pipeline(), Options())
    deployment = deployed.deployment

    async def run(release: str = "", seconds_left: float | None = None) -> None:
        request = runs_pb2.RunRequest(inputs=[_values.encode(release)]).SerializeToString()
        await deployment.run("run", request, seconds_left)

    # Of the first nothing is known, so that it is tried.
    await asyncio.gather(*(run(seconds_left=60.0) for _ in range(4)))
    await deployment.begin_cooling(COOLED, 0.0)
    await asyncio.gather(*(run() for _ in range(4)))
    tasks = [asyncio.create_task(run(str(deployed.release))) for _ in range(2)]
    await asyncio.sleep(0)
    # One is executed and one waits: longer than the caller can.
    with pytest.raises(WaitTooLong) as caught:
        await run(seconds_left=0.04)
    assert caught.value.retry_after > 0.04
    deployed.release.touch()
    await asyncio.gather(*tasks)
    await deployment.begin_cooling(COOLED, 0.0)
    # No startup has been so quick; but it is begun, so that the next caller finds it.
    startups = deployment.instances.startups
    with pytest.raises(WaitTooLong):
        await run(seconds_left=0.000001)
    await run(seconds_left=60.0)
    assert deployment.instances.startups == startups + 1
    await deployment.drain(DeploymentDeleted("test"), 0.0)
