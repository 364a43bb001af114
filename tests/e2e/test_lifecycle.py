"""Deploy once, start once, run warm: the main job, through a real daemon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import Client, Graph, Pipeline, Variable, entity, errors, pipe
from tests.running_daemon import RunningDaemon

CLIENTS = 16


def note(path: str, what: str) -> None:
    """Leave a trace that survives the process."""
    with Path(path).open("a") as file:
        file.write(f"{what}\n")


def noted(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@entity
class Steps:
    """Notes which of its pipes were executed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.offset = 0

    @pipe(on_startup=True)
    def prepare(self) -> int:
        note(self.path, "on_startup")
        self.offset = 100
        return 7

    @pipe(on_startup=True, run_once=True)
    def load(self) -> None:
        note(self.path, "both")

    @pipe(run_once=True)
    def first(self, value: int) -> int:
        note(self.path, "run_once")
        return value

    @pipe
    def add(self, value: int, first: int, prepared: int) -> int:
        note(self.path, "run")
        return value + first + prepared + self.offset


def steps(path: Path) -> Graph:
    with Pipeline() as builder:
        value = Variable(int)
        model = Steps(str(path))
        prepared = model.prepare()
        model.load()
        first = model.first(value)
        builder.output(model.add(value, first, prepared))
    return builder.get_pipeline()


Runner = Callable[..., list[object]]


@pytest.mark.parametrize("where", ["local", "daemon"])
def test_startup_and_run_once_nodes(daemon: RunningDaemon, tmp_path: Path, where: str) -> None:
    path = tmp_path / "notes"
    graph = steps(path)
    with daemon.client() as client:
        run: Runner = graph.run
        if where == "daemon":
            client.deploy(graph, "steps")
            run = lambda *inputs: client.run("steps", *inputs)  # noqa: E731
        assert noted(path) == []
        # The first run decides what the run_once node returns to all of them.
        assert run(1) == [1 + 1 + 7 + 100]
        assert run(5) == [5 + 1 + 7 + 100]
        assert run(9) == [9 + 1 + 7 + 100]
    assert noted(path) == ["on_startup", "both", "run_once", "run", "run", "run"]


