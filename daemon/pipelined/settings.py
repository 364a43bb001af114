"""What the operator can choose: one section of the configuration file after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipelined.core.files import FileLimits
from pipelined.core.runs import RunLimits
from pipelined.units import parse_duration, parse_pinned_size, parse_size
from pipelined_api.address import Address, default_address, parse_address
from pipelined_api.url_hosts import UrlHosts

_FILES = FileLimits()
_RUNS = RunLimits()


class LogFormat(str, Enum):
    """How a line of the log looks."""

    CONSOLE = "console"
    JSON = "json"


def parse_log_format(text: str) -> LogFormat:
    """Return the format that is called so. Raises ValueError, which names them all."""
    try:
        return LogFormat(text)
    except ValueError:
        known = ", ".join(known.value for known in LogFormat)
        raise ValueError(f"{text!r} is none of: {known}") from None


def default_state_directory() -> Path:
    """``$STATE_DIRECTORY`` (set by systemd), else ``$XDG_STATE_HOME/pipelined``."""
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "pipelined"


def _number(parse: Callable[[str], Any]) -> BeforeValidator:
    """Take numbers and texts, but nothing else that has a text: True, for one."""

    def parsed(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"{value!r} is neither a number nor a text")
        return parse(str(value))

    return BeforeValidator(parsed)


def _text(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _sequence(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _url_hosts(entries: object) -> object:
    if isinstance(entries, (list, tuple)) and all(isinstance(entry, str) for entry in entries):
        return UrlHosts(list(entries)).entries
    return entries


Size = Annotated[int, _number(parse_size)]
Duration = Annotated[float, _number(parse_duration)]
DurationOrZero = Annotated[float, _number(lambda text: parse_duration(text, least=-1e-9))]
ListenAddress = Annotated[Address, _text(parse_address)]
AbsolutePath = Annotated[Path, _text(lambda text: Path(text).expanduser().absolute())]
Texts = Annotated[tuple[str, ...], BeforeValidator(_sequence)]


class Section(BaseModel):
    """One table of the configuration file. A key that is not known is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class DaemonSettings(Section):
    """The process as a whole."""

    addresses: Annotated[
        tuple[ListenAddress, ...], BeforeValidator(_sequence), Field(min_length=1)
    ] = Field(default_factory=lambda: (parse_address(default_address()),))
    """Where it listens."""
    state_directory: AbsolutePath = Field(default_factory=default_state_directory)
    """Where deployments, runs and files are kept."""
    drain: DurationOrZero = 30.0
    """Seconds that runs in progress may take to end when the daemon stops."""


class LogSettings(Section):
    """The log on stderr."""

    format: Annotated[LogFormat, _text(parse_log_format)] = LogFormat.CONSOLE
    """How a line looks."""
    debug: bool = False
    """Log more: also what libraries have to say."""


class NurserySettings(Section):
    """The process that workers are forked from."""

    preload: Texts | None = None
    """Modules, or module:attribute, that it imports; none given: the default list."""


class WeightsSettings(Section):
    """What the loader may take, in bytes."""

    pinned_memory: Annotated[int, _number(parse_pinned_size)] = 256 << 20
    """Host memory that each worker may pin to load weights onto devices."""
    device_memory: Size | None = None
    """What each worker's weights may take of each device; none given: all that it has."""


class FileSettings(Section):
    """Uploaded files, and those that runs give back."""

    max_size: Size = _FILES.file_bytes
    """Bytes of one file."""
    store_size: Size = _FILES.store_bytes
    """Bytes of all files together; the least recently used go first."""
    ttl: Duration = _FILES.ttl_seconds
    """Seconds that a file is kept after its last use."""

    def limits(self) -> FileLimits:
        """As the domain has them."""
        return FileLimits(self.max_size, self.store_size, self.ttl)


class DeploymentSettings(Section):
    """Deployments."""

    versions_kept: int = Field(default=10, ge=1)
    """Newest versions of each deployment that are kept."""


class RunSettings(Section):
    """Runs that have ended."""

    ttl: Duration = _RUNS.ttl_seconds
    """Seconds that a run is remembered after its end."""
    store_size: Size = _RUNS.store_bytes
    """Bytes of the outputs of submitted runs that have ended; the oldest go first."""

    def limits(self) -> RunLimits:
        """As the domain has them."""
        return RunLimits(self.ttl, self.store_size)


class UrlSettings(Section):
    """Files by URL."""

    allow_hosts: Annotated[Texts, BeforeValidator(_url_hosts)] = ()
    """Where workers may fetch files from: HOST or HOST:PORT; * is any public host."""


class Settings(Section):
    """How a daemon is to run: the whole configuration file."""

    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    nursery: NurserySettings = Field(default_factory=NurserySettings)
    weights: WeightsSettings = Field(default_factory=WeightsSettings)
    files: FileSettings = Field(default_factory=FileSettings)
    deployments: DeploymentSettings = Field(default_factory=DeploymentSettings)
    runs: RunSettings = Field(default_factory=RunSettings)
    urls: UrlSettings = Field(default_factory=UrlSettings)
