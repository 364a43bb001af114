"""A script of a user of the hosted service, which is told a daemon's address and nothing else."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.client.subprocesses import run_python
from tests.running_daemon import RunningDaemon

SCRIPT = """
    from pathlib import Path
    from typing import Iterator

    from pipeline import Pipeline, Variable, entity, pipe
    from pipeline.cloud import environments, files, logs, pipelines, pointers, runs
    from pipeline.cloud.compute_requirements import Accelerator
    from pipeline.cloud.schemas.runs import RunState
    from pipeline.objects import File
    from pipeline.objects.graph import InputField, InputSchema

    class Options(InputSchema):
        times: int = InputField(default=1, ge=1, le=5)

    @entity
    class Writer:
        @pipe(on_startup=True, run_once=True)
        def load(self) -> None:
            self.suffix = "!"

        @pipe
        def repeat(self, text: File, options: Options) -> str:
            print(f"repeating {options.times} times")
            return (text.path.read_text() + self.suffix) * options.times

    with Pipeline() as builder:
        text = Variable(File)
        options = Variable(Options)
        writer = Writer()
        writer.load()
        builder.output(writer.repeat(text, options))

    @pipe
    def letters(word: str) -> Iterator[str]:
        yield from word

    with Pipeline() as spelling:
        spelling.output(letters(Variable(str)))

    environments.create_environment("someone/writing", ["numpy"], allow_existing=True)
    uploaded = pipelines.upload_pipeline(
        builder.get_pipeline(),
        "someone/writer",
        environment_id_or_name="someone/writing",
        minimum_cache_number=1,
        accelerators=[Accelerator.nvidia_t4, Accelerator.cpu],
    )
    pointers.create_pointer("someone/writer:prod", uploaded.id, overwrite=True, locked=False)

    Path("text.txt").write_text("hey")
    run = pipelines.run_pipeline("someone/writer:prod", File(path="text.txt"), {"times": 2})
    print(run.state == RunState.completed, *run.outputs_formatted(), run.error)

    remote = files.upload_file(Path("text.txt"))
    started = pipelines.run_pipeline(
        uploaded.id, File(remote_id=remote.id), {"times": 3}, async_run=True
    )
    ended = runs.poll_for_run_completion(started.id, 60, 1)
    print(*ended.result.result_array(), runs.get_run(started.id).state.value)
    print(*logs.get_run_logs(started.id))

    pipelines.upload_pipeline(
        spelling.get_pipeline(), "someone/speller", environment_id_or_name="someone/writing"
    )
    print(*(out.outputs[0].value for out in pipelines.stream_pipeline("someone/speller", "abc")))
"""

FORKING = """
    import os

    from pipeline import Pipeline, Variable, pipe
    from pipeline.cloud import pipelines

    @pipe
    def double(number: int) -> int:
        return 2 * number

    with Pipeline() as builder:
        builder.output(double(Variable(int)))

    def run(number):
        print(*pipelines.run_pipeline("forked", number).outputs, flush=True)

    pipelines.upload_pipeline(builder.get_pipeline(), "forked")
    run(1)
    child = os.fork()
    if child == 0:
        run(2)
        os._exit(0)
    os.waitpid(child, 0)
    run(3)
"""


def test_a_script_of_the_hosted_service(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIPELINED_ADDRESS", daemon.address)
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    # Nothing is to be warned about, and nothing is left open at the end.
    for _ in range(2):
        printed = run_python(["-W", "error", "script.py"], cwd=tmp_path)
        assert printed.splitlines() == [
            "True hey!hey! None",
            "hey!hey!hey! completed",
            "repeating 3 times",
            "a b c",
        ]
    with daemon.client() as client:
        assert [each.version for each in client.versions("writer")] == [1]
        assert [each.pointer for each in client.pointers("writer")] == ["writer:prod"]
        assert client.environment("writing").requirements == ("numpy",)


def test_a_forked_process_has_a_connection_of_its_own(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIPELINED_ADDRESS", daemon.address)
    (tmp_path / "script.py").write_text(textwrap.dedent(FORKING))
    assert run_python(["script.py"], cwd=tmp_path).splitlines() == ["2", "4", "6"]
