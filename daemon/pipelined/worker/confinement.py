"""Keeps user code from the daemon: from its state, its secrets, its processes.

Each worker confines itself before any user code is in it, and cannot go back. It is no sandbox:
whatever else the user of the process may do, user code may. SECURITY.md says what holds where.
"""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelined.worker import landlock, privileges

VARIABLE = "PIPELINED_CONFINEMENT"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a worker is kept from.

    Attributes:
        paths: Files and folders.
        landlock_abi: Version of Landlock to do it with; 0 for not at all.
    """

    paths: tuple[str, ...] = ()
    landlock_abi: int = 0

    def to_text(self) -> str:
        """As a child process is told."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Confinement:
        """Read ``to_text``."""
        fields = json.loads(text)
        return cls(tuple(fields["paths"]), int(fields["landlock_abi"]))


def take_from(environment: MutableMapping[str, str]) -> Confinement | None:
    """Return what a process was told by its parent, and leave no trace of it."""
    text = environment.pop(VARIABLE, None)
    return None if text is None else Confinement.from_text(text)


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
        landlock.deny([Path(path) for path in confinement.paths], confinement.landlock_abi)
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
