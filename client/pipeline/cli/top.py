"""``pipeline top``: the deployments, again and again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import terminal
from pipeline.cli.options import Address, Json, connect

if TYPE_CHECKING:
    from pipeline.client import Client
    from pipeline.deployment import Deployment

__all__ = ["top"]


def top(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Between two looks.")
    ] = 1.0,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Looks. Default: until Ctrl-C on a terminal, else one."),
    ] = None,
    json: Json = False,
    address: Address = None,
) -> None:
    """Watch the deployments: states, workers, and runs per second."""
    from rich.live import Live

    from pipeline.cli import printing

    console = terminal.stdout()
    live = console.is_terminal and not json
    looks = count if count is not None or live else 1
    with connect(context, address) as client:
        rounds = _rounds(client, interval, looks)
        if json:
            for deployments, rates in rounds:
                terminal.print_json_line(
                    [
                        printing.deployment_json(each) | {"runs_per_second": rate}
                        for each, rate in zip(deployments, rates, strict=True)
                    ]
                )
        elif live:
            with Live(console=console, auto_refresh=False, transient=False) as screen:
                for deployments, rates in rounds:
                    screen.update(printing.deployments_table(deployments, rates), refresh=True)
        else:
            for deployments, rates in rounds:
                terminal.print_rows(printing.deployments_table(deployments, rates))


def _rounds(
    client: Client, interval: float, looks: int | None
) -> Iterator[tuple[Sequence[Deployment], list[float]]]:
    """Yield the deployments, and of each the runs that ended per second since the last look."""
    before: dict[tuple[str, int], int] = {}
    last = 0.0
    for index in itertools.count():
        if looks is not None and index == looks:
            return
        if index:
            time.sleep(interval)
        deployments, now = client.list(), time.monotonic()
        ended = {
            (each.name, each.version): each.runs_succeeded + each.runs_failed
            for each in deployments
        }
        yield (
            deployments,
            [
                (runs - before.get(key, 0 if before else runs)) / (now - last)
                for key, runs in ended.items()
            ],
        )
        before, last = ended, now
