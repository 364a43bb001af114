"""A machine of its own, booted with systemd in namespaces, for tests of the unit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

BOOT_SECONDS = 60.0
CHECKOUT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
SYSTEMD = Path("/usr/lib/systemd/systemd")
# What is hidden there.
_HIDDEN = (Path("/root"), Path("/tmp"))


def reason_not_to() -> str:
    """Why none can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "booting a systemd in namespaces wants root"
    for program in (str(SYSTEMD), "unshare", "nsenter", "mountpoint"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "mount", "--bind"]
        + ["/", "/"],
        capture_output=True,
        text=True,
        timeout=BOOT_SECONDS,
    )
    return f"unshare does not work here: {probe.stderr.strip()}" if probe.returncode else ""


class BootedSystem:
    """A systemd that is the first process of its own machine, which goes with `close`."""

    def __init__(self) -> None:
        self._groups = _groups()
        wanted = {CHECKOUT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
        hidden = sorted(path for path in wanted if any(path.is_relative_to(h) for h in _HIDDEN))
        namespaces = ("--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--kill-child")
        self._process = subprocess.Popen(
            ["unshare", *namespaces, str(BOOT), *map(str, hidden)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._init = 0
        self._wait_for_systemd()

    def run(self, *command: str, check: bool = True) -> str:
        """Execute something there, and return what it prints."""
        enter = ["nsenter", "-t", str(self._init), "--mount", "--pid", "--cgroup", "--uts", "--ipc"]
        result = subprocess.run(
            [*enter, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
            cwd="/",
        )
        assert not check or result.returncode == 0, (command, result.stdout, result.stderr)
        return result.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && printf %s "$2" > "$1"', "sh", path, text)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in shown.splitlines())

    def close(self) -> None:
        """End all that runs there."""
        init = psutil.Process(self._init)
        self._process.kill()
        self._process.communicate()
        # When the first process has gone, all others have.
        init.wait(BOOT_SECONDS)
        _remove(_groups() - self._groups)

    def _wait_for_systemd(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            for child in psutil.Process(self._process.pid).children():
                if child.name() == "systemd":
                    self._init = child.pid
            if self._init and self.run("systemctl", "is-active", "alone.target", check=False) == (
                "active\n"
            ):
                return
            os.sched_yield()
        self._process.kill()
        output, _ = self._process.communicate()
        raise AssertionError(f"systemd did not boot: {output}")


def _groups() -> set[Path]:
    """The control groups below this process's own, which is where a machine makes its own."""
    found: set[Path] = set()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, name, path = line.split(":", 2)
        trees = {"name=systemd": ("systemd",), "": ("unified", ".")}.get(name, ())
        for folder in trees:
            root = Path("/sys/fs/cgroup") / folder / path.lstrip("/")
            found.update(group.parent for group in root.glob("*/cgroup.procs"))
    return found


def _remove(groups: set[Path]) -> None:
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
