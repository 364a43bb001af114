"""What the operator can choose: one section of the configuration file after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from pipelined.core.files import FileLimits
from pipelined.core.rewarming import Rewarming, Warm
from pipelined.core.runs import RunLimits
from pipelined.core.scaler import IDLE_SECONDS
from pipelined.core.shared_limits import QueueLimits
from pipelined.listening import ListenAddress, parse_listen_address
from pipelined.units import parse_duration, parse_pinned_size
from pipelined_api.address import Address, default_address, parse_address
from pipelined_api.sizes import parse_size
from pipelined_api.url_hosts import UrlHosts

_FILES = FileLimits()
_RUNS = RunLimits()
_QUEUES = QueueLimits()


class LogFormat(str, Enum):
    """How a line of the log looks."""

    CONSOLE = "console"
    JSON = "json"


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


def _choice(choices: type[Enum]) -> BeforeValidator:
    """Take one of these, or its name."""

    def parse(text: str) -> Enum:
        try:
            return choices(text)
        except ValueError:
            known = ", ".join(known.value for known in choices)
            raise ValueError(f"{text!r} is none of: {known}") from None

    return _text(parse)


def _sequence(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _url_hosts(entries: object) -> object:
    if isinstance(entries, (list, tuple)) and all(isinstance(entry, str) for entry in entries):
        return UrlHosts(list(entries)).entries
    return entries


Size = Annotated[int, _number(parse_size)]
Duration = Annotated[float, _number(parse_duration)]
DurationOrZero = Annotated[float, _number(lambda text: parse_duration(text, least=-1e-9))]
Listen = Annotated[ListenAddress, _text(parse_listen_address)]
AbsolutePath = Annotated[Path, _text(lambda text: Path(text).expanduser().absolute())]
Texts = Annotated[tuple[str, ...], BeforeValidator(_sequence)]


class Section(BaseModel):
    """One table of the configuration file. A key that is not known is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class DaemonSettings(Section):
    """The process as a whole."""

    addresses: Annotated[tuple[Listen, ...], BeforeValidator(_sequence), Field(min_length=1)] = (
        Field(default_factory=lambda: (parse_listen_address(default_address()),))
    )
    """unix:/path or host:port to listen on, with ,role= and, for sockets, ,mode= and ,group=."""
    state_directory: AbsolutePath = Field(default_factory=default_state_directory)
    """Where deployments, runs and files are kept."""
    drain: DurationOrZero = 30.0
    """Seconds that runs in progress may take to end when the daemon stops."""


class TokenSettings(Section):
    """Tokens of callers."""

    file: AbsolutePath | None = None
    """Where they are; none given: systemd's credential, else tokens in the state directory."""


class TlsSettings(Section):
    """PEM files for the TCP listeners; none given: systemd's credentials, if there are."""

    cert: AbsolutePath | None = None
    """The daemon's certificate, with those between it and its authority."""
    key: AbsolutePath | None = None
    """Its private key."""
    client_ca: AbsolutePath | None = None
    """Authorities that clients need certificates of; none given: clients need none."""

    @model_validator(mode="after")
    def _both(self) -> TlsSettings:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: one is given without the other")
        return self


class LogSettings(Section):
    """The log on stderr."""

    format: Annotated[LogFormat, _choice(LogFormat)] = LogFormat.CONSOLE
    """How a line looks."""
    debug: bool = False
    """Log more: also what libraries have to say."""


class NurserySettings(Section):
    """The process that workers are forked from."""

    preload: Texts | None = None
    """Modules, or module:attribute, that it imports; none given: the default list."""


class StartupSettings(Section):
    """What is done once the daemon has started."""

    warm: Annotated[Warm, _choice(Warm)] = Warm.NONE
    """Which deployments are warmed: "none"; "recent", those that were in use, most recently used
    first; "all", and after those the others."""
    warm_at_most: int = Field(default=8, ge=1)
    """Of how many versions."""

    def rewarming(self) -> Rewarming:
        """As the domain has it."""
        return Rewarming(self.warm, self.warm_at_most)


