"""The command ``pipelined``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from pipelined.core.files import FileLimits
from pipelined.core.runs import RunLimits
from pipelined.observe.logs import LogFormat, configure
from pipelined.settings import (
    DEFAULT_PINNED_BYTES,
    DEFAULT_VERSIONS_KEPT,
    LEAST_PINNED_BYTES,
    InvalidDuration,
    InvalidSize,
    Settings,
    default_state_directory,
    parse_device_memory,
    parse_duration,
    parse_pinned_memory,
)
from pipelined_api.address import Address, InvalidAddress, default_address, parse_address
from pipelined_api.url_hosts import OPTION, InvalidUrlHost, UrlHosts

DEFAULT_FILES = FileLimits()
DEFAULT_RUNS = RunLimits()
application = typer.Typer(
    name="pipelined",
    help="A daemon that owns the GPUs of a machine and keeps models warm.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise typer.BadParameter(str(error)) from None


def _pinned_memory(text: object) -> int:
    return _size(parse_pinned_memory, text)


def _device_memory(text: object) -> int:
    return _size(parse_device_memory, text)


def _duration(text: object) -> float:
    try:
        return parse_duration(str(text))
    except InvalidDuration as error:
        raise typer.BadParameter(str(error)) from None


def _url_hosts(entries: list[str]) -> tuple[str, ...]:
    try:
        return UrlHosts(entries).entries
    except InvalidUrlHost as error:
        raise typer.BadParameter(str(error), param_hint=OPTION) from None


def _size(parse: Callable[[str], int], text: object) -> int:
    try:
        # A default is a number already.
        return parse(str(text))
    except InvalidSize as error:
        raise typer.BadParameter(str(error)) from None


@application.callback()
def _options() -> None:
    """Options of all commands: none yet."""


@application.command()
def version() -> None:
    """Print the version."""
    typer.echo(metadata.version("pipelined"))


@application.command()
def serve(
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="unix:/path or host:port (loopback only); may be repeated. "
            "Default: $PIPELINED_ADDRESS, else $XDG_RUNTIME_DIR/pipelined.sock, "
            "else /run/pipelined/pipelined.sock."
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where deployments are kept. "
            "Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/pipelined."
        ),
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(
            help="A module, or module:attribute, that the nursery imports before it forks workers; "
            "may be repeated, and replaces the default list."
        ),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long runs may take to end when the daemon stops.")
    ] = 30.0,
    pinned_memory: Annotated[
        int,
        typer.Option(
            parser=_pinned_memory,
            metavar="SIZE",
            envvar="PIPELINED_PINNED_MEMORY",
            show_default=False,
            help="Host memory that each worker may pin while it loads weights onto devices, such "
            f"as 512MiB or 1.5GB; at least {LEAST_PINNED_BYTES >> 10}KiB. "
            f"Default: {DEFAULT_PINNED_BYTES >> 20}MiB.",
        ),
    ] = DEFAULT_PINNED_BYTES,
    device_memory: Annotated[
        int | None,
        typer.Option(
            parser=_device_memory,
            metavar="SIZE",
            envvar="PIPELINED_DEVICE_MEMORY",
            help="What the weights of each worker may take of each device through the loader. "
            "Default: all that the device has.",
        ),
    ] = None,
    file_max_size: Annotated[
        int,
        typer.Option(
            parser=_device_memory,
            metavar="SIZE",
            envvar="PIPELINED_FILE_MAX_SIZE",
            show_default=False,
            help=f"What one file may have. Default: {DEFAULT_FILES.file_bytes >> 30}GiB.",
        ),
    ] = DEFAULT_FILES.file_bytes,
    file_store_size: Annotated[
        int,
        typer.Option(
            parser=_device_memory,
            metavar="SIZE",
            envvar="PIPELINED_FILE_STORE_SIZE",
            show_default=False,
            help="What all uploaded files and outputs together may take of the disk; the least "
            "recently used go first. "
            f"Default: {DEFAULT_FILES.store_bytes >> 30}GiB.",
        ),
    ] = DEFAULT_FILES.store_bytes,
    file_ttl: Annotated[
        float,
        typer.Option(
            parser=_duration,
            metavar="TIME",
            envvar="PIPELINED_FILE_TTL",
            show_default=False,
            help="How long a file is kept after its last use, such as 90s, 12h or 7d. "
            f"Default: {DEFAULT_FILES.ttl_seconds / 3600:.0f}h.",
        ),
    ] = DEFAULT_FILES.ttl_seconds,
    versions_kept: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            envvar="PIPELINED_VERSIONS_KEPT",
            help="How many versions of each deployment are kept, the newest; those that pointers "
            "name are kept anyway.",
        ),
    ] = DEFAULT_VERSIONS_KEPT,
    run_ttl: Annotated[
        float,
        typer.Option(
            parser=_duration,
            metavar="TIME",
            envvar="PIPELINED_RUN_TTL",
            show_default=False,
            help="How long a run is remembered after its end, with its outputs if it was "
            f"submitted and with what it printed. Default: {DEFAULT_RUNS.ttl_seconds / 3600:.0f}h.",
        ),
    ] = DEFAULT_RUNS.ttl_seconds,
    run_store_size: Annotated[
        int,
        typer.Option(
            parser=_device_memory,
            metavar="SIZE",
            envvar="PIPELINED_RUN_STORE_SIZE",
            show_default=False,
            help="What the outputs of submitted runs that have ended may take of the daemon's "
            f"memory; the oldest go first. Default: {DEFAULT_RUNS.store_bytes >> 20}MiB.",
        ),
    ] = DEFAULT_RUNS.store_bytes,
    allow_url_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORT]",
            help="A host that workers may fetch files from by their URL; may be repeated. Without "
            "a port it is 80 and 443; * is any public host. An address that is not public has to "
            "be named literally. Default: none.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How the log looks.")] = LogFormat.CONSOLE,
    debug: Annotated[bool, typer.Option("--debug", help="Log more.")] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second one stops without waiting for runs."""
    settings = Settings(
        addresses=tuple(_address(text) for text in address or [default_address()]),
        state_directory=(state_dir or default_state_directory()).absolute(),
        preload=tuple(preload) if preload else None,
        drain_seconds=drain_seconds,
        pinned_bytes=pinned_memory,
        device_bytes=device_memory,
        files=FileLimits(file_max_size, file_store_size, file_ttl),
        versions_kept=versions_kept,
        runs=RunLimits(run_ttl, run_store_size),
        url_hosts=_url_hosts(allow_url_host or []),
    )
    configure(log_format, debug=debug)
    # Imported late, so that --help does not wait for gRPC.
    import uvloop

    from pipelined.app import serve as serve_daemon
    from pipelined.core.errors import StorageFailed
    from pipelined.rpc.listener import ListenError
    from pipelined.store.directory import StateDirectoryError

    try:
        uvloop.run(serve_daemon(settings))
    except (ListenError, StateDirectoryError, StorageFailed) as error:
        typer.echo(f"pipelined: {error}", err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Run the command."""
    application()
