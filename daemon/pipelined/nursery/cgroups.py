"""Control groups (version 2) for workers, where the daemon has been given a subtree to manage.

The daemon's own group may have no processes when its controllers are handed on, so the daemon moves
into a leaf of it, ``daemon``, and each worker gets one beside that. See cgroups(7) and "Delegation"
in the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from pipelined.core.errors import Excess

_LEAF = "daemon"
_WORKERS = "worker-"
# Killed for whatever limit, and allocations that failed at the limit of the group itself.
_OOM_KILLS = re.compile(r"^oom_kill [1-9]", re.MULTILINE)
_AT_LIMIT = re.compile(r"^oom [1-9]", re.MULTILINE)
# What killed processes have to be gone.
_GONE_SECONDS = 5.0


class NotDelegated(Exception):
    """There is no subtree to manage; the text says why."""


class Cgroup:
    """The group of one worker.

    Args:
        path: Its folder, which is made.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path

    def add(self, pid: int) -> None:
        """Move a process into it; what that starts from then on is in it, too."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def limit_memory(self, size: int) -> None:
        """Let all its processes have so many bytes, and kill all of them where they want more."""
        (self.path / "memory.oom.group").write_text("1")
        (self.path / "memory.max").write_text(str(size))
        swap = self.path / "memory.swap.max"
        if swap.exists():
            # It would only put off the end, and slow down everybody.
            swap.write_text("0")

    def killed_for(self) -> Excess | None:
        """What memory the system has killed processes of it for: its own, or the machine's."""
        try:
            events = (self.path / "memory.events").read_text()
        except OSError:
            return None
        if _OOM_KILLS.search(events) is None:
            return None
        return Excess.HOST_MEMORY if _AT_LIMIT.search(events) is None else Excess.MEMORY

    def remove(self) -> None:
        """Kill what is left in it, and remove it; waits for that. Never raises."""
        deadline = time.monotonic() + _GONE_SECONDS
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        # If it stays, the next daemon tries again.
        while not self._removed() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _removed(self) -> bool:
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return not self.path.exists()


class Cgroups:
    """The subtree of this daemon: takes it over, and gives it back when it is closed.

    Args:
        root: The file system to look into.

    Raises:
        NotDelegated: There is none.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = _own_group(root)
        _check_delegated(self._path)
        self._leaf = self._path / _LEAF
        try:
            self._take_over()
        except OSError as error:
            self.close()
            raise NotDelegated(f"it cannot be taken over: {error.strerror}") from None

    def make(self, worker_id: str) -> Cgroup | None:
        """Make the group of a worker; None where that fails."""
        try:
            return Cgroup(self._path / f"{_WORKERS}{worker_id}")
        except OSError:
            return None

    def close(self) -> None:
        """Leave the group as it was found, so that a daemon can be started in it again."""
        self._remove_stale()
        for file, value in (
            (self._path / "cgroup.subtree_control", "-memory"),
            (self._path / "cgroup.procs", str(os.getpid())),
        ):
            with contextlib.suppress(OSError):
                file.write_text(value)
        with contextlib.suppress(OSError):
            self._leaf.rmdir()

    def _take_over(self) -> None:
        self._remove_stale()
        self._leaf.mkdir(exist_ok=True)
        (self._leaf / "cgroup.procs").write_text(str(os.getpid()))
        (self._path / "cgroup.subtree_control").write_text("+memory")

    def _remove_stale(self) -> None:
        """Remove the groups of workers, of a daemon before this one, too."""
        for path in self._path.glob(f"{_WORKERS}*"):
            group = Cgroup.__new__(Cgroup)
            group.path = path
            group.remove()


def _own_group(root: Path) -> Path:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError as error:
        raise NotDelegated(f"/proc cannot be read: {error.strerror}") from None
    own = next((line[3:] for line in groups if line.startswith("0::")), None)
    for mount in mounts:
        fields = mount.split()
        # Optional fields end with a hyphen; see proc_pid_mountinfo(5).
        kind = fields[fields.index("-") + 1]
        if kind == "cgroup2" and own is not None:
            inside, place = fields[3], fields[4]
            if own == inside or own.startswith(inside.rstrip("/") + "/"):
                below = own[len(inside.rstrip("/")) :]
                return root / f"{place}{below}".lstrip("/")
    raise NotDelegated("there are no control groups of version 2")


def _check_delegated(path: Path) -> None:
    try:
        controllers = (path / "cgroup.controllers").read_text().split()
        processes = (path / "cgroup.procs").read_text().split()
    except OSError as error:
        raise NotDelegated(f"the daemon's control group cannot be read: {error.strerror}") from None
    if "memory" not in controllers:
        raise NotDelegated("the memory controller is not available in the daemon's control group")
    if not os.access(path, os.W_OK) or not os.access(path / "cgroup.subtree_control", os.W_OK):
        raise NotDelegated("the daemon's control group is not its own to change")
    if processes != [str(os.getpid())]:
        raise NotDelegated("there are other processes in the daemon's control group")
