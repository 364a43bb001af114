"""``pipeline top``: what the daemon does, again and again."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import terminal
from pipeline.cli.options import Address, Json, connect

if TYPE_CHECKING:
    from rich.console import Group

    from pipeline.client import Client
    from pipeline.stats import DaemonStats, DeploymentStats, ProcessMemory

__all__ = ["top"]


class Order(str, Enum):
    """By what the rows are ordered: the largest first, but names from A to Z."""

    NAME = "name"
    QUEUE = "queue"
    RUNNING = "running"
    RUNS = "runs"
    P50 = "p50"
    P99 = "p99"
    FAILED = "failed"
    RESTARTS = "restarts"
    MEMORY = "memory"


_KEYS: dict[Order, Callable[[DeploymentStats], float]] = {
    Order.QUEUE: lambda each: each.queued,
    Order.RUNNING: lambda each: each.running,
    Order.RUNS: lambda each: each.runs_per_second,
    Order.P50: lambda each: each.seconds_p50,
    Order.P99: lambda each: each.seconds_p99,
    Order.FAILED: lambda each: each.failed,
    Order.RESTARTS: lambda each: each.restarts,
    Order.MEMORY: lambda each: _held(each.memory),
}


def top(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Between two looks.")
    ] = 1.0,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Looks. Default: until Ctrl-C on a terminal, else one."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    sort: Annotated[Order, typer.Option(help="By what the rows are ordered.")] = Order.NAME,
    json: Json = False,
    address: Address = None,
) -> None:
    """Watch queues, latencies, memory and restarts of the deployments."""
    from rich.live import Live

    console = terminal.stdout()
    live = console.is_terminal and not json and not once
    looks = 1 if once else count if count is not None or live else 1
    with connect(context, address) as client:
        rounds = _rounds(client, interval, looks)
        if json:
            for stats in rounds:
                terminal.print_json_line(_plain(stats, sort))
        elif live:
            with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
                try:
                    for stats in rounds:
                        screen.update(_view(client.address, stats, sort), refresh=True)
                except KeyboardInterrupt:
                    # How one leaves it.
                    return
        else:
            for stats in rounds:
                terminal.print_rows(_view(client.address, stats, sort))


def _rounds(client: Client, interval: float, looks: int | None) -> Iterator[DaemonStats]:
    due = time.monotonic()
    for index in itertools.count():
        if looks is not None and index == looks:
            return
        if index:
            # From look to look, whatever the looking takes.
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        yield client.stats()


def _ordered(stats: DaemonStats, order: Order) -> list[DeploymentStats]:
    if order is Order.NAME:
        return list(stats.deployments)
    return sorted(stats.deployments, key=_KEYS[order], reverse=True)


def _held(memory: ProcessMemory) -> int:
    return memory.resident if memory.proportional is None else memory.proportional


def _plain(stats: DaemonStats, order: Order) -> dict[str, object]:
    deployments = [dataclasses.asdict(each) for each in _ordered(stats, order)]
    plain = dataclasses.asdict(dataclasses.replace(stats, deployments=()))
    plain["started_at"] = stats.started_at.isoformat()
    return plain | {"deployments": deployments}


def _view(address: str, stats: DaemonStats, order: Order) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from pipeline._quantities import duration, size
    from pipeline.cli.printing import STATE_COLOURS, age

    queued = sum(each.queued for each in stats.deployments)
    rate = sum(each.runs_per_second for each in stats.deployments)
    up = age((datetime.now(timezone.utc) - stats.started_at).total_seconds())
    head = Text(
        f"{address}, up {up}: {rate:.1f} runs/s, {queued} queued; daemon "
        f"{size(_held(stats.memory))}, {stats.open_files} open files",
        no_wrap=True,
        overflow="ellipsis",
    )
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("NAME", "VERSION", "STATE"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        *("WARM", "QUEUE", "BUSY", "RUNS/S", "P50", "P99", "RUNS"),
        *("FAILED", "COLD", "DEATHS", "MEMORY"),
    ):
        table.add_column(heading, no_wrap=True, justify="right")
    for each in _ordered(stats, order):
        table.add_row(
            Text(each.name),
            f"v{each.version}",
            Text(each.state, style=STATE_COLOURS.get(each.state, "")),
            f"{each.instances.get('warm', 0)}/{sum(each.instances.values())}",
            str(each.queued),
            str(each.running),
            f"{each.runs_per_second:.1f}",
            duration(each.seconds_p50) if each.seconds_p50 else "",
            duration(each.seconds_p99) if each.seconds_p99 else "",
            str(each.succeeded),
            str(each.failed),
            str(each.cold_starts),
            str(each.restarts),
            size(_held(each.memory)) if each.worker_pids else "",
        )
    return Group(head, table)