def test_warm_executes_startup_nodes_before_the_first_run(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "notes"
    with daemon.client() as client:
        client.deploy(steps(path), "warmed")
        stages: list[str] = []
        timeline = client.warm("warmed", on_progress=lambda stage: stages.append(stage.kind))
        assert noted(path) == ["on_startup", "both"]
        assert client.deployment("warmed").state == "warm"
        assert stages[-1] == "ready"
        assert {"queue", "fork", "code", "node", "ready"} <= {s.kind for s in timeline.stages}
        client.warm("warmed")
        client.run("warmed", 1)
        assert noted(path) == ["on_startup", "both", "run_once", "run"]
        first_run = client.timeline("warmed")
        assert first_run is not None
        assert first_run.stages[-1].kind == "first_run"


def test_concurrent_first_runs_share_one_startup(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with own_daemon.client() as client:
        client.deploy(steps(path), "shared")

    def first_runs() -> list[list[object]]:
        together = threading.Barrier(CLIENTS)

        def one(number: int) -> list[object]:
            with own_daemon.client() as client:
                together.wait()
                return client.run("shared", number)

        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(one, range(CLIENTS)))

    answers = first_runs()
    assert noted(path).count("on_startup") == 1
    assert noted(path).count("both") == 1
    assert noted(path).count("run_once") == 1
    # All differ by their own input alone: one first run was kept for all.
    assert len({answer[0] - number for number, answer in enumerate(answers)}) == 1  # type: ignore[operator]

    own_daemon.restart()
    with own_daemon.client() as client:
        assert client.deployment("shared").state == "cold"
    first_runs()
    assert noted(path).count("on_startup") == 2
    assert noted(path).count("both") == 2


@entity
class FailsOnce:
    def __init__(self, path: str) -> None:
        self.path = path

    @pipe(on_startup=True)
    def before(self) -> None:
        note(self.path, "before")

    @pipe(on_startup=True)
    def load(self) -> None:
        note(self.path, "load")
        if noted(Path(self.path)).count("load") == 1:
            raise OSError("the disk is asleep")

    @pipe
    def answer(self) -> str:
        return "here"


def test_failed_startup_is_told_and_tried_again(daemon: RunningDaemon, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with Pipeline() as builder:
        model = FailsOnce(str(path))
        model.before()
        model.load()
        builder.output(model.answer())
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "fails-once")
        with pytest.raises(errors.StartupFailed) as caught:
            client.run("fails-once")
        error = caught.value
        assert error.reason == "STARTUP_FAILED"
        assert error.node == "FailsOnce.load"
        assert "the disk is asleep" in str(error)
        assert "in load" in error.remote_traceback
        deployment = client.deployment("fails-once")
        assert deployment.state == "failed"
        assert deployment.failure is not None
        assert "the disk is asleep" in deployment.failure.message
        assert client.run("fails-once") == ["here"]
        assert client.deployment("fails-once").state == "warm"
    # What succeeded before the failure is kept: the second try begins at the node that failed.
    assert noted(path) == ["before", "load", "load"]


@pipe
def double(value: int) -> int:
    return 2 * value


@pipe
def triple(value: int) -> int:
    return 3 * value


def single(function: Callable[[int], int]) -> Graph:
    with Pipeline() as builder:
        value = Variable(int)
        builder.output(function(value))
    return builder.get_pipeline()


def test_deploying_again_makes_the_next_version(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        first = client.deploy(single(double), "versions")
        assert (first.name, first.version, first.state) == ("versions", 1, "cold")
        assert client.run("versions", 7) == [14]
        equal = client.deploy(single(double), "versions")
        assert (equal.version, equal.state, equal.digest) == (1, "warm", first.digest)
        second = client.deploy(single(triple), "versions")
        assert (second.version, second.state) == (2, "cold")
        assert client.run("versions", 7) == [21]
        assert [d.version for d in client.list() if d.name == "versions"] == [2]


def test_deleted_deployment_is_gone_with_its_worker(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.deploy(single(double), "deleted")
        client.run("deleted", 1)
        [pid] = client.deployment("deleted").worker_pids
        client.delete("deleted")
        assert not Path(f"/proc/{pid}").exists()
        with pytest.raises(errors.NotFound, match="'deleted'"):
            client.run("deleted", 1)
        with pytest.raises(errors.NotFound, match="'deleted'"):
            client.delete("deleted")
        assert client.deploy(single(double), "deleted").version == 1


@pipe
def wait_for_file(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.005)
    return 1


def test_cancelled_caller_does_not_stop_the_queue(daemon: RunningDaemon, tmp_path: Path) -> None:
    release = tmp_path / "release"
    with Pipeline() as builder:
        path = Variable(str)
        builder.output(wait_for_file(path))
    with daemon.client() as client, ThreadPoolExecutor(1) as pool:
        client.deploy(builder.get_pipeline(), "slow")
        client.warm("slow")
        with pytest.raises(errors.DeadlineExceeded):
            client.run("slow", str(release), timeout=0.3)
        queued = pool.submit(client.run, "slow", str(release))
        release.touch()
        assert queued.result() == [1]


@pipe
def worker_pid() -> int:
    import os

    return os.getpid()


@pipe
def meet(folder: str, others: int) -> int:
    """Return once as many runs as that are under way at the same time."""
    import os

    mine = Path(folder) / str(os.getpid())
    mine.touch()
    while len(list(Path(folder).iterdir())) < others:
        pass
    return os.getpid()


def test_instances_run_at_the_same_time(daemon: RunningDaemon, tmp_path: Path) -> None:
    with Pipeline() as builder:
        folder = Variable(str)
        others = Variable(int)
        builder.output(meet(folder, others))
    with daemon.client() as client, ThreadPoolExecutor(2) as pool:
        client.deploy(builder.get_pipeline(), "pair", instances=2)
        runs = [pool.submit(client.run, "pair", str(tmp_path), 2) for _ in range(2)]
        pids = {run.result()[0] for run in runs}
        assert pids == set(client.deployment("pair").worker_pids)
        assert len(pids) == 2


def test_output_of_user_code_is_in_the_log(daemon: RunningDaemon) -> None:
    @pipe
    def say(text: str) -> None:
        import logging
        import sys

        print(f"printed {text}")  # noqa: T201
        sys.stderr.write(f"written {text}\n")
        logging.getLogger("user").warning("logged %s", text)

    with Pipeline() as builder:
        text = Variable(str)
        builder.output(say(text))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "talker")
        assert client.run("talker", "xyzzy") == [None]
        # The worker's output has been read to its end when the worker is gone.
        client.delete("talker")
    log = daemon.log()
    assert "printed xyzzy" in log
    assert "written xyzzy" in log
    assert "logged xyzzy" in log


def test_environment_of_a_deployment(daemon: RunningDaemon) -> None:
    @pipe
    def read(name: str) -> str:
        import os

        return os.environ.get(name, "unset")

    with Pipeline() as builder:
        name = Variable(str)
        builder.output(read(name))
    graph = builder.get_pipeline()
    with daemon.client() as client:
        with_color = client.deploy(graph, "with-color", environment={"COLOR": "green"})
        client.deploy(graph, "without-color")
        assert client.run("with-color", "COLOR") == ["green"]
        assert client.run("without-color", "COLOR") == ["unset"]
        assert with_color.environment == ("COLOR",)
        # Another environment is another version, although the graph is the same.
        assert client.deploy(graph, "with-color", environment={"COLOR": "red"}).version == 2
        assert client.run("with-color", "COLOR") == ["red"]


def test_named_inputs_and_defaults(daemon: RunningDaemon) -> None:
    @pipe
    def power(base: int, exponent: int) -> int:
        return int(base**exponent)

    with Pipeline() as builder:
        base = Variable(int)
        exponent = Variable(int, default=2)
        builder.output(power(base, exponent), power(exponent, base))
    graph = builder.get_pipeline()
    with daemon.client() as client:
        client.deploy(graph, "power")
        for run in (graph.run, lambda *a, **k: client.run("power", *a, **k)):
            assert run(3) == [9, 8]
            assert run(base=5) == [25, 32]
            assert run(3, exponent=3) == [27, 27]


def test_clients_find_a_restarted_daemon_again(own_daemon: RunningDaemon) -> None:
    with Client(own_daemon.address) as client:
        client.deploy(single(double), "again")
        assert client.run("again", 1) == [2]
        own_daemon.restart()
        assert client.run("again", 2) == [4]
