"""Virtual environments of the programs that ours is compared with, made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".cache" / "peers"


def python_in(
    name: str, requirements: Sequence[str], *, constraints: str = "", shared: bool = False
) -> Path:
    """The interpreter of an environment, which is made unless it is there.

    Args:
        name: of its folder.
        requirements: what pip is asked for.
        constraints: lines that pip has to keep to.
        shared: what the environment that runs this has can be imported, too.

    Raises:
        subprocess.CalledProcessError: with what pip said, where it does not install.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _make(folder, python, requirements, constraints, shared=shared)
        except subprocess.CalledProcessError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        (folder / "complete").touch()
    return python


def _make(
    folder: Path, python: Path, requirements: Sequence[str], constraints: str, *, shared: bool
) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    if shared:
        theirs = _run(
            str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        )
        ours = Path(sysconfig.get_paths()["purelib"])
        Path(theirs.strip(), "shared.pth").write_text(f"{ours}\n")
    kept = folder / "constraints.txt"
    kept.write_text(constraints)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "--constraint", str(kept), *requirements)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
