"""``pipeline files``: contents of files in the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import terminal
from pipeline.cli.options import Address, Json, connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Sha256 = Annotated[str, typer.Argument(metavar="SHA256", help="Of the content, in hexadecimal.")]


@app.callback()
def common() -> None:
    """Keep contents of files in the daemon, by their SHA-256."""


@app.command()
def put(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="What to upload.")],
    json: Json = False,
    address: Address = None,
) -> None:
    """Upload a file unless it is there, and print its SHA-256. Goes on after what broke off."""
    from pipeline.cli.transfers import TransferBars
    from pipeline.objects.files import File

    file = File(path)
    with TransferBars("uploading") as bars, connect(context, address) as client:
        sha256 = client.files.upload(
            file, on_progress=lambda sent, size: bars.moved(file.name, sent, size)
        )
    if json:
        terminal.print_json({"sha256": sha256, "size": file.size, "name": file.name})
    else:
        terminal.print_text(sha256)


@app.command()
def get(
    context: typer.Context,
    sha256: Sha256,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="Where it is written to.")
    ],
    json: Json = False,
    address: Address = None,
) -> None:
    """Download a content. What is at the path is replaced once the download is whole."""
    import os

    from pipeline.cli.transfers import TransferBars

    partial = output.with_name(f".{output.name}.{os.getpid()}")
    with TransferBars("downloading") as bars, connect(context, address) as client:
        try:
            with partial.open("xb") as target:
                client.files.download(
                    sha256,
                    target,
                    on_progress=lambda done, size: bars.moved(output.name, done, size),
                )
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    size = output.stat().st_size
    if json:
        terminal.print_json({"sha256": sha256, "size": size, "path": str(output)})
    else:
        terminal.print_text(str(output))


@app.command()
def stat(
    context: typer.Context, sha256: Sha256, json: Json = False, address: Address = None
) -> None:
    """Tell what the daemon has of a content."""
    from pipeline._quantities import size
    from pipeline.errors import NotFound

    with connect(context, address) as client:
        found = client.files.stat(sha256)
    if json:
        terminal.print_json(
            {"present": found.present, "size": found.size, "received": found.received}
        )
    elif found.present:
        terminal.print_text(f"{size(found.size)} ({found.size} bytes)")
    elif found.received:
        terminal.print_text(f"{size(found.received)} of it have been received")
    if not found.present and not found.received:
        raise NotFound(f"there is no file with sha256 {sha256}")


@app.command()
def rm(context: typer.Context, sha256: Sha256, address: Address = None) -> None:
    """Remove a content. One that a run uses is refused."""
    with connect(context, address) as client:
        client.files.delete(sha256)
    terminal.print_text(f"{sha256} is removed")
