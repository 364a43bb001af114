"""The commands that the examples' own documentation gives, as it gives them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import NotFound
from tests.running_daemon import RunningDaemon

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "client" / "examples"
PHOTO = "photo.jpg"
# What the first command prints, and which files the two save.
EXPECTED = {
    "chain.py": (r"^0\.\d{3}  The garden", set()),
    "embeddings.py": (r"^embeddings v1", set()),
    "image_to_image.py": (r"^Saved .*image-0\.png$", {"image-0.png", "image-0-1.png"}),
    "stable_diffusion.py": (r"^sd v1", {"image-0.jpg"}),
    "stateful.py": (r"^55\.0 °C is unusual: reading 3 of the kitchen", set()),
    "summarisation.py": (r"^\(40 tokens\)$", set()),
    "text_generation.py": (r"^The keeper of the lighthouse.+", set()),
}


def documented(example: str) -> list[list[str]]:
    """The indented lines of a program's docstring that are commands."""
    text = (EXAMPLES / example).read_text().split('"""')[1]
    lines = re.findall(r"^ {4}((?:pipeline|python) .+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("example", EXPECTED)
def test_deploying_and_running_as_documented(
    daemon: RunningDaemon, example: str, tmp_path: Path
) -> None:
    printed, saved = EXPECTED[example]
    folder = tmp_path / "saved"
    folder.mkdir()
    Image.new("RGB", (80, 48), "teal").save(tmp_path / PHOTO)
    first, run = documented(example)
    name = first[-1] if "deploy" in first else Path(example).stem
    assert run[:3] == ["pipeline", "run", name]
    if "--output-dir" in first:
        first[first.index("--output-dir") + 1] = str(folder)
    try:
        outputs = [
            finished(daemon, [part.replace(PHOTO, str(tmp_path / PHOTO)) for part in command])
            for command in (first, [*run, "--json", "--output-dir", str(folder)])
        ]
    finally:
        # Not there if the first command failed.
        with daemon.client() as client, contextlib.suppress(NotFound):
            client.delete(name)
    assert re.search(printed, outputs[0], re.MULTILINE), outputs[0]
    # One document, or one on each line where the output streams.
    assert outputs[1].startswith("{")
    assert {path.name for path in folder.iterdir()} == saved


def finished(daemon: RunningDaemon, command: list[str]) -> str:
    """What the command prints; it has to succeed."""
    result = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=ROOT,
        env={**os.environ, "PIPELINED_ADDRESS": daemon.address},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
