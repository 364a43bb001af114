"""Cool: workers stop when their runs have ended, and whoever comes next starts them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from pipeline import Client, Graph, Pipeline, Variable, entity, errors, pipe
from pipelined_api.v1 import deployments_pb2
from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_crashes import counter, wait_until, waiting
from tests.e2e.test_stopping import Unhurried
from tests.e2e.test_versions import deploy, stub
from tests.running_daemon import RunningDaemon, check_health

COLD = deployments_pb2.DEPLOYMENT_STATE_COLD


class Cooler:
    """Cools deployments, also while the test goes on."""

    def __init__(self, channel: grpc.Channel, pool: ThreadPoolExecutor) -> None:
        self._stub = stub(channel)
        self.pool = pool

    def cool(self, name: str) -> deployments_pb2.Deployment:
        return self._stub.Cool(deployments_pb2.CoolRequest(name=name)).deployment


@pytest.fixture
def cooler(daemon: RunningDaemon) -> Iterator[Cooler]:
    with grpc.insecure_channel(daemon.address) as channel, ThreadPoolExecutor(4) as pool:
        yield Cooler(channel, pool)


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


def unhurried(ready: Path, release: Path) -> Graph:
    with Pipeline() as builder:
        model = Unhurried(str(ready), str(release))
        model.load()
        builder.output(model.answer())
    return builder.get_pipeline()


def test_the_next_run_starts_what_was_cooled(client: Client, cooler: Cooler) -> None:
    client.deploy(counter(), "cooled", instances=2)
    client.warm("cooled")
    pids = client.deployment("cooled").worker_pids
    assert len(pids) == 2
    cooled = cooler.cool("cooled")
    # It answers when they are stopped.
    assert (cooled.state, list(cooled.worker_pids)) == (COLD, [])
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    # Cold is as cold as it gets.
    assert cooler.cool("cooled").state == COLD
    assert client.run("cooled") == [1]
    cooler.cool("cooled")
    assert client.warm("cooled") is not None
    assert client.deployment("cooled").state == "warm"
    assert client.run("cooled") == [1]
    client.delete("cooled")


def test_one_version_is_cooled(client: Client, cooler: Cooler) -> None:
    deploy(client, "one-cooled", "a", "b")
    client.warm("one-cooled:v1")
    client.warm("one-cooled:v2")
    assert cooler.cool("one-cooled:v1").version == 1
    assert client.deployment("one-cooled:v1").state == "cold"
    assert client.deployment("one-cooled").state == "warm"
    client.delete("one-cooled")


def test_runs_in_progress_end_and_later_ones_wait_for_the_next_worker(
    daemon: RunningDaemon, client: Client, cooler: Cooler, tmp_path: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    inputs = (str(ready), str(release))
    client.deploy(waiting(), "busy", instances=2)
    client.warm("busy")
    pids = client.deployment("busy").worker_pids
    run = cooler.pool.submit(client.run, "busy", *inputs)
    wait_until(ready.exists)
    cooling = cooler.pool.submit(cooler.cool, "busy")
    wait_until(lambda: client.deployment("busy").state == "draining")
    # A run sent now is executed: later.
    with grpc.insecure_channel(daemon.address) as channel:
        status = check_health(channel, "deployments/busy").status
    assert status == health_pb2.HealthCheckResponse.SERVING
    # The other instance is idle, and is not given to anybody.
    with pytest.raises(errors.DeadlineExceeded):
        client.run("busy", *inputs, timeout=0.3)
    with pytest.raises(errors.DeadlineExceeded):
        client.warm("busy", timeout=0.3)
    assert not cooling.done()
    second = cooler.pool.submit(client.run, "busy", *inputs)
    joined = cooler.pool.submit(cooler.cool, "busy")
    release.touch()
    assert run.result()[0] in pids
    cooling.result()
    joined.result()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert second.result()[0] not in pids
    client.delete("busy")


def test_a_startup_that_no_run_needs_is_given_up(
    client: Client, cooler: Cooler, tmp_path: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    client.deploy(unhurried(ready, release), "given-up")
    warming = cooler.pool.submit(client.warm, "given-up")
    wait_until(ready.exists)
    assert cooler.cool("given-up").state == COLD
    with pytest.raises(errors.Cancelled, match="'given-up' has been cooled") as caught:
        warming.result()
    assert caught.value.reason == "DEPLOYMENT_COOLED"
    assert caught.value.metadata["version"] == "1"
    release.touch()
    assert client.run("given-up") == ["here"]
    client.delete("given-up")


def test_a_startup_that_a_run_needs_is_finished(
    client: Client, cooler: Cooler, tmp_path: Path
) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    client.deploy(unhurried(ready, release), "finished")
    run = cooler.pool.submit(client.run, "finished")
    wait_until(ready.exists)
    [pid] = client.deployment("finished").worker_pids
    warming = cooler.pool.submit(client.warm, "finished")
    cooling = cooler.pool.submit(cooler.cool, "finished")
    wait_until(lambda: client.deployment("finished").state == "draining")
    release.touch()
    assert run.result() == ["here"]
    cooling.result()
    assert not Path(f"/proc/{pid}").exists()
    # It either joined that startup, or came later and began another.
    warming.result()
    client.delete("finished")


@pipe
def one() -> int:
    return 1


def test_what_failed_is_forgotten(daemon: RunningDaemon, client: Client, cooler: Cooler) -> None:
    @pipe(on_startup=True)
    def fail() -> None:
        raise ValueError("on purpose")

    with Pipeline() as builder:
        fail()
        builder.output(one())
    client.deploy(builder.get_pipeline(), "failing")
    # The more often it fails the longer it is not tried again.
    for _ in range(5):
        with pytest.raises(errors.StartupFailed):
            client.warm("failing")
    # A worker whose startup node failed is kept, so that it can go on from there.
    [pid] = client.deployment("failing").worker_pids
    with grpc.insecure_channel(daemon.address) as channel:
        service = "deployments/failing"
        assert check_health(channel, service).status == health_pb2.HealthCheckResponse.NOT_SERVING
        cooled = cooler.cool("failing")
        assert check_health(channel, service).status == health_pb2.HealthCheckResponse.SERVING
    assert (cooled.state, cooled.HasField("failure")) == (COLD, False)
    assert not Path(f"/proc/{pid}").exists()
    before = client.deployment("failing").startups
    with pytest.raises(errors.StartupFailed):
        client.warm("failing")
    assert client.deployment("failing").startups == before + 1
    client.delete("failing")


def test_deleted_while_it_cools(client: Client, cooler: Cooler, tmp_path: Path) -> None:
    ready, release = tmp_path / "ready", tmp_path / "release"
    client.deploy(waiting(), "cool-gone")
    run = cooler.pool.submit(client.run, "cool-gone", str(ready), str(release))
    wait_until(ready.exists)
    cooling = cooler.pool.submit(cooler.cool, "cool-gone")
    wait_until(lambda: client.deployment("cool-gone").state == "draining")
    deleting = cooler.pool.submit(client.delete, "cool-gone")
    wait_until(lambda: all(one.name != "cool-gone" for one in client.list()))
    with pytest.raises(grpc.RpcError) as caught:
        cooler.cool("cool-gone")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    release.touch()
    # All that was begun ends as it should.
    assert len(run.result()) == 1
    cooling.result()
    deleting.result()


def test_the_daemon_stops_while_something_cools(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    running = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, "--drain-seconds=0"])
    with (
        running.client() as client,
        grpc.insecure_channel(running.address) as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        client.deploy(waiting(), "stopped")
        run = pool.submit(client.run, "stopped", str(ready), str(tmp_path / "never"))
        wait_until(ready.exists)
        cooling = pool.submit(Cooler(channel, pool).cool, "stopped")
        wait_until(lambda: client.deployment("stopped").state == "draining")
        running.close()
        with pytest.raises(errors.Cancelled, match="'stopped' has been cooled"):
            run.result()
        assert list(cooling.result().worker_pids) == []
    assert "internal_error" not in running.log()


@entity
class Sum:
    def __init__(self) -> None:
        self.started = 0

    @pipe(on_startup=True)
    def start(self) -> None:
        self.started += 1

    @pipe
    def add(self, value: int) -> int:
        # Once in each process.
        assert self.started == 1
        return value + 1


def test_runs_warms_and_cools_in_any_order(
    daemon: RunningDaemon, client: Client, cooler: Cooler
) -> None:
    with Pipeline() as builder:
        value = Variable(int)
        model = Sum()
        model.start()
        builder.output(model.add(value))
    client.deploy(builder.get_pipeline(), "hammered", instances=2)

    def work(number: int) -> bool:
        if number % 5 == 3:
            cooler.cool("hammered")
        elif number % 5 == 4:
            # Given up for a Cool, or not: both may be.
            with contextlib.suppress(errors.Cancelled):
                client.warm("hammered")
        else:
            return client.run("hammered", number) == [number + 1]
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))
    assert cooler.cool("hammered").state == COLD
    assert client.deployment("hammered").runs_failed == 0
    assert client.run("hammered", 1) == [2]
    assert "internal_error" not in daemon.log()
    client.delete("hammered")
