"""What keeps user code from the daemon on this machine: found out at the start, and told."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from pipelined.credentials import Credentials
from pipelined.nursery.worker_user import WorkerUser, WorkerUserError, find_worker_user
from pipelined.settings import ConfinementMode, WorkerSettings
from pipelined.store.directory import StateDirectory
from pipelined.worker import landlock, privileges
from pipelined.worker.confinement import Confinement
from pipelined_api.v1 import daemon_pb2

# Of the XDG Base Directory Specification, which wants this mode, too.
_EVERYDAY_FOLDERS = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
}

log = structlog.get_logger()


class IsolationError(Exception):
    """Workers cannot be kept from the daemon as the settings want it; the text says why."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What holds.

    Attributes:
        confinement: What workers do to themselves; None for nothing.
        user: What they run as; None for the daemon's own user.
    """

    confinement: Confinement | None
    user: WorkerUser | None

    def message(self) -> daemon_pb2.Isolation:
        """As Daemon.Info tells it."""
        abi = 0 if self.confinement is None else self.confinement.landlock_abi
        return daemon_pb2.Isolation(
            landlock_abi=abi,
            signals_scoped=landlock.scopes_signals(abi),
            worker_user="" if self.user is None else self.user.name,
        )


def isolate(settings: WorkerSettings, state: StateDirectory, credentials: Credentials) -> Isolation:
    """Decide what workers are kept from, and by what; say so in the log.

    Raises:
        IsolationError: The kernel or the privileges that it takes are not there.
    """
    try:
        user = None if settings.user is None else find_worker_user(settings.user)
    except WorkerUserError as error:
        raise IsolationError(str(error)) from None
    abi = landlock.abi()
    usable = abi >= landlock.LEAST_ABI
    if settings.confinement is ConfinementMode.REQUIRED and not usable:
        raise IsolationError(
            f"workers cannot be confined: this kernel has Landlock {abi or 'not at all'}, and "
            f"{landlock.LEAST_ABI} is needed (workers.confinement is 'required')"
        )
    confinement = None
    if settings.confinement is not ConfinementMode.OFF:
        # Links are followed here: workers of another user may not be able to.
        home = state.path.resolve()
        paths = [path.resolve() for path in credentials.secret_paths()]
        readable: tuple[str, ...] = ()
        if user is None:
            paths.append(home)
            readable = (str(state.files.resolve()),)
        else:
            # Its folders are closed to another user, who can open nothing there to make rules of.
            paths = [path for path in paths if home not in path.parents]
        confinement = Confinement(tuple(map(str, paths)), readable, abi if usable else 0)
    if confinement is not None and confinement.landlock_abi and user is None:
        _make_everyday_folders()
    isolation = Isolation(confinement, user)
    told = isolation.message()
    tell = log.info if told.landlock_abi or told.worker_user else log.warning
    tell(
        "isolation of workers",
        landlock=told.landlock_abi or "none",
        signals="scoped" if told.signals_scoped else "not scoped",
        user=told.worker_user or "the daemon's own",
    )
    return isolation


def _make_everyday_folders() -> None:
    """Make the folders that libraries keep caches and settings in, of this user, if they lack.

    The state directory is below the same home by default, so that workers cannot make them.
    """
    for variable, default in _EVERYDAY_FOLDERS.items():
        given = os.environ.get(variable, "")
        # A user without a home has none of them.
        with contextlib.suppress(OSError, RuntimeError):
            path = Path(given) if given.startswith("/") else Path.home() / default
            path.mkdir(mode=0o700, parents=True, exist_ok=True)


def hide_process() -> None:
    """Keep other processes of this user from tracing this one and from looking into its memory."""
    privileges.set_dumpable(False)
