"""The commands that the examples' own documentation gives, as it gives them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import NotFound
from tests.running_daemon import RunningDaemon

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "client" / "examples"


def documented(example: str) -> list[list[str]]:
    """The indented lines of a program's docstring that start with the command's name."""
    text = (EXAMPLES / example).read_text().split('"""')[1]
    return [shlex.split(line) for line in re.findall(r"^ {4}(pipeline .+)$", text, re.MULTILINE)]


@pytest.mark.parametrize(
    ("example", "saved"), [("embeddings.py", []), ("stable_diffusion.py", ["image-0.jpg"])]
)
def test_deploying_and_running_as_documented(
    daemon: RunningDaemon, example: str, saved: list[str], tmp_path: Path
) -> None:
    deploy, run = documented(example)
    name = deploy[-1]
    run = [*run, "--json", "--output-dir", str(tmp_path)]
    try:
        for command in (deploy, run):
            finished = subprocess.run(
                [str(Path(sys.executable).with_name("pipeline")), *command[1:]],
                cwd=ROOT,
                env={**os.environ, "PIPELINED_ADDRESS": daemon.address},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert finished.returncode == 0, finished.stderr
    finally:
        # Not there if the first command failed.
        with daemon.client() as client, contextlib.suppress(NotFound):
            client.delete(name)
    assert json.loads(finished.stdout)
    assert [path.name for path in sorted(tmp_path.iterdir())] == saved
