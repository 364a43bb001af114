"""How much of the slower of disk and link a load onto a device gets, either being the slower.

The link is the fake CUDA driver's, the disk a library that delays reads of cached files: both of
known speeds, slow enough that the processor is not what is measured. From the call to the last byte
on the device, with opening the files, pinning and allocating in it. Medians of rounds; each case in
a process of its own.

    python tests/benchmarks/loader_link.py [--check] [--rounds N] [--megabytes N]

The exit code of --check is 1 where less than 0.95 of the slower rate was reached, or 0.9 with
20,000 small tensors, or where more memory was pinned than the budget allows.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for the tests' own compiler

from machine import machine  # noqa: E402
from tests.cpp import compiling  # noqa: E402

FAST, MIDDLE, SLOW = 0.8e9, 0.4e9, 0.2e9
SMALL_TENSORS = 20_000
PINNED_BYTES = 256 << 20
LEAST = {"large": 0.95, "small": 0.9}


@dataclass(frozen=True)
class Case:
    """What is loaded, and over what."""

    tensors: str
    disk: float
    link: float

    @property
    def slower(self) -> float:
        return min(self.disk, self.link)


CASES = [
    Case(tensors, disk, link)
    for tensors in ("large", "small")
    for disk, link in ((FAST, SLOW), (SLOW, FAST), (MIDDLE, MIDDLE), (FAST, MIDDLE), (MIDDLE, FAST))
]


def write_file(path: Path, sizes: list[int]) -> None:
    header = {}
    end = 0
    for index, size in enumerate(sizes):
        header[f"t{index}"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(0, end, len(block)):
            file.write(block)
        file.truncate(8 + len(text) + end)
    # Read once, so that what follows comes from the page cache.
    with path.open("rb") as file:
        while file.read(16 << 20):
            pass


def load(path: str, library: str, link: float, rounds: int) -> None:
    """Run in a child: load, and print the seconds and the most that was pinned."""
    from pipelined import weights
    from pipelined.weights import _devices
    from tests.weights.cuda.fake_driver import FakeDriver, Statistic

    driver = FakeDriver(Path(library))
    driver.configure(
        to_device_rate=int(link), copy_nanoseconds=5000, late_microseconds=20, pinning_rate=5 << 30
    )
    weights.set_budgets(weights.Budgets(pinned_bytes=PINNED_BYTES))
    device = _devices.device(0, library)
    seconds = []
    for _ in range(rounds):
        # As in a process that loads for the first time.
        device.trim()
        started = time.perf_counter()
        arena = weights.begin([path], driver=library)
        arena.wait()
        seconds.append(time.perf_counter() - started)
        total = arena.stats().tensor_bytes
        del arena
    pinned = driver.statistic(Statistic.PINNED_PEAK)
    sys.stdout.write(json.dumps({"seconds": seconds, "bytes": total, "pinned": pinned}))


def measure(case: Case, path: Path, libraries: dict[str, Path], rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--load", str(path), str(libraries["fake_cuda"])]
    done = subprocess.run(
        [*command, str(case.link), "--rounds", str(rounds)],
        env={
            **os.environ,
            "LD_PRELOAD": str(libraries["slow_disk"]),
            "SLOW_DISK_RATE": str(case.disk),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout)
    achieved = measured["bytes"] / median(measured["seconds"])
    return {
        "achieved": achieved,
        "ratio": achieved / case.slower,
        "worst": measured["bytes"] / max(measured["seconds"]) / case.slower,
        "pinned": measured["pinned"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        path, library, link = arguments.load
        load(path, library, float(link), arguments.rounds)
        return 0
    libraries = {
        name: compiling.build_library(name, ["-O2"]) for name in ("fake_cuda", "slow_disk")
    }
    console = Console()
    table = Table(
        "tensors", "disk GB/s", "link GB/s", "achieved GB/s", "share", "worst", "pinned MB"
    )
    missed = False
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        total = arguments.megabytes << 20
        paths = {kind: Path(folder) / f"{kind}.safetensors" for kind in LEAST}
        write_file(paths["large"], [total // 32] * 32)
        write_file(paths["small"], [total // SMALL_TENSORS] * SMALL_TENSORS)
        for case in CASES:
            figures = measure(case, paths[case.tensors], libraries, arguments.rounds)
            bad = figures["ratio"] < LEAST[case.tensors] or figures["pinned"] > PINNED_BYTES
            missed |= bad
            table.add_row(
                "20,000" if case.tensors == "small" else "32",
                f"{case.disk / 1e9:.1f}",
                f"{case.link / 1e9:.1f}",
                f"{figures['achieved'] / 1e9:.3f}",
                f"{'[red]' if bad else ''}{figures['ratio']:.3f}",
                f"{figures['worst']:.3f}",
                f"{figures['pinned'] / 1e6:.0f}",
            )
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
    return int(missed and arguments.check)


if __name__ == "__main__":
    sys.exit(main())
