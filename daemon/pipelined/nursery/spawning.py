"""Starts the daemon's child processes by exec; the daemon itself never forks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from pipelined.nursery.worker_user import WorkerUser

# Not the folder that the daemon happens to run in: a module there must not shadow another.
_SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()


def spawn(
    module: str,
    channel: int,
    output: int,
    environment: Mapping[str, str],
    user: WorkerUser | None = None,
) -> int:
    """Start ``python -m module CHANNEL`` in a session of its own and return its process id.

    Args:
        module: What to run.
        channel: File descriptor that it inherits under the same number.
        output: Becomes its standard output and error.
        environment: All of its variables.
        user: What it runs as; None for the daemon's own.

    Raises:
        OSError: It cannot be started, for instance for lack of memory.
    """
    process = subprocess.Popen(
        [sys.executable, *_SAFE_PATH, "-m", module, str(channel)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        pass_fds=(channel,),
        start_new_session=True,
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else user.groups,
        # Not a folder that only the daemon's user can be in.
        cwd=None if user is None else "/",
    )
    # The reaper waits for it. Popen must not: it would take the status away from it.
    process.returncode = 0
    return process.pid
