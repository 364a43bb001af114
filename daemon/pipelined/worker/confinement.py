"""Keeps user code from the daemon: from its state, its secrets, its processes.

Each worker confines itself before any user code is in it, and cannot go back. It is no sandbox:
whatever else the user of the process may do, user code may. SECURITY.md says what holds where.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelined.worker import landlock, privileges


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a worker is kept from.

    Attributes:
        paths: Files and folders.
        readable: Folders in them whose files can still be read. Those of the store of files: a run
            gets descriptors of its inputs, and what opens their names again opens them anew.
        landlock_abi: Version of Landlock to do it with; 0 for not at all.
    """

    paths: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    landlock_abi: int = 0

    @classmethod
    def from_text(cls, text: str) -> Confinement | None:
        """Read ``to_text``."""
        if not text:
            return None
        fields = json.loads(text)
        return cls(tuple(fields["paths"]), tuple(fields["readable"]), int(fields["landlock_abi"]))


def to_text(confinement: Confinement | None) -> str:
    """As a child process is told; empty for None."""
    return "" if confinement is None else json.dumps(asdict(confinement))


def confine(confinement: Confinement | None) -> None:
    """Confine this process, which has one thread, and all that it starts.

    Raises:
        OSError: The kernel does not do it; there must be no user code in this process then.
    """
    if confinement is None:
        return
    privileges.drop_capabilities()
    privileges.gain_none()
    if confinement.landlock_abi:
        landlock.deny(
            map(Path, confinement.paths), confinement.landlock_abi, map(Path, confinement.readable)
        )
    # With Landlock workers cannot trace each other anyway, and whoever runs the daemon can look
    # into one with a debugger. Being dumpable does not survive the nursery, whose forks they are.
    privileges.set_dumpable(bool(confinement.landlock_abi))


def drop_daemon_privileges() -> None:
    """Give up what a process that is to become workers has no use for, before it imports anything.

    The nursery stays out of sight of user code; what workers give up comes when they are forked.
    """
    if os.geteuid() != 0:
        privileges.drop_capabilities()
    privileges.set_dumpable(False)
