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
        configuration.load(found, {})
    except configuration.ConfigurationError as error:
        typer.echo(f"pipelined: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("there is no configuration file" if found is None else f"{found} is valid")
