"""More clients and more runs than the daemon takes: what it refuses, and what it holds meanwhile.

    python tests/benchmarks/overload.py [--check] [--connections N] [--submits N] [--queue N]

Each of the clients has a connection of its own. They submit more runs than may wait, all at once,
and then call another deployment at once, each trying again as it is told. The exit code of --check
is 1 where anything was refused without RESOURCE_EXHAUSTED and RetryInfo, where one that was
accepted did not succeed, or where the daemon's memory grew by more than --growth MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "client" / "examples"))

from local_daemon import local_daemon, wait_for_nursery
from machine import machine
from tests.crowd import Asked, Outcome, crowd

MIB = 1 << 20
# Of each request; ten thousand of them would be seen in the daemon's memory.
PAYLOAD_BYTES = 16 * 1024


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--submits", type=int, default=11_000)
    parser.add_argument("--queue", type=int, default=10_000)
    parser.add_argument("--growth", type=int, default=256)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    with tempfile.TemporaryDirectory() as folder, local_daemon() as client:
        wait_for_nursery(client)
        outcome = asyncio.run(
            crowd(
                client,
                client.info().pid,
                Path(folder),
                connections=options.connections,
                submits=options.submits,
                queue=options.queue,
                payload_bytes=PAYLOAD_BYTES,
            )
        )
    _print(outcome, options)
    problems = _problems(outcome, options)
    for problem in problems:
        Console().print(f"[red]{problem}")
    return 1 if options.check and problems else 0


def _print(outcome: Outcome, options: argparse.Namespace) -> None:
    title = f"{options.connections} connections, a queue of {options.queue} runs"
    table = Table("", "answered", "refused", "failed", "p50 ms", "p99 ms", "most ms", title=title)
    table.add_row("submit", *_row(outcome.submits))
    table.add_row("run, tried again", *_row(outcome.calls))
    console = Console()
    console.print(table)
    memory = ", ".join(f"{when} {size / MIB:.0f}" for when, size in outcome.memory.items())
    console.print(
        f"{outcome.succeeded} of {len(outcome.submits.run_ids)} succeeded, "
        f"{outcome.succeeded / outcome.executed_seconds:.0f} in a second; a caller was told to "
        f"wait at most {outcome.most_waits} times"
    )
    console.print(f"daemon, MiB: {memory}; each request has {PAYLOAD_BYTES / 1024:g} KiB")
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))


def _row(asked: Asked) -> tuple[str, ...]:
    figures = (0.0, 0.0, 0.0)
    if len(asked.seconds) > 1:
        figures = (median(asked.seconds), quantiles(asked.seconds, n=100)[98], max(asked.seconds))
    counts = (len(asked.seconds), len(asked.refused), len(asked.otherwise))
    return (*map(str, counts), *(f"{each * 1000:.1f}" for each in figures))


def _problems(outcome: Outcome, options: argparse.Namespace) -> list[str]:
    found = [*outcome.submits.otherwise[:3], *outcome.calls.otherwise[:3]]
    # One of them is executed, and does not wait.
    if not options.queue <= len(outcome.submits.run_ids) <= options.queue + 1:
        found.append(f"{len(outcome.submits.run_ids)} runs were accepted")
    if outcome.succeeded != len(outcome.submits.run_ids):
        found.append("a run that was accepted did not succeed")
    if len(outcome.calls.seconds) != options.connections:
        found.append("a caller was not answered")
    growth = max(outcome.memory.values()) - outcome.memory["before"]
    if growth > options.growth * MIB:
        found.append(f"the daemon has grown by {growth / MIB:.0f} MiB")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
