"""The commands about versions of a deployment, and about the pointers that name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import terminal
from pipeline.cli.options import Address, Json, Name, OptionalName, connect

if TYPE_CHECKING:
    from pipeline.deployment import Pointer

pointers = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PointerName = Annotated[str, typer.Argument(metavar="NAME:POINTER", help="The pointer.")]
Unlock = Annotated[bool, typer.Option("--unlock", help="Also if it is locked.")]


def add_to(app: typer.Typer) -> None:
    """Make the commands known."""
    app.command()(cool)
    app.command()(versions)
    app.add_typer(pointers, name="pointers")


def cool(context: typer.Context, name: Name, json: Json = False, address: Address = None) -> None:
    """Stop a deployment's workers once its runs have ended. The next run starts them again."""
    from pipeline.cli import printing

    with connect(context, address) as client, terminal.waiting(f"cooling {name}"):
        deployment = client.cool(name)
    if json:
        terminal.print_json(printing.deployment_json(deployment))
    else:
        terminal.print_text(f"{deployment.name} v{deployment.version} is {deployment.state}")


def versions(
    context: typer.Context, name: Name, json: Json = False, address: Address = None
) -> None:
    """List the versions of a deployment that are kept."""
    from pipeline.cli import printing

    with connect(context, address) as client:
        found = client.versions(name)
    if json:
        terminal.print_json([printing.deployment_json(each) for each in found])
    else:
        terminal.print_rows(printing.versions_table(found))


@pointers.callback()
def common() -> None:
    """Let names such as diffusion:prod mean one version."""


@pointers.command("set")
def set_(
    context: typer.Context,
    pointer: PointerName,
    target: Annotated[
        str, typer.Argument(metavar="NAME:VERSION", help="What it means: NAME:v3, NAME:latest.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="It may exist, and mean another version.")
    ] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Only --unlock overwrites or removes it.")
    ] = False,
    unlock: Unlock = False,
    json: Json = False,
    address: Address = None,
) -> None:
    """Make a pointer."""
    with connect(context, address) as client:
        made = client.create_pointer(
            pointer, target, overwrite=overwrite, locked=locked, unlock=unlock
        )
    if json:
        terminal.print_json(_json(made))
    else:
        terminal.print_text(f"{made.pointer} is v{made.version}")


@pointers.command("list")
def list_(
    context: typer.Context,
    name: OptionalName = None,
    json: Json = False,
    address: Address = None,
) -> None:
    """List the pointers."""
    from pipeline.cli import printing

    with connect(context, address) as client:
        found = client.pointers(name)
    if json:
        terminal.print_json([_json(each) for each in found])
    else:
        terminal.print_rows(printing.pointers_table(found))


@pointers.command()
def rm(
    context: typer.Context, pointer: PointerName, unlock: Unlock = False, address: Address = None
) -> None:
    """Remove a pointer; the version stays."""
    with connect(context, address) as client:
        client.delete_pointer(pointer, unlock=unlock)
    terminal.print_text(f"{pointer} is removed")


def _json(pointer: Pointer) -> dict[str, object]:
    plain = dict(vars(pointer))
    for key in ("created_at", "updated_at"):
        plain[key] = plain[key].isoformat()
    return plain
