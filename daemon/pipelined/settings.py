"""What the operator can choose."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pipelined.core.files import FileLimits
from pipelined.core.runs import RunLimits
from pipelined_api.address import Address

DEFAULT_PINNED_BYTES = 256 << 20
DEFAULT_VERSIONS_KEPT = 10
# Four buffers of a page each, with what reading past the page cache needs beside it: with less the
# loader cannot read and copy at the same time (csrc/weights/cuda/loading_device.hpp).
LEAST_PINNED_BYTES = 48 << 10
# As 64-bit integers have it; nobody has more.
_MOST_BYTES = (1 << 63) - 1
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d*\.?\d+)\s*([smhd]?)\s*")
_SIZE = re.compile(r"\s*\d*\.?\d+\s*[a-z]*\s*", re.IGNORECASE)


class InvalidSize(ValueError):
    """An amount of memory that is none, or out of its bounds; the text says which."""


class InvalidDuration(ValueError):
    """A time that is none; the text says which."""


def parse_duration(text: str) -> float:
    """Return the seconds of a time such as "90s", "12h", "7d" or "3600". Raises InvalidDuration."""
    found = _DURATION.fullmatch(text)
    if found is None or (seconds := float(found[1]) * _SECONDS[found[2]]) <= 0:
        raise InvalidDuration(f"{text!r} is not a time such as 90s, 15m, 12h or 7d")
    return seconds


def default_state_directory() -> Path:
    """``$STATE_DIRECTORY`` (set by systemd), else ``$XDG_STATE_HOME/pipelined``."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "pipelined"


def parse_device_memory(text: str) -> int:
    """Return the bytes of a size such as "2GiB", "1.5GB" or "1000000". Raises InvalidSize."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        # Pydantic stops at what it does not understand: "1,5GB" would be one byte.
        if _SIZE.fullmatch(text) is None:
            raise InvalidSize(f"{text!r} is not a size such as 256MiB, 1.5GB or 1000000")
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise InvalidSize(f"{text!r} has a unit that is not known: use MiB, GB, …") from None
    if size <= 0:
        raise InvalidSize(f"{text!r} is not more than nothing")
    if size > _MOST_BYTES:
        raise InvalidSize(f"{text!r} is more memory than there can be")
    return size


def parse_pinned_memory(text: str) -> int:
    """Return the bytes of a size, as ``parse_device_memory``, that the loader can work with."""
    size = parse_device_memory(text)
    if size < LEAST_PINNED_BYTES:
        raise InvalidSize(
            f"{text!r} is less than {LEAST_PINNED_BYTES >> 10}KiB, without which nothing can be "
            "loaded onto a device"
        )
    return size


@dataclass(frozen=True, slots=True)
class Settings:
    """How a daemon is to run.

    Attributes:
        addresses: Where it listens; at least one.
        state_directory: Where deployments are kept.
        preload: Modules that the nursery imports; None for the default list.
        drain_seconds: How long runs in progress may take to end when the daemon stops.
        pinned_bytes: Host memory that each worker may pin to load weights onto devices.
        device_bytes: What each worker's weights may take of each device; None for all that it has.
        files: What may be kept of uploaded files and of those that runs give back.
        versions_kept: Newest versions of each deployment that are kept; at least 1.
        runs: What may be kept of runs that have ended.
        url_hosts: Where workers may fetch files from by their URL.
    """

    addresses: tuple[Address, ...]
    state_directory: Path = field(default_factory=default_state_directory)
    preload: tuple[str, ...] | None = None
    drain_seconds: float = 30.0
    pinned_bytes: int = DEFAULT_PINNED_BYTES
    device_bytes: int | None = None
    files: FileLimits = field(default_factory=FileLimits)
    versions_kept: int = DEFAULT_VERSIONS_KEPT
    runs: RunLimits = field(default_factory=RunLimits)
    url_hosts: tuple[str, ...] = ()
