"""How long an element of a stream is under way, from its yield in the worker to the caller's hands.

    python tests/benchmarks/stream_latency.py [--check] [--elements N]

The generator yields the time at which it does so, every few milliseconds, as a language model does
with tokens; the clock is the machine's monotonic one, the same for all processes. The exit code of
--check is 1 where the median is above 5 ms, with either client.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "client" / "examples"))

from local_daemon import local_daemon, wait_for_nursery
from machine import machine
from pipeline import AsyncClient, Client, Pipeline, Variable, pipe

MOST_SECONDS = 0.005
NAME = "ticking"


@pipe
def tick(elements: int, pause: float) -> Iterator[float]:
    """Yield the time."""
    for _ in range(elements):
        time.sleep(pause)
        yield time.monotonic()


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--elements", type=int, default=300)
    options = parser.parse_args()
    with Pipeline() as builder:
        builder.output(tick(Variable(int), Variable(float)))
    with local_daemon() as client:
        wait_for_nursery(client)
        client.deploy(builder.get_pipeline(), NAME)
        client.run(NAME, 1, 0.0)
        rows = {
            "Client": _blocking(client, options.elements),
            "AsyncClient": asyncio.run(_awaited(client.address, options.elements)),
        }
    title = f"From yield to caller, {options.elements} elements, milliseconds"
    table = Table("", "median", "p99", "most", title=title)
    for label, seconds in rows.items():
        figures = (median(seconds), quantiles(seconds, n=100)[98], max(seconds))
        table.add_row(label, *(f"{each * 1000:.2f}" for each in figures))
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    slow = [label for label, seconds in rows.items() if median(seconds) > MOST_SECONDS]
    if options.check and slow:
        console.print(f"[red]above {MOST_SECONDS * 1000:g} ms: {', '.join(slow)}")
        return 1
    return 0


def _blocking(client: Client, elements: int) -> list[float]:
    latencies = []
    for [sent] in client.stream(NAME, elements, 0.005):
        assert isinstance(sent, float)
        latencies.append(time.monotonic() - sent)
    return latencies


async def _awaited(address: str, elements: int) -> list[float]:
    latencies = []
    async with AsyncClient(address) as client:
        async for [sent] in await client.stream(NAME, elements, 0.005):
            assert isinstance(sent, float)
            latencies.append(time.monotonic() - sent)
    return latencies


if __name__ == "__main__":
    raise SystemExit(main())
