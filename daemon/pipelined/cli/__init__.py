"""The command ``pipelined``."""

from __future__ import annotations

from importlib import metadata

import typer

from pipelined.cli.serve import serve

application = typer.Typer(
    name="pipelined",
    help="A daemon that owns the GPUs of a machine and keeps models warm.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
application.command()(serve)


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
