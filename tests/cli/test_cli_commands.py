"""The command against a real daemon."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from pipeline import File, InputField, InputSchema, Pipeline, Variable, pipe
from pipeline.timeline import Timeline
from tests.cli.programs import PROGRAM, call, done
from tests.running_daemon import RunningDaemon


class Size(InputSchema):
    height: int = InputField(ge=1)


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program in the current folder; what is imported from there is forgotten afterwards."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def deployed(daemon: RunningDaemon, graph: str, name: str, *options: str) -> str:
    done(daemon, "deploy", f"program.py:{graph}", "--name", name, *options)
    return name


@pytest.mark.parametrize(
    "target",
    ["program:paint", "program.py:paint", "./program.py:builder", "program:greeting"]
    + ["program.py:made"],
)
def test_deploy_what_holds_a_graph(daemon: RunningDaemon, target: str) -> None:
    name = target.replace(":", "-").replace("/", "").lstrip(".")
    assert done(daemon, "deploy", target, "--name", name) == f"{name} v1 is cold\n"
    # Deploying the same again makes no version.
    described = json.loads(done(daemon, "deploy", target, "--name", name, "--json"))
    assert (described["name"], described["version"]) == (name, 1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("program", "nor of the form module:variable"),
        ("program:", "not of the form module:variable"),
        ("program:missing", "program has no 'missing'"),
        ("program.py:number", "program.py:number is a int, not a Graph"),
        ("absent:graph", "absent cannot be loaded: ModuleNotFoundError: No module named 'absent'"),
        ("absent.py:graph", "absent.py cannot be loaded: FileNotFoundError"),
        ("wrong.py:graph", "wrong.py cannot be loaded: ZeroDivisionError"),
        ("exits.py:graph", "exits.py cannot be loaded: SystemExit: 3"),
        ("syntax.py:graph", "syntax.py cannot be loaded: SyntaxError"),
    ],
)
def test_deploy_what_holds_none(
    daemon: RunningDaemon, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "wrong.py").write_text("x = 1\n\ny = x / 0\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "syntax.py").write_text("def\n")
    result = call(daemon, "deploy", target, "--name", "none")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    if target.startswith("wrong"):
        assert f"({tmp_path / 'wrong.py'}, line 3)" in result.stderr


def test_a_file_called_like_the_library(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PROGRAM)
    done(daemon, "deploy", "pipeline.py:greeting", "--name", "same-name")
    assert done(daemon, "run", "same-name", "name=you") == "hello you\n"


def test_a_program_with_a_module_beside_it(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("WORD = 'beside'\ndef word():\n    return WORD\n")
    (tmp_path / "sub" / "main.py").write_text(
        "import beside\nfrom pipeline import Pipeline, Variable, pipe\n\n\n"
        "@pipe\ndef say(text: str) -> str:\n    return text + beside.word()\n\n\n"
        "with Pipeline() as builder:\n    builder.output(say(Variable(str, title='text')))\n"
    )
    done(daemon, "deploy", "sub/main.py:builder", "--name", "helped")
    assert done(daemon, "run", "helped", "text=a ") == "a beside\n"


def test_run_with_text_json_and_fields(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "paint", "run-paint")
    assert done(daemon, "run", name, "prompt=a fox") == "brush: a fox 64 None\n"
    assert done(daemon, "run", name, "prompt=12", "kwargs.height=32", "kwargs.style=7") == (
        "brush: 12 32 7\n"
    )
    assert done(daemon, "run", name, "prompt=x", 'kwargs={"height": 8}') == "brush: x 8 None\n"
    found = json.loads(done(daemon, "run", name, "prompt=x", "--json"))
    assert found["outputs"] == ["brush: x 64 None"]
    assert found["deployment"] == name
    assert found["run_id"]
    assert found["execution_seconds"] >= 0


def test_schema_shows_inputs_with_their_fields_and_outputs(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "paint", "schema-paint")
    inputs, outputs = done(daemon, "schema", name).split("\n\n")
    rows = [re.split(r"  +", line.rstrip()) for line in inputs.splitlines()]
    assert rows == [
        ["INPUT", "TYPE", "DEFAULT", "BOUNDS", "DESCRIPTION"],
        ["prompt", "str", "required"],
        ["kwargs", "Options", "{'height': 64}"],
        ["kwargs.height", "int", "64", "ge=8, le=128, multiple_of=8"],
        ["kwargs.style", "str | None", "None"],
    ]
    assert [line.split() for line in outputs.splitlines()] == [
        ["OUTPUT", "TYPE"],
        ["output_0", "str"],
    ]
    found = json.loads(done(daemon, "schema", name, "--json"))
    with daemon.client() as client:
        assert found == client.deployment(name).schema()
    missing = call(daemon, "schema", "no-such-thing")
    assert (missing.exit_code, missing.stdout) == (
        call(daemon, "warm", "no-such-thing").exit_code,
        "",
    )


def test_schema_names_streams_and_defaults_that_cannot_be_written(daemon: RunningDaemon) -> None:
    @pipe
    def each(texts: list[str], picture: File, size: Size | None) -> Iterator[str]:
        yield from texts

    with Pipeline() as builder:
        texts = Variable(list[str], description="What is\nread", max_length=3)
        picture = Variable(File, default=File.from_bytes(b"x", name="x.png"))
        size = Variable(Size | None, title="size")
        builder.output(each(texts, picture, size))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "schema-stream")
        try:
            lines = done(daemon, "schema", "schema-stream").splitlines()
        finally:
            client.delete("schema-stream")
    rows = [re.split(r"  +", line.rstrip()) for line in lines]
    assert rows[1:5] == [
        ["texts", "list[str]", "required", "max_length=3", "What is read"],
        ["picture", "File", "<a File>"],
        ["size", "Size | None", "None"],
        ["size.height", "int", "required", "ge=1"],
    ]
    assert rows[-1] == ["output_0", "str (stream)"]


def test_several_outputs_are_named(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "both", "run-both")
    lines = done(daemon, "run", name, "name=you", "size=2").splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["hello you", "float32[2] 0, 1"]
    found = json.loads(done(daemon, "run", name, "name=you", "size=2", "--json"))
    assert found["outputs"] == ["hello you", [0.0, 1.0]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["prompt=a", "kwargs.height=60"], "kwargs.height: Input should be a multiple of 8"),
        (["prompt=a", "kwargs.height=256"], "kwargs.height: Input should be less than or equal"),
        (["prompt=a", "kwargs.height=tall"], "kwargs.height: "),
        (["prompt=a", "kwargs.heigth=64"], "kwargs.heigth: "),
        (["promt=a"], "did you mean 'prompt'"),
        ([], "prompt: missing input"),
        (["a"], "'a' is not of the form key=value"),
    ],
)
def test_bad_input(daemon: RunningDaemon, inputs: list[str], message: str) -> None:
    name = deployed(daemon, "paint", "bad-input")
    result = call(daemon, "run", name, *inputs)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_files_in_and_out(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    name = deployed(daemon, "reporting", "report", "--env", f"PIPELINE_TEST_FOLDER={tmp_path}/work")
    (tmp_path / "in.txt").write_text("part ")
    result = call(daemon, "run", name, "count=2", "source=@in.txt")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == ["report.txt", "report-1.txt"]
    assert "saved report.txt (6 B)" in result.stderr
    assert (tmp_path / "report.txt").read_text() == "part 0"
    assert (tmp_path / "report-1.txt").read_text() == "part 1"
    arguments = ["count=1", "source=@in.txt", "--json", "--output-dir", "out/new"]
    found = json.loads(done(daemon, "run", name, *arguments))
    assert found["outputs"] == [
        [{"path": "out/new/report.txt", "size": 6, "media_type": "text/plain"}]
    ]
    assert (tmp_path / "out/new/report.txt").read_text() == "part 0"
    missing = call(daemon, "run", name, "count=1", "source=@absent.txt")
    assert missing.exit_code == 2
    assert "'absent.txt' cannot be read" in missing.stderr
    unwritable = call(daemon, "run", name, *arguments[:2], "--output-dir", "in.txt")
    assert unwritable.exit_code == 1
    assert "in.txt" in unwritable.stderr


def test_an_image(daemon: RunningDaemon, tmp_path: Path) -> None:
    name = deployed(daemon, "pictures", "picture")
    path = done(daemon, "run", name, "size=4").strip()
    with PIL.Image.open(tmp_path / path) as image:
        assert (image.size, image.getpixel((3, 3))) == ((4, 4), (255, 0, 0))


def test_a_run_that_fails_shows_its_traceback(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "exploding", "explode")
    result = call(daemon, "run", name, "text=[bold]x[/bold]")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert 'raise LookupError("nothing called " + text)' in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "LookupError: nothing called [bold]x[/bold]" in last
    assert "explode" in last


def test_a_startup_that_fails(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "broken", "broken")
    result = call(daemon, "warm", name)
    assert result.exit_code == 1
    assert 'raise OSError("no such model")' in result.stderr
    assert "Broken.load" in result.stderr.splitlines()[-1]
    (row,) = (line for line in done(daemon, "ps").splitlines() if line.startswith("broken "))
    assert "failed" in row
    assert "OSError in Broken.load: no such model" in row


def test_warm_and_timeline(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "paint", "warm-paint")
    never = call(daemon, "timeline", name)
    assert never.exit_code == 3
    assert f"`pipeline warm {name}` starts it" in never.stderr
    lines = done(daemon, "warm", name).splitlines()
    # Each stage once, and then what it came to: the chart is for terminals.
    assert [line.startswith("node Painter.load ") for line in lines].count(True) == 1
    assert lines[-2:-1] == ["ready"]
    assert lines[-1].startswith(f"{name} v1 · startup 1 · ready after ")
    chart = done(daemon, "timeline", name).splitlines()
    assert chart[0].startswith(f"{name} v1 · startup 1 · ready after ")
    assert any(line.startswith("node Painter.load") and "█" in line for line in chart)
    assert all(line == line.rstrip() and len(line) <= 100 for line in chart)
    plain = json.loads(done(daemon, "timeline", name, "--json"))
    assert set(plain) == {*Timeline.__dataclass_fields__, "startup_seconds"}
    assert plain == json.loads(done(daemon, "warm", name, "--json"))


def test_ps(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "greeting", "ps-greeting", "--instances", "2")
    done(daemon, "run", name, "name=you")
    heading, *rows = done(daemon, "ps").splitlines()
    assert heading.split()[:3] == ["NAME", "VERSION", "STATE"]
    (row,) = (line.split() for line in rows if line.startswith(f"{name} "))
    assert row[1:3] == ["v1", "warm"]
    (found,) = (each for each in json.loads(done(daemon, "ps", "--json")) if each["name"] == name)
    assert (found["state"], found["instances"], found["runs_succeeded"]) == ("warm", 2, 1)
    assert found["schema"]["inputs"]["properties"]["name"]["type"] == "string"


def test_delete(daemon: RunningDaemon) -> None:
    name = deployed(daemon, "greeting", "delete-me")
    refused = call(daemon, "delete", name)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert done(daemon, "delete", name, "--yes") == f"{name} is deleted\n"
    for arguments in (["delete", name, "-y"], ["run", name, "name=x"], ["warm", name]):
        gone = call(daemon, *arguments)
        assert gone.exit_code == 3
        assert repr(name) in gone.stderr


def test_info(daemon: RunningDaemon) -> None:
    found = json.loads(done(daemon, "info", "--json"))
    assert found["address"] == daemon.address
    assert found["pid"] == daemon.pid
    text = done(daemon, "info")
    assert daemon.address in text
    assert str(daemon.pid) in text


@pytest.mark.parametrize("env", ["A", "=b", "A=1 A=2"])
def test_bad_variables(daemon: RunningDaemon, env: str) -> None:
    options = [part for each in env.split() for part in ("--env", each)]
    result = call(daemon, "deploy", "program:greeting", "--name", "env", *options)
    assert result.exit_code == 2
    assert "--env" in result.stderr
