"""``pipelined token``: makes, lists and revokes the tokens of callers."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from pipelined import configuration
from pipelined.cli import options
from pipelined.core.access import Role, parse_role
from pipelined.core.tokens import InvalidToken, Token, id_in, new_token, revoked
from pipelined.store.directory import StateDirectoryError
from pipelined.store.tokens import TokenFile

application = typer.Typer(
    help="Make, list and revoke the tokens of callers. A daemon notices within seconds.",
    no_args_is_help=True,
)

Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The daemon's configuration file; see `pipelined serve`."),
]
StateDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The daemon's state directory; see `pipelined serve`."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Where the tokens are. Default: the file tokens in the state directory.",
    ),
]


@application.command()
def create(
    role: Annotated[
        Role,
        typer.Option(
            parser=options.parser(parse_role),
            metavar="run|deploy|admin",
            help="What its bearer may do at most.",
        ),
    ],
    expires: Annotated[
        float | None,
        typer.Option(
            parser=options.duration, metavar="TIME", help="After which it is refused, such as 30d."
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: Config = None,
    state_dir: StateDir = None,
    token_file: File = None,
) -> None:
    """Make a token and print it. It cannot be shown again."""
    now = time.time()
    try:
        text, record = new_token(role, now, None if expires is None else now + expires, note)
        _file(config, state_dir, token_file).change(lambda records: [*records, record])
    except (InvalidToken, StateDirectoryError, OverflowError) as error:
        raise _failed(error) from None
    typer.echo(text)


@application.command(name="list")
def list_(
    config: Config = None,
    state_dir: StateDir = None,
    token_file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the tokens, without what makes them valid."""
    try:
        records = _file(config, state_dir, token_file).read().records()
    except StateDirectoryError as error:
        raise _failed(error) from None
    rows = [_row(record, time.time()) for record in records]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = ("id", "role", "state", "created", "expires", "note")
    table = [tuple(name.upper() for name in columns)]
    table += [tuple(row[name] or "-" for name in columns) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


@application.command()
def revoke(
    token_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="As `pipelined token list` has it. The token itself does as well."
        ),
    ],
    config: Config = None,
    state_dir: StateDir = None,
    token_file: File = None,
) -> None:
    """Take a token back: its next call is refused."""
    # A token that has leaked may be all that is at hand; it is not to be repeated in a message.
    token_id = id_in(token_id)

    def change(records: list[Token]) -> list[Token]:
        if not any(record.id == token_id for record in records):
            raise InvalidToken(f"there is no token {token_id!r}")
        now = time.time()
        return [revoked(r, now) if r.id == token_id else r for r in records]

    try:
        _file(config, state_dir, token_file).change(change)
    except (InvalidToken, StateDirectoryError) as error:
        raise _failed(error) from None
    typer.echo(f"{token_id} is revoked")


def _file(config: Path | None, state_dir: Path | None, token_file: Path | None) -> TokenFile:
    given = {
        "daemon.state_directory": options.path(state_dir),
        "tokens.file": options.path(token_file),
    }
    try:
        settings = configuration.load(config or configuration.default_file(), given)
    except configuration.ConfigurationError as error:
        raise _failed(error) from None
    # Not systemd's credential, which is a copy.
    from pipelined.credentials import find_credentials

    return TokenFile(find_credentials(settings, {}).tokens)


def _row(record: Token, now: float) -> dict[str, str]:
    state = "revoked" if record.revoked is not None else "valid"
    if state == "valid" and not record.is_valid(now):
        state = "expired"
    return {
        "id": record.id,
        "role": record.role.label,
        "state": state,
        "created": _time(record.created),
        "expires": "" if record.expires is None else _time(record.expires),
        "note": record.note,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _failed(error: Exception) -> typer.Exit:
    typer.echo(f"pipelined: {error}", err=True)
    return typer.Exit(1)
