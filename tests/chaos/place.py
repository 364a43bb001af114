"""Where the storm takes place: its folders, and a state directory on a small disk of its own.

With root, or where users may make namespaces (``unshare -rm``), the state directory is a small
tmpfs and /dev/shm is an empty one, both in a mount namespace that ends with the storm. Elsewhere
the state directory is an ordinary folder, and a full disk is stood in for by a limit on the size of
the daemon's files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

STATE_BYTES = 64 << 20
# In the environment of the program that has been started again in namespaces of its own.
_INSIDE = "PIPELINED_STORM_NAMESPACE"
_UNSHARE = ("unshare", "--mount", "--propagation", "private")
_PROBE = "mount -t tmpfs -o size=1m tmpfs /dev/shm"


def enter_namespace(module: str) -> None:
    """Start this program again in a mount namespace of its own; return where that cannot be."""
    if _INSIDE in os.environ:
        return
    for unshare in (_UNSHARE, (*_UNSHARE, "--map-root-user")):
        command = [*unshare, "sh", "-c", _PROBE]
        with contextlib.suppress(OSError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                _again([*unshare, sys.executable, "-m", module, *sys.argv[1:]])


def _again(command: list[str]) -> NoReturn:
    # The path of modules is that of this program, also where it came from the current folder.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, _INSIDE: "1", "PYTHONPATH": path}
    os.execvpe(command[0], command, environment)


class Place:
    """The folders of one storm. Close it.

    Attributes:
        root: Has everything else; what the daemon logs, too.
        state: The state directory.
        notes: For what runs write; beside the state directory workers may make nothing.
        temporary: ``TMPDIR`` of the daemon and all that it starts.
        shared_memory: /dev/shm if nobody else has it, else None.
        own_disk: Whether the state directory is on a small disk of its own.
    """

    def __init__(self, prefix: str = "storm-") -> None:
        self.root = Path(tempfile.mkdtemp(prefix=prefix))
        self.state = self.root / "state"
        self.temporary = self.root / "tmp"
        self.notes = self.root / "notes"
        for folder in (self.state, self.temporary, self.notes):
            folder.mkdir()
        self.shared_memory: Path | None = None
        self.own_disk = False
        if _INSIDE in os.environ:
            _mount(self.state, f"size={STATE_BYTES}")
            _mount(Path("/dev/shm"), "size=1g")
            self.own_disk = True
            self.shared_memory = Path("/dev/shm")

    @property
    def disk(self) -> str:
        """What the state directory is on, for people."""
        if self.own_disk:
            return f"a tmpfs of {STATE_BYTES >> 20} MiB"
        return "the disk of temporary files; that it is full is only simulated (RLIMIT_FSIZE)"

    def close(self) -> None:
        """Remove all of it."""
        if self.own_disk:
            subprocess.run(["umount", "-l", str(self.state)], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def _mount(target: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)]
    subprocess.run(command, check=True)
