"""The files that make a service of systemd of the daemon: written, and removed again."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

# As the units name it; replaced by the one that is installed.
_EXECUTABLE = "/usr/bin/pipelined"
# What ProtectHome=yes hides.
_HOMES = ("/home", "/root", "/run/user")


class Scope(Enum):
    """Whose service it is."""

    SYSTEM = "system"
    USER = "user"


class Action(Enum):
    """What becomes of a file; the values are for people."""

    WRITE = "write"
    # Somebody has changed it: only if that is wanted.
    REPLACE = "replace"
    # It is what it should be already.
    LEAVE = "unchanged"
    # Somebody's own, such as a configuration.
    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Step:
    """One file, and what is to become of it."""

    path: Path
    content: bytes
    action: Action


class SystemdError(Exception):
    """A file cannot be written or removed; the text names it and says why."""


def install_steps(scope: Scope, prefix: Path, executable: Path) -> Sequence[Step]:
    """What installing has to do.

    Args:
        scope: Whose service.
        prefix: A folder that stands for the root of the file system.
        executable: The command ``pipelined``, absolute.

    Raises:
        SystemdError: A file that is there cannot be read.
    """
    steps = []
    for path, content, is_ours in _files(scope, prefix, executable):
        before = _read(path)
        if before is None:
            action = Action.WRITE
        elif before == content:
            action = Action.LEAVE
        else:
            action = Action.REPLACE if is_ours else Action.KEEP
        steps.append(Step(path, content, action))
    return steps


def uninstall_steps(scope: Scope, prefix: Path, executable: Path) -> Sequence[Step]:
    """What removing has to do: the configuration and the state stay.

    Raises:
        SystemdError: A file that is there cannot be read.
    """
    steps = []
    for path, content, is_ours in _files(scope, prefix, executable):
        before = _read(path)
        if before is None:
            continue
        if not is_ours:
            action = Action.KEEP
        else:
            action = Action.REMOVE if before == content else Action.REPLACE
        steps.append(Step(path, content, action))
    return steps


def write(step: Step) -> None:
    """Write the file of a step, whole or not at all. Raises SystemdError."""
    try:
        step.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=step.path.parent, prefix=f".{step.path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(step.content)
                os.fchmod(descriptor, 0o644)
            Path(name).replace(step.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SystemdError(f"{step.path} cannot be written: {error.strerror}") from error


def remove(step: Step) -> None:
    """Remove the file of a step. Raises SystemdError."""
    try:
        step.path.unlink(missing_ok=True)
    except OSError as error:
        raise SystemdError(f"{step.path} cannot be removed: {error.strerror}") from error


def is_in_a_home(executable: Path) -> bool:
    """Whether it, or the Python that runs it, is where a hardened service sees nothing."""
    paths = {executable, executable.resolve(), Path(sys.prefix), Path(sys.base_prefix)}
    return any(path.is_relative_to(home) for path in paths for home in _HOMES)


def _files(scope: Scope, prefix: Path, executable: Path) -> list[tuple[Path, bytes, bool]]:
    """Path, content and whether nobody else is to change it, of each file."""
    if scope is Scope.USER:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        home = prefix / config.relative_to("/")
        unit = home / "systemd" / "user" / "pipelined.service"
        return [
            (unit, _unit("pipelined-user.service", executable), True),
            (home / "pipelined" / "pipelined.toml", _packaged("pipelined.toml"), False),
        ]
    etc = prefix / "etc"
    unit = etc / "systemd" / "system" / "pipelined.service"
    return [
        (unit, _unit("pipelined.service", executable), True),
        (etc / "sysusers.d" / "pipelined.conf", _packaged("pipelined.sysusers"), True),
        (etc / "tmpfiles.d" / "pipelined.conf", _packaged("pipelined.tmpfiles"), True),
        (etc / "pipelined" / "pipelined.toml", _packaged("pipelined.toml"), False),
    ]


def _unit(name: str, executable: Path) -> bytes:
    text = _packaged(name).decode()
    text = text.replace(f"ExecStart={_EXECUTABLE}", f"ExecStart={_quoted(executable)}")
    if is_in_a_home(executable):
        text = text.replace("ProtectHome=yes", "ProtectHome=read-only")
    return text.encode()


def _quoted(executable: Path) -> str:
    """A path as ExecStart= takes it."""
    text = str(executable).replace("%", "%%").replace("$", "$$")
    if all(character.isalnum() or character in "/._-+%$" for character in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _packaged(name: str) -> bytes:
    return resources.files("pipelined").joinpath("packaging", name).read_bytes()


def _read(path: Path) -> bytes | None:
    try:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
    except OSError as error:
        raise SystemdError(f"{path} cannot be read: {error.strerror}") from error
    return None
