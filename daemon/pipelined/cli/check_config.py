"""``pipelined check-config``: whether a daemon would start with a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelined import configuration


def check_config(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Default: the one that `pipelined serve` would read.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a configuration file without starting anything."""
    found = file or configuration.default_file()
    try:
        settings = configuration.load(found, {})
    except configuration.ConfigurationError as error:
        typer.echo(f"pipelined: {error}", err=True)
        raise typer.Exit(1) from None
    for address in settings.daemon.addresses:
        if not address.address.is_loopback and settings.tls.cert is None:
            # Not an error of the file: options, or systemd's credentials, may have the rest.
            typer.echo(
                f"pipelined: {address.address} is served with TLS only, and there is no tls.cert "
                "here: --tls-cert and --tls-key, or the credentials tls-cert and tls-key, have to "
                "say it",
                err=True,
            )
    typer.echo("there is no configuration file" if found is None else f"{found} is valid")
