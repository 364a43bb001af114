"""Options and arguments that many commands have, and the client that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completion

if TYPE_CHECKING:
    from pipeline.client import Client
    from pipeline.objects.files import File

_ADDRESS_HELP = (
    "The daemon: unix:/path, /path or host:port. Default: $PIPELINED_ADDRESS, else "
    "$XDG_RUNTIME_DIR/pipelined.sock, else /run/pipelined/pipelined.sock."
)
Address = Annotated[str | None, typer.Option("--address", help=_ADDRESS_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The deployment.",
        show_default=False,
        autocompletion=completion.deployments,
    ),
]
OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="Of one deployment.",
        show_default=False,
        autocompletion=completion.deployments,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.0, help="Give up after so long."),
]
Priority = Annotated[
    int,
    typer.Option(
        "--priority", min=-10, max=10, help="From -10 to 10; the higher, the sooner its turn."
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Inputs by name: JSON or text. key=@path gives a file, kwargs.height=64 sets a "
        "field of an object.",
    ),
]
OutputDir = Annotated[
    Path,
    typer.Option("--output-dir", help="Where files and images among the outputs are saved."),
]


def connect(
    context: typer.Context,
    address: str | None,
    on_upload: Callable[[File, int, int], None] | None = None,
) -> Client:
    """Make a client; --address is understood before and after the command's name."""
    from pipeline.client import Client

    return Client(address or context.obj, on_upload=on_upload)
