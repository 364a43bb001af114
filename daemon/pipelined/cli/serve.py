"""``pipelined serve``: its options stand for settings of the configuration file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipelined import configuration
from pipelined.cli import options
from pipelined.listening import ListenAddress
from pipelined.settings import LogFormat, Settings
from pipelined.units import LEAST_PINNED_BYTES
from pipelined_api.url_hosts import OPTION, InvalidUrlHost, UrlHosts

# What applies if nobody says anything, but for what depends on the environment.
_DEFAULTS = Settings(daemon={"addresses": ("unix:/",)})  # type: ignore[arg-type]


def _url_hosts(entries: list[str] | None) -> list[str] | None:
    try:
        UrlHosts(entries or ())
    except InvalidUrlHost as error:
        raise typer.BadParameter(str(error), param_hint=OPTION) from None
    return entries


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Import gRPC so that it writes no lines of its own between those of the log.

    It would for each connection that fails, as when a client has no TLS. It reads the variable
    once, when it is imported; workers are not to have it.
    """
    name = "GRPC_VERBOSITY"
    if not wanted or name in os.environ:
        yield
        return
    os.environ[name] = "NONE"
    try:
        yield
    finally:
        del os.environ[name]


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The configuration file; options are stronger than what it says. "
            "Default: $PIPELINED_CONFIG, else pipelined.toml in $CONFIGURATION_DIRECTORY or in "
            "$XDG_CONFIG_HOME/pipelined, if it is there.",
        ),
    ] = None,
    address: Annotated[
        list[ListenAddress] | None,
        typer.Option(
            parser=options.address,
            metavar="ADDRESS",
            help="unix:/path or host:port; may be repeated. With ,role=run|deploy|admin it says "
            "what callers may do at most who come in there (admin), with ,mode=0660 and "
            ",group=NAME who may use the socket. TCP wants tokens always, and TLS unless on a "
            "loopback address. "
            "Default: $PIPELINED_ADDRESS, else $XDG_RUNTIME_DIR/pipelined.sock, "
            "else /run/pipelined/pipelined.sock.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where deployments, runs and files are kept. Default: $STATE_DIRECTORY, else "
            "$XDG_STATE_HOME/pipelined, else ~/.local/state/pipelined.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the tokens of callers are (`pipelined token`). Default: "
            "$CREDENTIALS_DIRECTORY/tokens, else tokens in the state directory.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate of the TCP listeners, with its chain; PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key of the certificate; PEM.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Clients need certificates of these authorities (mutual TLS); PEM.",
        ),
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="A module, or module:attribute, that the nursery imports before it forks workers; "
            "may be repeated, and replaces the default list.",
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="How long runs may take to end when the daemon stops. "
            f"Default: {_DEFAULTS.daemon.drain:.0f}.",
        ),
    ] = None,
    worker_user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The user that workers run as, if the daemon may start processes as others. "
            "Default: the daemon's own.",
        ),
    ] = None,
    pinned_memory: Annotated[
        int | None,
        typer.Option(
            parser=options.pinned_size,
            metavar="SIZE",
            envvar="PIPELINED_PINNED_MEMORY",
            help="Host memory that each worker may pin while it loads weights onto devices, such "
            f"as 512MiB or 1.5GB; at least {LEAST_PINNED_BYTES >> 10}KiB. "
            f"Default: {_DEFAULTS.weights.pinned_memory >> 20}MiB.",
        ),
    ] = None,
    device_memory: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            envvar="PIPELINED_DEVICE_MEMORY",
            help="What the weights of each worker may take of each device through the loader. "
            "Default: all that the device has.",
        ),
    ] = None,
    file_max_size: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            envvar="PIPELINED_FILE_MAX_SIZE",
            help=f"What one file may have. Default: {_DEFAULTS.files.max_size >> 30}GiB.",
        ),
    ] = None,
    file_store_size: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            envvar="PIPELINED_FILE_STORE_SIZE",
            help="What all uploaded files and outputs together may take of the disk; the least "
            f"recently used go first. Default: {_DEFAULTS.files.store_size >> 30}GiB.",
        ),
    ] = None,
    file_ttl: Annotated[
        float | None,
        typer.Option(
            parser=options.duration,
            metavar="TIME",
            envvar="PIPELINED_FILE_TTL",
            help="How long a file is kept after its last use, such as 90s, 12h or 7d. "
            f"Default: {_DEFAULTS.files.ttl / 3600:.0f}h.",
        ),
    ] = None,
    versions_kept: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="PIPELINED_VERSIONS_KEPT",
            help="How many versions of each deployment are kept, the newest; those that pointers "
            f"name are kept anyway. Default: {_DEFAULTS.deployments.versions_kept}.",
        ),
    ] = None,
    run_ttl: Annotated[
        float | None,
        typer.Option(
            parser=options.duration,
            metavar="TIME",
            envvar="PIPELINED_RUN_TTL",
            help="How long a run is remembered after its end, with its outputs if it was "
            f"submitted and with what it printed. Default: {_DEFAULTS.runs.ttl / 3600:.0f}h.",
        ),
    ] = None,
    run_store_size: Annotated[
        int | None,
        typer.Option(
            parser=options.size,
            metavar="SIZE",
            envvar="PIPELINED_RUN_STORE_SIZE",
            help="What the outputs of submitted runs that have ended may take of the "
            "disk; the oldest go first. "
            f"Default: {_DEFAULTS.runs.store_size >> 20}MiB.",
        ),
    ] = None,
    allow_url_host: Annotated[
        list[str] | None,
        typer.Option(
            callback=_url_hosts,
            metavar="HOST[:PORT]",
            help="A host that workers may fetch files from by their URL; may be repeated. Without "
            "a port it is 80 and 443; * is any public host. An address that is not public has to "
            "be named literally. Default: none.",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="How the log looks. Default: console.")
    ] = None,
    debug: Annotated[bool | None, typer.Option("--debug", help="Log more.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second one stops without waiting for runs."""
    given = {
        "daemon.addresses": address or None,
        "daemon.state_directory": options.path(state_dir),
        "daemon.drain": drain_seconds,
        "tokens.file": options.path(token_file),
        "tls.cert": options.path(tls_cert),
        "tls.key": options.path(tls_key),
        "tls.client_ca": options.path(tls_client_ca),
        "log.format": log_format,
        "log.debug": debug,
        "nursery.preload": preload or None,
        "workers.user": worker_user,
        "weights.pinned_memory": pinned_memory,
        "weights.device_memory": device_memory,
        "files.max_size": file_max_size,
        "files.store_size": file_store_size,
        "files.ttl": file_ttl,
        "deployments.versions_kept": versions_kept,
        "runs.ttl": run_ttl,
        "runs.store_size": run_store_size,
        "urls.allow_hosts": allow_url_host or None,
    }

    def load() -> Settings:
        return configuration.load(config or configuration.default_file(), given)

    try:
        settings = load()
    except configuration.ConfigurationError as error:
        typer.echo(f"pipelined: {error}", err=True)
        raise typer.Exit(1) from None
    # Imported late, so that --help does not wait for gRPC.
    import uvloop

    with _quiet(not settings.log.debug):
        from pipelined.app import serve as serve_daemon
    from pipelined.core.errors import StorageFailed
    from pipelined.isolation import IsolationError
    from pipelined.observe.errors import MetricsError, TracesError
    from pipelined.observe.logs import configure
    from pipelined.rpc.listener import ListenError
    from pipelined.store.directory import StateDirectoryError

    configure(settings.log.format, debug=settings.log.debug)
    try:
        uvloop.run(serve_daemon(settings, load))
    except (
        IsolationError,
        ListenError,
        MetricsError,
        StateDirectoryError,
        StorageFailed,
        TracesError,
    ) as error:
        typer.echo(f"pipelined: {error}", err=True)
        raise typer.Exit(1) from None
