"""The client against a real daemon: each method, and what it gives back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import psutil
import pytest

from pipeline import (
    Client,
    File,
    Graph,
    InputField,
    InputSchema,
    Pipeline,
    Variable,
    entity,
    errors,
    pipe,
)
from pipeline.timeline import Stage
from pipelined_api.limits import MAX_MESSAGE_BYTES
from tests.client.aborting_daemon import AbortingDaemon
from tests.running_daemon import RunningDaemon


class Options(InputSchema):
    times: int = InputField(default=2, ge=1, le=4)


@entity
class Speaker:
    def __init__(self) -> None:
        self.greeting = ""

    @pipe(on_startup=True)
    def load(self) -> None:
        self.greeting = "hello"

    @pipe
    def speak(self, name: str, options: Options) -> list[str]:
        return [f"{self.greeting} {name}"] * options.times


@pipe
def shout(text: str) -> str:
    return text.upper()


@pipe
def blob_size(blob: str) -> int:
    return len(blob)


@pipe
def blob_of(size: int) -> str:
    return "x" * size


@pipe
def wait_for(path: str, go: str) -> str:
    Path(path).touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return "done"


@pipe
def copy_file(source: File, folder: str) -> File:
    path = Path(folder) / "copied.bin"
    path.write_bytes(source.read())
    return File(path=path)


@pipe
def variable_of(name: str) -> str:
    return os.environ[name]


def speaking() -> Graph:
    with Pipeline() as builder:
        name = Variable(str, title="name")
        options = Variable(Options, title="options", default=Options())
        speaker = Speaker()
        speaker.load()
        builder.output(speaker.speak(name, options))
    return builder.get_pipeline()


def shouting() -> Graph:
    with Pipeline() as builder:
        text = Variable(str, title="text")
        builder.output(shout(text))
    return builder.get_pipeline()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def test_deploy_describes_the_deployment(client: Client) -> None:
    graph = speaking()
    deployment = client.deploy(graph, "describe", environment={"A": "secret"}, max_instances=2)
    assert (deployment.name, deployment.version, deployment.state) == ("describe", 1, "cold")
    assert deployment.digest == graph.digest()
    assert deployment.schema.wire() == graph.schema()
    assert deployment.schema() == graph.json_schema()
    assert deployment.environment == ("A",)
    assert deployment.instances == 2
    assert abs(datetime.now(timezone.utc) - deployment.created_at) < timedelta(minutes=5)
    assert client.deployment("describe") == deployment
    assert deployment in client.list()
    client.delete("describe")
    assert "describe" not in [each.name for each in client.list()]
    with pytest.raises(errors.NotFound):
        client.deployment("describe")


def test_environment_reaches_the_worker(client: Client) -> None:
    with Pipeline() as builder:
        builder.output(variable_of(Variable(str)))
    client.deploy(builder.get_pipeline(), "environment", environment={"SPEECH": "quiet"})
    assert client.run("environment", "SPEECH") == ["quiet"]


def test_run_by_position_by_name_and_with_defaults(client: Client) -> None:
    client.deploy(speaking(), "speak")
    expected = [["hello you", "hello you"]]
    assert client.run("speak", "you") == expected
    assert client.run("speak", name="you") == expected
    assert client.run("speak", "you", {"times": 1}) == [["hello you"]]
    assert client.run("speak", "you", options=Options(times=3)) == [["hello you"] * 3]
    assert client.run("speak", "you", timeout=60) == expected
    assert client.run("speak", "you", timeout=float("inf")) == expected


def test_inputs_are_refused_before_they_are_sent(client: Client) -> None:
    client.deploy(speaking(), "refuse")
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("refuse", "you", {"times": 5})
    assert (caught.value.field, caught.value.bound) == ("options.times", "le=4")
    assert caught.value.reason == ""
    with pytest.raises(errors.InvalidInput, match="name: ") as caught:
        client.run("refuse", object())
    assert caught.value.field == "name"
    with pytest.raises(errors.InvalidInput, match="did you mean 'name'"):
        client.run("refuse", nam="you")
    assert client.deployment("refuse").startups == 0


def test_a_schema_that_changed_is_fetched_again(daemon: RunningDaemon, client: Client) -> None:
    client.deploy(speaking(), "changing")
    assert client.run("changing", "you", {"times": 1}) == [["hello you"]]
    with daemon.client() as other:
        assert other.deploy(shouting(), "changing").version == 2
    # Valid for both, then for the new one only.
    assert client.run("changing", "you") == ["YOU"]
    assert client.run("changing", text="you") == ["YOU"]
    # And one that fits the old one only is refused by the new one.
    with daemon.client() as other:
        other.deploy(speaking(), "changing")
        assert client.run("changing", "you") == [["hello you", "hello you"]]
        other.deploy(shouting(), "changing")
    with pytest.raises(errors.InvalidInput):
        client.run("changing", "you", {"times": 1})


def test_warm_reports_stages_and_returns_the_timeline(client: Client) -> None:
    client.deploy(speaking(), "warming")
    assert client.timeline("warming") is None
    stages: list[Stage] = []
    timeline = client.warm("warming", on_progress=stages.append)
    kinds = [stage.kind for stage in timeline.stages]
    assert kinds.count("fork") == kinds.count("ready") == 1
    assert [stage.name for stage in timeline.stages if stage.kind == "node"] == ["Speaker.load"]
    assert {stage.kind for stage in stages} <= set(kinds)
    assert "node" in {stage.kind for stage in stages}
    assert timeline.startup_seconds is not None
    deployment = client.deployment("warming")
    assert (deployment.state, deployment.startups) == ("warm", 1)
    assert deployment.worker_pids == (timeline.worker_pid,)
    # Warm already: the same timeline, and nothing more to report.
    stages.clear()
    assert client.warm("warming") == timeline == client.timeline("warming")
    assert stages == []
    client.run("warming", "you")
    last = client.timeline("warming")
    assert last is not None
    assert [stage.kind for stage in last.stages][-1] == "first_run"


def test_what_on_progress_raises_comes_out(client: Client) -> None:
    client.deploy(speaking(), "interrupted")

    def refuse(stage: Stage) -> None:
        raise LookupError(stage.kind)

    with pytest.raises(LookupError):
        client.warm("interrupted", on_progress=refuse)
    assert client.run("interrupted", "you", {"times": 1}) == [["hello you"]]


def test_inputs_and_outputs_over_the_message_limit(client: Client) -> None:
    with Pipeline() as builder:
        builder.output(blob_size(Variable(str, title="blob")))
    client.deploy(builder.get_pipeline(), "blob-size")
    # Text always goes in the message.
    fits = "x" * (MAX_MESSAGE_BYTES - 1000)
    assert client.run("blob-size", fits) == [len(fits)]
    with pytest.raises(errors.InvalidInput, match="largest is blob") as caught:
        client.run("blob-size", fits + "x" * 2000)
    assert (caught.value.field, caught.value.bound) == ("blob", f"max_bytes={MAX_MESSAGE_BYTES}")
    with Pipeline() as builder:
        builder.output(blob_of(Variable(int)))
    client.deploy(builder.get_pipeline(), "blob-of")
    with pytest.raises(errors.SerialisationError) as output:
        client.run("blob-of", MAX_MESSAGE_BYTES + 1)
    assert output.value.reason == "OUTPUT_TOO_LARGE"
    assert client.run("blob-of", 3) == ["xxx"]


def test_files_there_and_back(client: Client, tmp_path: Path) -> None:
    with Pipeline() as builder:
        builder.output(copy_file(Variable(File), Variable(str)))
    client.deploy(builder.get_pipeline(), "copy")
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 100)
    (there,) = client.run("copy", File(path=source), str(tmp_path))
    assert isinstance(there, File)
    (tmp_path / "copied.bin").unlink()
    saved = tmp_path / "saved.bin"
    there.save(saved)
    assert saved.read_bytes() == source.read_bytes()


def test_a_deadline_ends_the_wait(client: Client, tmp_path: Path) -> None:
    with Pipeline() as builder:
        builder.output(wait_for(Variable(str), Variable(str)))
    client.deploy(builder.get_pipeline(), "waiting")
    client.warm("waiting")
    with pytest.raises(errors.DeadlineExceeded):
        client.run("waiting", str(tmp_path / "started"), str(tmp_path / "go"), timeout=1)
    (tmp_path / "go").touch()
    assert client.run("waiting", str(tmp_path / "a"), str(tmp_path / "go")) == ["done"]


def test_info(daemon: RunningDaemon, client: Client) -> None:
    client.deploy(shouting(), "info")
    client.warm("info")
    info = client.info()
    assert info.pid == daemon.pid
    assert info.nursery.state == "ready"
    assert psutil.Process(info.nursery.pid).ppid() == daemon.pid
    assert "torch" in info.nursery.preloaded
    assert info.max_message_bytes == MAX_MESSAGE_BYTES
    assert info.started_at.utcoffset() == timedelta(0)


def test_a_client_finds_a_restarted_daemon(own_daemon: RunningDaemon) -> None:
    with own_daemon.client() as client:
        client.deploy(shouting(), "again")
        assert client.run("again", "a") == ["A"]
        own_daemon.stop()
        with pytest.raises(errors.Unavailable, match="pipelined serve"):
            client.run("again", "a")
        own_daemon.start()
        assert [each.name for each in client.list()] == ["again"]
        assert client.run("again", "b") == ["B"]


def test_deploying_is_tried_again_with_the_same_key(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = AbortingDaemon(tmp_path_factory.mktemp("s") / "d.sock")
    failures = iter([True, True])

    def behave(context: grpc.ServicerContext) -> None:
        if next(failures, False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    server.behaviour = behave
    try:
        with (
            Client(server.address) as client,
            pytest.warns(errors.DeploymentWarning, match=r"numpy is 2\.0 here"),
        ):
            assert client.deploy(shouting(), "retried").version == 1
        assert len(server.deploy_keys) == 3
        assert len(set(server.deploy_keys)) == 1
        assert server.deploy_keys[0]
    finally:
        server.stop()
