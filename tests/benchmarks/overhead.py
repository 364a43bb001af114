"""What a small run costs, against servers that do less, and more, for a request.

A pipeline that returns a tensor of 16 floats, called one at a time and by 16 callers at once; the
same with 4 MB; and one of three nodes whose input has a schema. All servers are called through the
same raw channels with bytes prepared in advance (overhead_load.py): ours by its default, a unix
socket, as is the bare grpc.aio echo, and the others as they serve, by gRPC on a TCP port of the
loopback interface, or HTTP. The bare echo parses the request and serialises its response. All are
started before, and take turns in each round.

    python tests/benchmarks/overhead.py [--check] [--rounds N] [--seconds S] [--peers NAME,…]

The exit code of --check is 1 where a bound is missed: with 16 floats a lower median than each peer,
called one at a time, and more runs per second with 16 callers; with 4 MB at most 1.1 times the time
of the bare echo, and less than KServe. A peer that cannot be installed or started here is reported
as not compared.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "client" / "examples"))
sys.path.insert(0, str(Path(__file__).with_name("overhead_servers")))

import grpc
import numpy as np

import own_messages
import serving
from local_daemon import local_daemon, wait_for_nursery
from machine import machine
from overhead_load import Sample, Target, measure
from overhead_peers import BARE, PEERS, NotCompared, Server, started
from overhead_pipelines import deploy, three_nodes_request
from pipeline import Client

OURS = "pipelined"
NODES = "three nodes, schema"
CLIENT = "Client.run"
CALLERS = 16
# Of the time of the bare echo.
MOST_OF_BARE = 1.1


@dataclass(frozen=True)
class Case:
    """What is measured: a size of request and a number of callers."""

    size: str
    callers: int

    def __str__(self) -> str:
        size = "16 floats" if self.size == serving.SMALL else "4 MB"
        return f"{size}, {self.callers} caller{'s' * (self.callers > 1)}"


ALONE, CROWD, LARGE = Case(serving.SMALL, 1), Case(serving.SMALL, CALLERS), Case(serving.LARGE, 1)
CASES = (ALONE, CROWD, LARGE)


@dataclass
class Results:
    """The samples of every arm in every case."""

    samples: dict[tuple[str, Case], list[Sample]] = field(default_factory=dict)

    def add(self, arm: str, case: Case, sample: Sample) -> None:
        self.samples.setdefault((arm, case), []).append(sample)

    def has(self, arm: str, case: Case) -> bool:
        return (arm, case) in self.samples

    def p50(self, arm: str, case: Case) -> float:
        return median(sample.percentiles[0] for sample in self.samples[arm, case])

    def p99(self, arm: str, case: Case) -> float:
        return median(sample.percentiles[1] for sample in self.samples[arm, case])

    def rate(self, arm: str, case: Case) -> float:
        return median(sample.rate for sample in self.samples[arm, case])


@dataclass(frozen=True)
class Bound:
    """A ratio that was measured, and the most that it may be."""

    what: str
    ratio: float
    most: float


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    names = ",".join(peer.key for peer in PEERS)
    parser.add_argument("--peers", default=names, help=f"of {names}; none if empty")
    options = parser.parse_args()
    wanted = options.peers.split(",")
    console = Console()
    with ExitStack() as stack:
        servers = [stack.enter_context(_ours()), stack.enter_context(started(BARE))]
        for peer in PEERS:
            if peer.key in wanted:
                try:
                    server = stack.enter_context(started(peer))
                    for size in server.requests:
                        _sample(server, Case(size, 1), 0.1)
                except (NotCompared, RuntimeError, OSError, grpc.RpcError) as reason:
                    console.print(f"[yellow]{peer.name} is not compared:[/] {reason}")
                else:
                    servers.append(server)
        results = _measured(servers, options.rounds, options.seconds)
    _print(console, results, [server.name for server in servers])
    bounds = [*_bounds(results, [server.name for server in servers])]
    for bound in bounds:
        style = "green" if bound.ratio <= bound.most else "red"
        console.print(f"[{style}]{bound.ratio:.2f}[/] of at most {bound.most:.2f}: {bound.what}")
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    return 1 if options.check and any(each.ratio > each.most for each in bounds) else 0


@contextmanager
def _ours() -> Iterator[Server]:
    with local_daemon() as client:
        wait_for_nursery(client)
        deploy(client)
        target = Target("grpc", client.address, own_messages.METHOD)
        requests = {size: own_messages.request(size) for size in serving.ELEMENTS}
        yield Server(OURS, target, requests)


def _measured(servers: Sequence[Server], rounds: int, seconds: float) -> Results:
    results = Results()
    for round_ in range(rounds):
        for case in CASES:
            first = round_ % len(servers)
            for server in [*servers[first:], *servers[:first]]:
                if case.size in server.requests:
                    results.add(server.name, case, _sample(server, case, seconds))
        ours = servers[0]
        for case in (ALONE, CROWD):
            nodes = Server(NODES, ours.target, {serving.SMALL: three_nodes_request()})
            results.add(NODES, case, _sample(nodes, case, seconds, expected=b"label"))
        results.add(CLIENT, ALONE, _through_client(ours.target.address, seconds))
    return results


def _sample(server: Server, case: Case, seconds: float, expected: bytes | None = None) -> Sample:
    if expected is None:
        expected = serving.data(case.size) if server.target.transport == "grpc" else b"1.875"
    call = measure(server.target, server.requests[case.size], expected, case.callers, seconds)
    return asyncio.run(call)


def _through_client(address: str, seconds: float) -> Sample:
    """What the library adds for one caller: validating, encoding, decoding."""
    sample = Sample()
    values = np.frombuffer(serving.data(serving.SMALL), dtype=np.float32)
    with Client(address) as client:
        client.run("echo", values)
        began = time.perf_counter()
        now, end = began, began + seconds
        while now < end:
            client.run("echo", values)
            before, now = now, time.perf_counter()
            sample.latencies.append(now - before)
        sample.seconds = now - began
    return sample


def _print(console: Console, results: Results, servers: Sequence[str]) -> None:
    for case in CASES:
        table = Table("", "p50 ms", "p99 ms", "runs/s", "p50 of ours", "runs/s of ours")
        table.title = f"{case}: medians of the rounds"
        for arm in (*servers, NODES, CLIENT):
            if not results.has(arm, case):
                continue
            p50, p99, rate = (f(arm, case) for f in (results.p50, results.p99, results.rate))
            against = p50 / results.p50(OURS, case), rate / results.rate(OURS, case)
            ratios = (f"{ratio:.2f}" for ratio in against)
            table.add_row(arm, f"{p50 * 1e3:.3f}", f"{p99 * 1e3:.3f}", f"{rate:.0f}", *ratios)
        console.print(table)


def _bounds(results: Results, servers: Sequence[str]) -> Iterator[Bound]:
    peers = [name for name in servers if name not in (OURS, BARE.name)]
    for peer in peers:
        ratio = results.p50(OURS, ALONE) / results.p50(peer, ALONE)
        yield Bound(f"p50 with {ALONE}, of {peer}", ratio, 1.0)
        ratio = results.rate(peer, CROWD) / results.rate(OURS, CROWD)
        yield Bound(f"runs/s of {peer} with {CROWD}, of ours", ratio, 1.0)
    ours = results.p50(OURS, LARGE)
    yield Bound(
        f"p50 with {LARGE}, of {BARE.name}", ours / results.p50(BARE.name, LARGE), MOST_OF_BARE
    )
    for peer in peers:
        if peer.startswith("KServe"):
            yield Bound(f"p50 with {LARGE}, of {peer}", ours / results.p50(peer, LARGE), 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
