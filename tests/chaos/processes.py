"""The processes of the storm, found by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

STORM = "CHAOS_STORM"
LIFE = "CHAOS_LIFE"


@dataclass(frozen=True)
class Marked:
    """A process that a daemon of this storm has started, directly or not; or the daemon itself.

    Attributes:
        pid: Its process.
        life: Which daemon, counted from 1.
        command: For people.
    """

    pid: int
    life: int
    command: str


def marked(storm: str) -> list[Marked]:
    """Return the living processes that carry the storm's mark; zombies are not living."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if f"{STORM}={storm}".encode() not in variables:
                continue
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state in "ZX":
                continue
            life = next((v[len(LIFE) + 1 :] for v in variables if v.startswith(LIFE.encode())), b"")
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            found.append(Marked(int(folder.name), int(life or b"0"), command[:120]))
    return found


def end_all(storm: str) -> None:
    """Kill everything that carries the mark: the storm leaves nothing, whatever it has found."""
    for process in marked(storm):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def status_of(pid: int) -> dict[str, str]:
    """Return what /proc/PID/status says; empty if there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if there is none."""
    return int(status_of(pid).get("VmRSS", "0 kB").split()[0]) * 1024


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal; without one SIGHUP would end it."""
    return bool(int(status_of(pid).get("SigCgt", "0"), 16) >> (number - 1) & 1)


def descriptors(pid: int) -> dict[int, str]:
    """Return what each open file descriptor of a process refers to."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = str(entry.readlink())
    return found


def memory_files(pid: int) -> int:
    """How many memfds a process has open."""
    return sum(target.startswith("/memfd:") for target in descriptors(pid).values())
