"""The command ``pipelined``."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from pipelined.cli import systemd, token
from pipelined.cli.check_config import check_config
from pipelined.cli.serve import serve

application = typer.Typer(
    name="pipelined",
    help="A daemon that owns the GPUs of a machine and keeps models warm.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
application.command()(serve)
application.add_typer(token.application, name="token")
application.command()(check_config)
application.add_typer(systemd.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@application.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """A daemon that owns the GPUs of a machine and keeps models warm."""


@application.command()
def version() -> None:
    """Print the version."""
    typer.echo(metadata.version("pipelined"))


def main() -> None:
    """Run the command."""
    application()
