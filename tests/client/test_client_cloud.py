"""The hosted SDK's names against a real daemon."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import Directory, File, Pipeline, Stream, Variable, errors, pipe
from pipeline.cloud import (
    compute_requirements,
    files,
    logs,
    pipelines,
    pointers,
    runs,
)
from pipeline.cloud._connection import connected
from pipeline.cloud.schemas.runs import Run, RunIOType, RunOutput, RunState
from pipeline.objects import Graph
from pipeline.objects.graph import ABSENT
from pipelined.core.shared_limits import QUEUE_LENGTH
from tests.running_daemon import RunningDaemon


@pipe
def double(number: int) -> int:
    if number == 0:
        raise ValueError("nothing to double")
    print(f"doubling {number}")  # noqa: T201
    return 2 * number


@pipe
def triple(number: int) -> int:
    return 3 * number


@pipe
def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "went on"


@pipe
def read(file: File) -> str:
    return file.read().decode()


@pipe
def names(directory: Directory) -> list[str]:
    return list(directory)


@pipe
def count(number: int) -> Iterator[int]:
    yield from range(number)


@pipe(on_startup=True)
def announce() -> None:
    print("starting")  # noqa: T201


def until_running(name: str) -> None:
    deadline = time.monotonic() + 60
    while not connected().runs(name, states=["running"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def of(function: Callable[..., Any], *types: type) -> Graph:
    with Pipeline() as builder:
        builder.output(function(*(Variable(each) for each in types)))
    return builder.get_pipeline()


@pytest.fixture(autouse=True)
def address(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINED_ADDRESS", daemon.address)


def test_accelerators_are_strings_too() -> None:
    assert compute_requirements.Accelerator("nvidia_h100") == "nvidia_h100"


def test_upload_and_run() -> None:
    uploaded = pipelines.upload_pipeline(of(double, int), "cloud-double")
    assert (uploaded.id, uploaded.name, uploaded.version) == ("cloud-double:v1", "cloud-double", 1)
    assert (uploaded.minimum_cache_number, uploaded.environment_id) == (1, None)
    run = pipelines.run_pipeline(uploaded.id, 21)
    assert (run.state, run.pipeline_id, run.error) == (RunState.completed, uploaded.id, None)
    assert run.outputs_formatted() == run.outputs == [42]
    assert run.result is not None
    assert (run.result.run_id, run.result.result_array()) == (run.id, [42])
    assert run.result.outputs == [RunOutput(RunIOType.integer, 42)]
    assert run.created_at <= run.updated_at
    # It is the same when it is looked up.
    found = runs.get_run(run.id)
    assert (found.id, found.state, found.outputs) == (run.id, run.state, [42])


def test_an_id_means_one_version_and_a_name_the_newest() -> None:
    first = pipelines.upload_pipeline(of(double, int), "someone/cloud-versions")
    second = pipelines.upload_pipeline(of(triple, int), "cloud-versions")
    assert (first.id, second.id) == ("cloud-versions:v1", "cloud-versions:v2")
    assert pipelines.run_pipeline(first.id, 1).outputs == [2]
    for name in (second.id, "cloud-versions", "someone/cloud-versions:latest"):
        assert pipelines.run_pipeline(name, 1).outputs == [3]


def test_an_upload_with_a_tag_sets_the_pointer() -> None:
    pipelines.upload_pipeline(of(double, int), "someone/cloud-tag:prod")
    pipelines.upload_pipeline(of(triple, int), "cloud-tag:latest")
    assert pipelines.run_pipeline("someone/cloud-tag:prod", 1).outputs == [2]
    pipelines.upload_pipeline(of(triple, int), "cloud-tag:prod")
    assert pipelines.run_pipeline("cloud-tag:prod", 1).outputs == [3]
    assert pointers.get_pointer("cloud-tag:prod").pipeline_id == "cloud-tag:v2"


@pytest.mark.parametrize("name", ["cloud-bad:v3", "cloud-bad:", "cloud-bad:a b"])
def test_what_cannot_be_a_pointer_uploads_nothing(name: str) -> None:
    with pytest.raises(errors.InvalidInput, match="cannot be a pointer") as caught:
        pipelines.upload_pipeline(of(double, int), name)
    assert caught.value.field == "name"
    with pytest.raises(errors.NotFound):
        pipelines.run_pipeline("cloud-bad", 1)


@pytest.mark.parametrize("name", ["a/b/cloud", "/cloud", ""])
def test_only_one_user_is_dropped(name: str) -> None:
    with pytest.raises(errors.InvalidInput):
        pipelines.upload_pipeline(of(double, int), name)


def test_a_failed_run_raises_and_is_looked_up_with_its_error() -> None:
    pipelines.upload_pipeline(of(double, int), "cloud-fails")
    with pytest.raises(errors.RunFailed, match="nothing to double"):
        pipelines.run_pipeline("cloud-fails", 0)
    started = pipelines.run_pipeline("cloud-fails", 0, async_run=True)
    assert type(started) is type(pipelines.run_pipeline("cloud-fails", 1))
    run = runs.poll_for_run_completion(started.id, timeout=60, interval=1)
    assert (run.id, run.state, run.result, run.outputs) == (started.id, RunState.failed, None, [])
    assert run.error is not None
    assert run.error.type == "RUN_FAILED"
    assert "nothing to double" in run.error.exception == run.error.message
    assert run.error.traceback is not None
    assert "in double" in run.error.traceback
    assert pipelines.get_pipeline_run(run.id) == run
    with pytest.raises(errors.PipelineError, match="is failed: .*nothing to double"):
        run.outputs_formatted()


def test_inputs_that_do_not_fit_raise() -> None:
    pipelines.upload_pipeline(of(double, int), "cloud-inputs")
    with pytest.raises(errors.InvalidInput):
        pipelines.run_pipeline("cloud-inputs", "a", async_run=True)
    with pytest.raises(errors.NotServed, match="return_response"):
        pipelines.run_pipeline("cloud-inputs", 1, return_response=True)


def test_polling(tmp_path: Path) -> None:
    pipelines.upload_pipeline(of(wait_for, str), "cloud-poll")
    go = tmp_path / "go"
    started = pipelines.run_pipeline("cloud-poll", str(go), async_run=True)
    assert started.state in (RunState.queued, RunState.running)
    assert not RunState.is_terminal(started.state)
    with pytest.raises(errors.PipelineError, match="has no outputs here"):
        started.outputs_formatted()
    with pytest.raises(TimeoutError, match=started.id):
        runs.poll_for_run_completion(started.id, timeout_secs=0, interval_secs=1)
    with pytest.raises(errors.DeadlineExceeded, match=started.id):
        runs.poll_for_run_completion(started.id, 0.05, 0.01)
    assert not RunState.is_terminal(runs.get_run(started.id).state)
    states: list[RunState] = []
    polled: list[RunState] = []

    def let_go(run: Run) -> None:
        polled.append(run.state)
        # Two questions at least, the second of which is answered by the end of the run.
        go.touch()

    run = pipelines.poll_async_run(
        started.id,
        timeout=60,
        interval=30,
        state_change_callback=lambda run: states.append(run.state),
        poll_callback=let_go,
    )
    assert (run.state, run.outputs_formatted()) == (RunState.completed, ["went on"])
    assert states[-1] is RunState.completed
    assert len(set(states)) == len(states) <= len(polled)


@pytest.mark.parametrize(
    ("given", "field"),
    [({"interval": 0.0}, "interval"), ({"interval": float("nan")}, "interval")]
    + [({"timeout": -1.0}, "timeout"), ({"timeout": float("nan")}, "timeout")],
)
def test_seconds_that_are_none(given: dict[str, float], field: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        runs.poll_for_run_completion("run", **given)
    assert caught.value.field == field


def test_runs_that_nobody_remembers() -> None:
    for look in (runs.get_run, runs.poll_for_run_completion, logs.get_run_logs, logs.tail_run_logs):
        with pytest.raises(errors.NotFound):
            look("run-of-nobody")


def test_a_cancelled_run_is_told(tmp_path: Path) -> None:
    pipelines.upload_pipeline(of(wait_for, str), "cloud-cancelled")
    started = pipelines.run_pipeline("cloud-cancelled", str(tmp_path / "go"), async_run=True)
    connected().get_run(started.id).cancel()
    run = runs.poll_for_run_completion(started.id, 60)
    (tmp_path / "go").touch()
    assert run.state is RunState.cancelled
    assert run.error is not None
    assert run.error.type == "RUN_CANCELLED"


def test_a_run_that_was_not_submitted_is_found_without_its_outputs(daemon: RunningDaemon) -> None:
    pipelines.upload_pipeline(of(double, int), "cloud-waited")
    with daemon.client() as client:
        assert client.run("cloud-waited", 4) == [8]
        [info] = client.runs("cloud-waited")
    run = runs.get_run(info.id)
    assert (run.state, run.result, run.error) == (RunState.completed, None, None)
    with pytest.raises(errors.PipelineError, match="has no outputs here; it is completed"):
        run.outputs_formatted()


def test_streams() -> None:
    pipelines.upload_pipeline(of(count, int), "cloud-stream")
    parts = pipelines.stream_pipeline("someone/cloud-stream", 3)
    assert isinstance(parts, Stream)
    assert [part.outputs_formatted() for part in parts] == [[0], [1], [2]]
    with pipelines.stream_pipeline("cloud-stream", 1_000_000) as parts:
        first = next(parts)
    assert first.outputs == [RunOutput(RunIOType.integer, 0)]
    assert list(parts) == []
    assert list(pipelines.stream_pipeline("cloud-stream", 0)) == []


def test_a_stream_beside_another_output() -> None:
    with Pipeline() as builder:
        number = Variable(int)
        builder.output(double(number), count(number))
    pipelines.upload_pipeline(builder.get_pipeline(), "cloud-two")
    parts = [part.outputs_formatted() for part in pipelines.stream_pipeline("cloud-two", 2)]
    assert parts == [[4, ABSENT], [ABSENT, 0], [ABSENT, 1]]
    with pytest.raises(errors.RunFailed, match="nothing to double"):
        list(pipelines.stream_pipeline("cloud-two", 0))


def test_a_refused_run_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipelines.upload_pipeline(of(wait_for, str), "cloud-retried")
    go = tmp_path / "go"
    connected().submit("cloud-retried", str(go))
    until_running("cloud-retried")
    for _ in range(QUEUE_LENGTH):
        connected().submit("cloud-retried", str(go))
    with pytest.raises(errors.Overloaded):
        pipelines.run_pipeline("cloud-retried", str(go))
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        go.touch()

    monkeypatch.setattr("pipeline.cloud.pipelines.time.sleep", sleep)
    run = pipelines.run_pipeline("cloud-retried", str(go), retry=True, retry_delay=0.25)
    assert run.outputs == ["went on"]
    assert delays
    assert min(delays) >= 0.25


def test_an_interrupted_run_is_cancelled(tmp_path: Path) -> None:
    pipelines.upload_pipeline(of(wait_for, str), "cloud-interrupted")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until_running("cloud-interrupted")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pipelines.run_pipeline("cloud-interrupted", str(tmp_path / "go"))
    thread.join()
    (tmp_path / "go").touch()
    [info] = connected().runs("cloud-interrupted")
    assert runs.poll_for_run_completion(info.id, 60).state is RunState.cancelled


def test_logs() -> None:
    with Pipeline() as builder:
        number = Variable(int)
        announce()
        builder.output(double(number))
    pipelines.upload_pipeline(builder.get_pipeline(), "cloud-logs")
    run = pipelines.run_pipeline("cloud-logs", 5)
    assert logs.get_run_logs(run.id) == ["doubling 5"]
    with logs.tail_run_logs(run.id) as lines:
        [(nanoseconds, text)] = lines
    assert text == "doubling 5"
    assert run.created_at.timestamp() * 1e9 <= int(nanoseconds) < 1e9 * time.time() + 60e9
    assert logs.get_pipeline_startup_logs("someone/cloud-logs") == ["starting"]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some text")
    uploaded = files.upload_file(tmp_path / "notes.txt")
    (tmp_path / "notes.txt").unlink()
    assert uploaded.name == "notes.txt"
    pipelines.upload_pipeline(of(read, File), "cloud-read")
    # As itself, or by its id, as another process would.
    for given in (uploaded, File(remote_id=uploaded.id)):
        assert pipelines.run_pipeline("cloud-read", given).outputs == ["some text"]
    with pytest.raises(FileNotFoundError):
        files.upload_file(str(tmp_path / "missing"))


def test_directories(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    uploaded = files.create_remote_directory(str(tmp_path))
    assert uploaded.name == tmp_path.name
    pipelines.upload_pipeline(of(names, Directory), "cloud-names")
    for given in (uploaded, Directory(remote_id=uploaded.id)):
        assert pipelines.run_pipeline("cloud-names", given).outputs == [["a.txt", "b.txt"]]
    with pytest.raises(NotADirectoryError):
        files.create_remote_directory(tmp_path / "a.txt")


def test_pointers() -> None:
    first = pipelines.upload_pipeline(of(double, int), "cloud-pointed")
    second = pipelines.upload_pipeline(of(triple, int), "cloud-pointed")
    made = pointers.create_pointer("someone/cloud-pointed:prod", first.id)
    assert (made.id, made.pointer) == ("cloud-pointed:prod", "cloud-pointed:prod")
    assert (made.pipeline_id, made.locked) == (first.id, False)
    assert pipelines.run_pipeline("cloud-pointed:prod", 1).outputs == [2]
    with pytest.raises(errors.AlreadyExists):
        pointers.create_pointer("cloud-pointed:prod", second.id)
    pointers.create_pointer("cloud-pointed:prod", "someone/cloud-pointed", overwrite=True)
    assert pointers.get_pointer("someone/cloud-pointed:prod").pipeline_id == second.id
    assert pointers.edit_pointer("cloud-pointed:prod", first.id, locked=True).locked
    for change in (
        lambda: pointers.edit_pointer("cloud-pointed:prod", second.id),
        lambda: pointers.create_pointer("cloud-pointed:prod", second.id, overwrite=True),
        lambda: pointers.delete_pointer("cloud-pointed:prod"),
    ):
        with pytest.raises(errors.PipelineError, match="locked"):
            change()
    edited = pointers.edit_pointer("cloud-pointed:prod", locked=False)
    assert (edited.pipeline_id, edited.locked) == (first.id, False)
    pointers.delete_pointer("someone/cloud-pointed:prod")
    for gone in (pointers.get_pointer, pointers.edit_pointer, pointers.delete_pointer):
        with pytest.raises(errors.NotFound):
            gone("cloud-pointed:prod")


def test_threads_share_one_connection() -> None:
    pipelines.upload_pipeline(of(double, int), "cloud-threads")
    results: list[object] = []
    clients: set[int] = set()

    def ask(number: int) -> None:
        clients.add(id(connected()))
        results.extend(pipelines.run_pipeline("cloud-threads", number).outputs)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == sorted(str(2 * number) for number in range(1, 9))
    assert len(clients) == 1


def test_another_address_is_another_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = connected()
    monkeypatch.setenv("PIPELINED_ADDRESS", f"unix:{tmp_path}/nobody")
    with pytest.raises(errors.Unavailable, match="no daemon answers"):
        pipelines.run_pipeline("cloud-nowhere", 1)
    assert connected() is not here
    monkeypatch.setenv("PIPELINED_ADDRESS", os.fspath(here.address))
    assert connected() is here
