"""Runs Python source in a process of its own, as a user's script."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run_script(path: Path, source: str, *args: str, cwd: Path | None = None, seed: int = 0) -> str:
    """Write ``source`` to ``path``, run it as ``__main__`` and return what it printed."""
    path.write_text(textwrap.dedent(source))
    return run_python([str(path), *args], cwd=cwd or path.parent, seed=seed)


def run_python(args: list[str], *, cwd: Path, seed: int = 0) -> str:
    """Run the interpreter; a failure shows what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
