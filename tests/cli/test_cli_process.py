"""The command in a process of its own: exit codes, what it imports, Ctrl-C, no terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.cli import exit_codes
from tests.cli.programs import PROGRAM, call, command, process
from tests.running_daemon import RunningDaemon


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_every_error_has_an_exit_code_and_every_code_a_meaning() -> None:
    raised = [getattr(errors, name) for name in errors.__all__]
    codes = {
        exit_codes.exit_code(cls("x")) for cls in raised if issubclass(cls, errors.PipelineError)
    }
    assert codes <= set(exit_codes.MEANINGS)
    assert exit_codes.OK not in codes
    assert exit_codes.exit_code(errors.RunFailed("x")) == exit_codes.FAILED
    output = errors.SerialisationError("x", reason="OUTPUT_TOO_LARGE")
    assert exit_codes.exit_code(output) == exit_codes.FAILED


def test_help_has_the_exit_codes() -> None:
    text = call(None, "--help").stdout
    for code, meaning in exit_codes.MEANINGS.items():
        assert re.search(rf"^ +{code}  {re.escape(meaning)}$", text, re.MULTILINE)
    for name in ("deploy", "run", "ps", "warm", "timeline", "delete", "schema", "info"):
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE)


@pytest.mark.parametrize("group", [(), ("pointers",), ("files",)])
def test_no_summary_of_a_command_is_cut(group: tuple[str, ...]) -> None:
    summaries = call(None, *group, "--help").stdout.partition("Commands:\n")[2].splitlines()
    assert len(summaries) > 2
    assert [line for line in summaries if line.endswith("...")] == []


def test_no_daemon(tmp_path: Path) -> None:
    result = process(tmp_path, "ps", PIPELINED_ADDRESS="unix:/nowhere/d.sock")
    assert result.returncode == exit_codes.UNAVAILABLE
    assert result.stdout == ""
    assert result.stderr == (
        "error: no daemon answers at unix:/nowhere/d.sock (No such file or directory); "
        "is `pipelined serve` running?\n"
    )


@pytest.mark.parametrize("arguments", [["ps", "--address", "nonsense"], ["nonsense"], ["run"]])
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    result = process(tmp_path, *arguments)
    assert result.returncode == exit_codes.USAGE
    assert "Traceback" not in result.stderr


def test_it_imports_no_model_library(folder: Path, daemon: RunningDaemon) -> None:
    """Starting it is quick, and showing a tensor takes neither torch nor numpy."""
    deploy = ("deploy", "program:vectors", "--name", "imports")
    assert process(folder, *deploy, PIPELINED_ADDRESS=daemon.address).returncode == 0
    script = (
        "import sys\nfrom pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'diffusers') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "run", "imports", "size=3"],
        env={**os.environ, "PIPELINED_ADDRESS": daemon.address},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "float32[3] 0, 1, 2\n[]\n"
    quick = "import sys, pipeline.cli.app\nprint({'torch', 'grpc', 'numpy'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", quick], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_ctrl_c_cancels_the_run(folder: Path, daemon: RunningDaemon) -> None:
    environment = {"PIPELINED_ADDRESS": daemon.address}
    process(folder, "deploy", "program:endless", "--name", "endless", **environment)
    started = folder / "started"
    os.mkfifo(started)
    running = subprocess.Popen(
        command("run", "endless", f"started={started}", f"stop={folder}/stop"),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The run writes to the pipe, which waits for us, as we do for it.
    assert started.read_text() == "started"
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate()
    # For the worker, which may not be interrupted in the middle of a node.
    (folder / "stop").touch()
    assert running.returncode == exit_codes.INTERRUPTED
    assert (stdout, stderr) == ("", "error: interrupted\n")


def test_ctrl_c_leaves_top(daemon: RunningDaemon) -> None:
    environment = {**os.environ, "PIPELINED_ADDRESS": daemon.address, "TERM": "xterm-256color"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("top", "--interval", "0.1"), env=environment, stdin=theirs, stdout=theirs
    ) as running:
        os.close(theirs)
        shown = b""
        while shown.count(b"runs/s") < 2:
            shown += os.read(ours, 4096)
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while os.read(ours, 4096):
                pass
        os.close(ours)
    assert running.returncode == 0


def test_plain_text_without_a_terminal(folder: Path, daemon: RunningDaemon) -> None:
    environment = {"PIPELINED_ADDRESS": daemon.address}
    name = "a-rather-long-name-" * 6 + "end"
    deploy = ("deploy", "program:paint", "--name", name)
    assert process(folder, *deploy, **environment).returncode == 0
    for arguments in (["warm", name], ["timeline", name], ["schema", name], ["ps"], ["info"]):
        result = process(folder, *arguments, **environment)
        assert result.returncode == 0
        assert "\x1b" not in result.stdout + result.stderr
        assert result.stderr == ""
    ascii_locale = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = process(folder, "timeline", name, **environment, **ascii_locale)
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert "#" in result.stdout
    rows = process(folder, "ps", **environment).stdout.splitlines()
    assert any(row.startswith(f"{name}  v1") for row in rows)


def test_colours_and_progress_on_a_terminal(folder: Path, daemon: RunningDaemon) -> None:
    environment = {"PIPELINED_ADDRESS": daemon.address, "TERM": "xterm-256color"}
    process(folder, "deploy", "program:paint", "--name", "terminal", **environment)
    shown = on_a_terminal(command("warm", "terminal"), environment)
    assert "\x1b[" in shown
    assert "Painter.load" in shown
    assert "ready after" in shown
    plain = on_a_terminal(command("ps", "--json"), environment)
    assert json.loads(plain)


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments,
        env={**os.environ, **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:
            # How Linux says that the other side is closed.
            pass
        os.close(ours)
    assert running.returncode == 0
    return shown.decode()
