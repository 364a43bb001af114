"""Runs clang-tidy on sources, longest first; what passed as it is now is not looked at again.

What counts as the same is what ``compiling`` counts: the tool, its configuration, the arguments,
the source and the headers of ours that it includes, directly or not.

    python -m tests.cpp.tidy SOURCE… -- ARGUMENT OF THE COMPILER…
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cpp.compiling import ROOT, closure

_PASSED = ROOT / "build" / "tidy"
_TOOL = Path(sys.executable).with_name("clang-tidy")


def main(arguments: list[str]) -> int:
    """Check the sources; return 1 if something is wrong with one of them."""
    split = arguments.index("--")
    flags = arguments[split + 1 :]
    _PASSED.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([_TOOL, "--version"], capture_output=True, text=True, check=True)
    marks = {}
    for name in arguments[:split]:
        source = Path(name).resolve()
        files = closure(source)
        content = [version.stdout, *flags, *map(str, files)]
        content += [path.read_bytes().hex() for path in (*_configurations(source), *files)]
        marks[source] = _PASSED / hashlib.sha256("\0".join(content).encode()).hexdigest()[:24]
    changed = [source for source, mark in marks.items() if not mark.exists()]
    # A long one that is begun last would have the other cores wait for it.
    changed.sort(key=lambda source: source.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = list(pool.map(lambda source: _check(source, flags), changed))
    for source, good in zip(changed, passed, strict=True):
        if good:
            marks[source].touch()
    for old in set(_PASSED.iterdir()) - set(marks.values()):
        old.unlink()
    return 0 if all(passed) else 1


def _configurations(source: Path) -> list[Path]:
    """The nearest comes first, as clang-tidy looks for them."""
    paths = [folder / ".clang-tidy" for folder in source.parents if folder.is_relative_to(ROOT)]
    return [path for path in paths if path.exists()]


def _check(source: Path, flags: list[str]) -> bool:
    done = subprocess.run(
        [_TOOL, "--quiet", source, "--", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # In one piece: others write, too.
    sys.stdout.write(done.stdout)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
