"""From nothing to a first result: a fresh process against the daemon, in one run and alternating.

Two sizes of UNet. The small one shows what starting costs: the fresh process is timed from its
spawn to its printed result (imports, load, first forward pass), the daemon from the deploy call to
the first result of a deployment that it has never seen. The large one, of the size of Stable
Diffusion 1.5, shows what loading costs: its forward pass takes seconds on a CPU and would hide
that, so its result is a checksum that reads every weight. Both arms run the functions of
``unet_work.py``. One round of the small one is run ahead and not counted.

    python tests/benchmarks/cold_start.py [--check] [--json] [--rounds N] [--large-rounds N]

The exit code of ``--check`` is 1 where the daemon is not as many times faster as BOUNDS asks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "client" / "examples"))

import page_cache
from arms import Series, compare
from checkpoints import small_stable_diffusion, stable_diffusion_unet
from local_daemon import local_daemon, wait_for_nursery
from machine import machine
from pipeline import Client
from pipeline.deployment import NurseryInfo
from pipeline.timeline.chart import chart
from process_memory import Memory, memory
from unet_graphs import unet_graph

SMALL, WARM, COLD = "small UNet", "1.7 GB, cached", "1.7 GB, from disk"
# How many times faster the daemon has to be.
BOUNDS = {SMALL: 20.0, WARM: 8.0}
WORKERS = 4


def measure(client: Client, arguments: argparse.Namespace) -> list[Series]:
    """All comparisons, one after the other."""
    small, large = small_stable_diffusion() / "unet", stable_diffusion_unet()
    [weights] = large.glob("*.safetensors")
    compare(client, SMALL, small, size="small", rounds=1, prepare=lambda: None)
    return [
        compare(client, SMALL, small, size="small", rounds=arguments.rounds, prepare=lambda: None),
        compare(
            client,
            WARM,
            large,
            size="large",
            rounds=arguments.large_rounds,
            prepare=lambda: page_cache.warm(weights),
        ),
        compare(
            client,
            COLD,
            large,
            size="large",
            rounds=arguments.cold_rounds,
            prepare=lambda: page_cache.evict(weights),
        ),
    ]


def hold(client: Client) -> list[Memory]:
    """What each of several workers holds that have the same large weights, all of them alive."""
    folder = str(stable_diffusion_unet())
    names = [f"memory-{number}" for number in range(WORKERS)]
    for name in names:
        client.deploy(unet_graph("large", folder, name), name)
        client.run(name)
    return [memory(pid) for name in names for pid in client.deployment(name).worker_pids]


def show(console: Console, series: list[Series], held: list[Memory], nursery: NurseryInfo) -> None:
    """Print tables for people."""
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()), style="dim")
    way = f"exec ({nursery.exec_reason})" if nursery.exec_reason else "fork"
    imports = f"{nursery.preload_seconds:.1f} s"
    console.print(f"Workers start by {way}; the nursery's imports took {imports}, once.\n")
    times = Table("", title="From nothing to a first result: median (least-most), seconds")
    for heading in ("rounds", "fresh process", "daemon", "ratio", "bound"):
        times.add_column(heading, justify="right")
    for one in series:
        bound = f"{BOUNDS[one.name]:.0f}x" if one.name in BOUNDS else ""
        cells = [_spread(one.fresh), _spread(one.daemon)]
        times.add_row(one.name, str(len(one.fresh)), *cells, f"{one.ratio:.1f}x", bound)
    console.print(times)
    for said in sorted({said for one in series for said in one.preparations}):
        console.print(f"  from disk: only the weights were cold: {said}", style="dim")
    memories = Table("", title=f"{len(held)} workers with the same 1.7 GB of weights, MiB")
    for heading in ("private", "shared", "page tables"):
        memories.add_column(heading, justify="right")
    for number, one_held in enumerate(held, start=1):
        cells = [f"{value:.1f}" for value in asdict(one_held).values()]
        memories.add_row(f"worker {number}", *cells)
    console.print(memories)
    for one in series:
        if one.timeline is not None:
            console.print(f"\nThe daemon's last round, {one.name}:")
            console.print(chart(one.timeline, width=console.width))


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


def as_json(series: list[Series], held: list[Memory], nursery: NurseryInfo) -> str:
    """Everything that was measured."""
    plain = []
    for one in series:
        timeline = None if one.timeline is None else one.timeline.to_dict()
        plain.append({**asdict(one), "ratio": one.ratio, "timeline": timeline})
    return json.dumps(
        {
            "machine": machine(),
            "nursery": asdict(nursery),
            "series": plain,
            "workers": [asdict(one) for one in held],
        },
        default=str,
        indent=2,
    )


def main() -> int:
    """Measure, print, and compare with the bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where a bound is missed")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--rounds", type=int, default=7, help="of the small UNet")
    parser.add_argument("--large-rounds", type=int, default=5, help="with a warm page cache")
    parser.add_argument("--cold-rounds", type=int, default=3, help="with a cold one")
    arguments = parser.parse_args()
    # Both arms inherit these: neither asks the network whether the weights are up to date, and in
    # neither do idle threads spin for long, which on a busy machine makes a forward pass many times
    # slower (the daemon sees to that by itself).
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

    console, errors = Console(), Console(stderr=True)
    with local_daemon() as client, errors.status("measuring, for two to three minutes"):
        nursery = wait_for_nursery(client)
        series = measure(client, arguments)
        held = hold(client)
    if arguments.json:
        print(as_json(series, held, nursery))
    else:
        show(console, series, held, nursery)
    missed = [one for one in series if one.ratio < BOUNDS.get(one.name, 0)]
    for one in missed:
        errors.print(f"{one.name}: {one.ratio:.1f}x, not {BOUNDS[one.name]:.0f}x", style="red")
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
