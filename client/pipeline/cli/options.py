"""Options and arguments that many commands have, and the client that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="What is in it is sent with every call. Default: $PIPELINED_TOKEN, else what is in "
        "$PIPELINED_TOKEN_FILE.",
    ),
]
Tls = Annotated[
    bool, typer.Option("--tls", help="Use TLS, trusting the authorities that the system trusts.")
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Use TLS, trusting these authorities (PEM). Or $PIPELINED_CA."
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", help="A certificate of your own (PEM). Or $PIPELINED_CERT."
    ),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Its private key (PEM). Or $PIPELINED_KEY."),
]
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


@dataclass(frozen=True)
class Connection:
    """How to reach the daemon, as far as it is said before the command's name.

    Attributes:
        address: where it is.
        token: what the daemon knows the caller by.
        tls: whether to use TLS.
        ca: PEM file with the authorities to trust.
        cert: PEM file with a certificate of the caller's own.
        key: PEM file with the key of that.

    """

    address: str | None = None
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def connect(
    context: typer.Context,
    address: str | None,
    on_upload: Callable[[File, int, int], None] | None = None,
) -> Client:
    """Make a client; --address is understood before and after the command's name."""
    from pipeline.client import Client

    found = connection(context)
    return Client(
        address or found.address,
        token=found.token,
        tls=found.tls,
        ca=found.ca,
        cert=found.cert,
        key=found.key,
        on_upload=on_upload,
    )


def connection(context: typer.Context) -> Connection:
    """What stands before the command's name; nothing while a shell completes."""
    return context.obj if isinstance(context.obj, Connection) else Connection()
