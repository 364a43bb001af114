"""Files made to exhaust their reader, read under limits of memory by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.weights.attack import ATTACKS


def test_no_file_exhausts_the_loader(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "tests.weights.attack", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(ATTACKS)
