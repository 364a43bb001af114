"""``pipelined systemd``: the daemon as a service of systemd."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelined import systemd
from pipelined.systemd import Action, Scope, Step, SystemdError

commands = typer.Typer(
    name="systemd", help="Make a service of systemd of the daemon.", no_args_is_help=True
)

OfUser = Annotated[bool, typer.Option("--user", help="A service of yours.")]
OfSystem = Annotated[bool, typer.Option("--system", help="A service of the machine.")]
Prefix = Annotated[
    Path, typer.Option(metavar="DIR", help="A folder that stands for /, to build a package.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Force = Annotated[bool, typer.Option("--force", help="Also with files that somebody has changed.")]


@commands.command()
def install(
    user: OfUser = False,
    system: OfSystem = False,
    prefix: Prefix = Path("/"),
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Write the unit and what belongs to it.

    A configuration that is there stays as it is. Nothing is started.
    """
    scope = _scope(user, system)
    executable = _executable()
    try:
        steps = systemd.install_steps(scope, prefix.absolute(), executable)
        _carry_out(steps, dry_run=dry_run, force=force)
    except SystemdError as error:
        _fail(str(error))
    if dry_run or prefix != Path("/"):
        return
    if scope is Scope.SYSTEM and systemd.is_in_a_home(executable):
        typer.echo(
            f"pipelined: {executable}, or its Python, is in a home, which the unit lets the "
            "service read; the user 'pipelined' has to be allowed to, too",
            err=True,
        )
    typer.echo("Next:")
    for command in _next(scope):
        typer.echo(f"  {command}")


@commands.command()
def uninstall(
    user: OfUser = False,
    system: OfSystem = False,
    prefix: Prefix = Path("/"),
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Remove what install has written, but for the configuration. The state stays, too."""
    scope = _scope(user, system)
    try:
        steps = systemd.uninstall_steps(scope, prefix.absolute(), _executable())
        _carry_out(steps, dry_run=dry_run, force=force, removing=True)
    except SystemdError as error:
        _fail(str(error))
    if not steps:
        typer.echo("nothing is installed")
    elif not dry_run and prefix == Path("/"):
        systemctl = "systemctl --user" if scope is Scope.USER else "systemctl"
        typer.echo(f"Next:\n  {systemctl} stop pipelined\n  {systemctl} daemon-reload")


def _carry_out(
    steps: Sequence[Step], *, dry_run: bool, force: bool, removing: bool = False
) -> None:
    changed = [step for step in steps if step.action is Action.REPLACE]
    if changed and not force:
        names = ", ".join(str(step.path) for step in changed)
        _fail(f"not what would have been installed: {names}; --force does it all the same")
    for step in steps:
        touched = step.action not in (Action.LEAVE, Action.KEEP)
        done = {Action.LEAVE: "unchanged", Action.KEEP: "kept"}.get(
            step.action, "removed" if removing else "written"
        )
        if dry_run:
            typer.echo(f"{f'would be {done}' if touched else done}: {step.path}")
            continue
        if touched:
            (systemd.remove if removing else systemd.write)(step)
        typer.echo(f"{done}: {step.path}")


def _next(scope: Scope) -> Sequence[str]:
    if scope is Scope.USER:
        return ["systemctl --user daemon-reload", "systemctl --user enable --now pipelined"]
    return [
        "systemd-sysusers",
        "systemd-tmpfiles --create",
        "systemctl daemon-reload",
        "systemctl enable --now pipelined",
    ]


def _scope(user: bool, system: bool) -> Scope:
    if user == system:
        raise typer.BadParameter("say one of them", param_hint="--user, --system")
    return Scope.USER if user else Scope.SYSTEM


def _executable() -> Path:
    """The command that is being executed, or its sibling of this Python."""
    called = Path(sys.argv[0])
    if called.name == "pipelined" and called.is_file():
        return called.absolute()
    return Path(sys.executable).with_name("pipelined")


def _fail(reason: str) -> None:
    typer.echo(f"pipelined: {reason}", err=True)
    raise typer.Exit(1)
