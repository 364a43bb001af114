"""Another user than the daemon's for the nursery and its workers."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from pipelined.worker.privileges import FOR_ANOTHER_USER, effective_capabilities


class WorkerUserError(Exception):
    """Workers cannot run as that user; the text says why."""


@dataclass(frozen=True, slots=True)
class WorkerUser:
    """A user, with the numbers of its groups.

    Attributes:
        name: As the system knows it.
        uid: Its number.
        gid: Of its own group.
        groups: Of all of its groups.
        home: Its home folder.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def variables(self) -> dict[str, str]:
        """What its processes have in place of the daemon's."""
        return {"HOME": self.home, "LOGNAME": self.name, "USER": self.name}


def find_worker_user(name: str) -> WorkerUser:
    """Return the user of that name, as which this process can start others.

    Raises:
        WorkerUserError: There is none, it is root or the daemon's own, or the daemon may not.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise WorkerUserError(f"workers cannot run as {name!r}: there is no such user") from None
    if entry.pw_uid in (0, os.geteuid()):
        whose = "root" if entry.pw_uid == 0 else "the daemon's own user"
        raise WorkerUserError(f"workers cannot run as {name!r}: it is {whose}, not another one")
    have = effective_capabilities()
    if missing := [each for each, number in FOR_ANOTHER_USER.items() if number not in have]:
        raise WorkerUserError(
            f"workers cannot run as {name!r}: the daemon lacks {', '.join(missing)}"
        )
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    if (own := {os.getegid(), *os.getgroups()} & set(groups)) and os.geteuid() != 0:
        # The socket, for one, is for that group.
        names = ", ".join(sorted(grp.getgrgid(each).gr_name for each in own))
        raise WorkerUserError(f"workers cannot run as {name!r}: it has the daemon's group {names}")
    return WorkerUser(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)