class ConfinementMode(str, Enum):
    """Whether workers are kept from the daemon's state and secrets."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class WorkerSettings(Section):
    """The processes that run user code."""

    user: str | None = None
    """Another user that they run as; none given: the daemon's own."""
    confinement: Annotated[ConfinementMode, _choice(ConfinementMode)] = ConfinementMode.AUTO
    """Keep them from the daemon's state: as far as the kernel can, or not at all, or refuse."""


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
    worker_idle: Duration = IDLE_SECONDS
    """Seconds after which a worker with nothing to do is stopped, if its deployment has more than
    its min_instances, and more than one."""


class RunSettings(Section):
    """What is kept of runs."""

    ttl: Duration = _RUNS.ttl_seconds
    """Seconds that a run is remembered after its end."""
    store_size: Size = _RUNS.store_bytes
    """Bytes of the outputs of submitted runs that have ended; the oldest go first."""
    pending_size: Size = _RUNS.pending_bytes
    """Bytes of the inputs of all submitted runs that have not ended; they are on disk."""

    def limits(self) -> RunLimits:
        """As the domain has them."""
        return RunLimits(self.ttl, self.store_size, pending_bytes=self.pending_size)


class LimitSettings(Section):
    """What runs may take of the daemon."""

    queue_length: int = Field(default=_QUEUES.length, ge=1)
    """Runs that may wait for one deployment."""
    waiting_size: Size = _QUEUES.waiting_bytes
    """Bytes of the inputs of all runs that wait in memory."""
    concurrent_runs: int | None = Field(default=None, ge=1)
    """Runs that are executed at once; none given: one for each instance."""
    kill_grace: DurationOrZero = _QUEUES.kill_grace_seconds
    """Seconds that a worker has to heed a cancellation before it is killed and replaced."""
    upload_idle: Duration = 60.0
    """Seconds after which an upload of which nothing comes is ended."""

    def queues(self) -> QueueLimits:
        """As the domain has them."""
        return QueueLimits(
            self.queue_length, self.waiting_size, self.concurrent_runs, self.kill_grace
        )


class UrlSettings(Section):
    """Files by URL."""

    allow_hosts: Annotated[Texts, BeforeValidator(_url_hosts)] = ()
    """Where workers may fetch files from: HOST or HOST:PORT; * is any public host."""


class MetricsSettings(Section):
    """The HTTP port with /metrics, for Prometheus, and /healthz."""

    address: Annotated[Address, _text(parse_address)] | None = None
    """Where: HOST:PORT; none given: nowhere."""
    off_loopback: bool = False
    """Whether it may be an address that other machines reach. There is neither TLS nor a token."""

    @field_validator("address")
    @classmethod
    def _tcp(cls, address: Address | None) -> Address | None:
        if address is not None and address.path is not None:
            raise ValueError(f"{str(address)!r} is not host:port")
        return address

    @model_validator(mode="after")
    def _loopback(self) -> MetricsSettings:
        if self.address is not None and not (self.off_loopback or self.address.is_loopback):
            raise ValueError(
                f"{str(self.address)!r} is reached by other machines, without TLS or a token: "
                "off_loopback = true allows that"
            )
        return self


def _endpoint(text: str) -> str:
    if re.fullmatch(r"https?://[^\s/]+", text) is None:
        raise ValueError(f"{text!r} is not of the form http://HOST:PORT")
    return text


class TraceSettings(Section):
    """Traces, exported with OTLP over gRPC."""

    endpoint: Annotated[str, _text(_endpoint)] | None = None
    """Of the receiver, http://host:4317 or https://…; none given: what the standard variable
    OTEL_EXPORTER_OTLP_ENDPOINT has, else there are no traces."""


class Settings(Section):
    """How a daemon is to run: the whole configuration file."""

    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    tokens: TokenSettings = Field(default_factory=TokenSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    nursery: NurserySettings = Field(default_factory=NurserySettings)
    startup: StartupSettings = Field(default_factory=StartupSettings)
    workers: WorkerSettings = Field(default_factory=WorkerSettings)
    weights: WeightsSettings = Field(default_factory=WeightsSettings)
    files: FileSettings = Field(default_factory=FileSettings)
    deployments: DeploymentSettings = Field(default_factory=DeploymentSettings)
    runs: RunSettings = Field(default_factory=RunSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    urls: UrlSettings = Field(default_factory=UrlSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    traces: TraceSettings = Field(default_factory=TraceSettings)
