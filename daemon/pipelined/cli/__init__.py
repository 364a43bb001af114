"""The command ``pipelined``."""

from __future__ import annotations

from importlib import metadata

import typer

from pipelined.cli import systemd, token
from pipelined.cli.check_config import check_config
from pipelined.cli.serve import serve

application = typer.Typer(
    name="pipelined",
    help="A daemon that owns the GPUs of a machine and keeps models warm.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
application.command()(serve)
application.add_typer(token.application, name="token")
application.command()(check_config)
application.add_typer(systemd.commands)


@application.callback()
def _options() -> None:
    """Options of all commands: none yet."""


@application.command()
def version() -> None:
    """Print the version."""
    typer.echo(metadata.version("pipelined"))


def main() -> None:
    """Run the command."""
    application()
