"""What README tells a newcomer to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_daemon import RunningDaemon

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOCKET = "unix:/tmp/pipelined.sock"
# Printed by `make demo` and `make bench`: what a command prints cannot be typed.
TRANSCRIPT = "text"


def blocks(language: str) -> list[str]:
    readme = (ROOT / "README.md").read_text()
    return [text for tag, text in BLOCK.findall(readme) if tag == language]


def test_every_block_is_code_or_a_transcript() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {tag for tag, _ in BLOCK.findall(readme)} == {"python", "sh", TRANSCRIPT}


def test_make_targets_exist() -> None:
    targets = [
        line.split()[1]
        for text in blocks("sh")
        for line in text.splitlines()
        if line.startswith("make ")
    ]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_program_and_the_commands(daemon: RunningDaemon, tmp_path: Path) -> None:
    [program] = blocks("python")
    assert program.startswith("# greeter.py")
    (tmp_path / "greeter.py").write_text(program.replace(SOCKET, daemon.address))
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    result = subprocess.run(
        [sys.executable, "greeter.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "['Hello, here!']\n['Hello, there!']\n" in result.stdout
    [commands] = [text for text in blocks("sh") if "pipeline deploy" in text]
    script = commands.replace(SOCKET, daemon.address)
    result = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert result.returncode == 0, result.stderr
    assert "Hello, you!" in result.stdout
    with daemon.client() as client:
        assert "greeter" not in [deployment.name for deployment in client.list()]


def test_the_daemon_starts_as_written() -> None:
    [command] = [line for text in blocks("sh") for line in text.splitlines() if " serve " in line]
    assert command == f".venv/bin/pipelined serve --address {SOCKET}"


@pytest.mark.parametrize("link", ["CONTRIBUTING.md", "CHANGELOG.md", "client/examples"])
def test_links_lead_somewhere(link: str) -> None:
    assert f"]({link})" in (ROOT / "README.md").read_text()
    assert (ROOT / link).exists()
