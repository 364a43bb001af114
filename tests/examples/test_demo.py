"""The demo as a user runs it, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
END_SECONDS = 170


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files, with a name that is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="d-") as folder:
        yield Path(folder)


@pytest.fixture
def demo(tmp_path: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, under way in a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "client" / "examples" / "demo.py")],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_it_ranks_sentences_and_saves_images(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    printed, errors = demo.communicate(timeout=END_SECONDS)
    assert demo.returncode == 0, printed + errors
    # The sentence that answers the query comes first.
    ranked = re.findall(r"(-?\d\.\d{3})\s*│\s*(\w+ \w+)", printed)
    assert ranked[0][1] == "The daemon"
    assert "random weights" in printed
    assert "small-stable-diffusion" in printed
    assert "SentenceEncoder.load" in printed
    assert "StableDiffusionModel.load" in printed
    for name in ("embeddings", "stable diffusion"):
        cells = (name, r"\d+\.\d+", r"\d+\.\d+ \(\d+x sooner\)", r"\d+\.\d+")
        assert re.search(r"\s*│\s*".join(cells), printed), printed
    images = sorted((tmp_path / "demo-output").iterdir())
    assert [path.name for path in images] == ["image-0.jpg", "image-1.jpg"]
    pixels = [np.asarray(Image.open(path)) for path in images]
    assert not np.array_equal(pixels[0], pixels[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_daemon_too(
    demo: subprocess.Popen[str], number: signal.Signals, code: int, temporary: Path
) -> None:
    assert demo.stdout is not None
    line = next(line for line in demo.stdout if "daemon is ready" in line)
    assert "imports took" in line
    children = psutil.Process(demo.pid).children(recursive=True)
    assert any("serve" in child.cmdline() for child in children)
    demo.send_signal(number)
    demo.communicate(timeout=END_SECONDS)
    assert demo.returncode == code
    _, alive = psutil.wait_procs(children, timeout=END_SECONDS)
    assert not alive
    # Other libraries leave folders of theirs.
    assert not list(temporary.glob("pipelined-*"))
