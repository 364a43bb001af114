"""What the operator can choose."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipelined_api.address import Address


def default_state_directory() -> Path:
    """``$STATE_DIRECTORY`` (set by systemd), else ``$XDG_STATE_HOME/pipelined``."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "pipelined"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a daemon is to run.

    Attributes:
        addresses: Where it listens; at least one.
        state_directory: Where deployments are kept.
        preload: Modules that the nursery imports; None for the default list.
        drain_seconds: How long runs in progress may take to end when the daemon stops.
    """

    addresses: tuple[Address, ...]
    state_directory: Path = field(default_factory=default_state_directory)
    preload: tuple[str, ...] | None = None
    drain_seconds: float = 30.0
