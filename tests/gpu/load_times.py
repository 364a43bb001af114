"""How fast files get from the page cache onto the device, beside safetensors and the link's limit.

    python tests/gpu/load_times.py [--rounds N] [--megabytes N]

Prints a table: for each size the medians of rounds in which the loaders take turns, after one round
that does not count but for the column "first", which has the pinning of memory in it. From the call
until the device has everything and has nothing left to do. The link's limit is what one copy from
pinned memory reaches, measured between the rounds. Without torch's CUDA, only our loader runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import safetensors
import safetensors.torch
import torch

from pipelined import weights
from tests.gpu.checkpoints import write_large
from tests.gpu.devices import host_to_device_rate, library, why_no_device, why_no_torch_device

OURS = "pipelined"
# Until the device has everything.
Load = Callable[[Path], object]


@dataclass(frozen=True)
class Size:
    """A file to load: its name in the table, and the bytes of its tensors."""

    name: str
    tensors: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(self.tensors)


def split(megabytes: int, tensors: int) -> tuple[int, ...]:
    """Tensors of two sizes in turn, as layers have matrices and vectors."""
    each = megabytes * 1_000_000 // (tensors // 2) // 512 * 512
    return (each, 512) * (tensors // 2)


SIZES: tuple[Size, ...] = (
    Size("90 MB", split(90, 100)),
    Size("1.7 GB", split(1700, 680)),
    Size("20,000 tensors", tuple(2 * (64 + index % 192) * 4 for index in range(20_000))),
    Size("7 GB", split(7000, 290)),
)


@dataclass
class Row:
    """What one loader took for one size, in seconds."""

    first: float = 0.0
    seconds: list[float] = field(default_factory=list)


def ours_without_torch(path: Path) -> object:
    arena = weights.begin([path])
    arena.wait()
    return arena


def ours(path: Path) -> object:
    tensors = weights.load_file(path, device="cuda:0")
    torch.cuda.synchronize()
    return tensors


def stock(path: Path) -> object:
    tensors = safetensors.torch.load_file(path, device="cuda:0")
    torch.cuda.synchronize()
    return tensors


def stock_prefetch(path: Path) -> object:
    with safetensors.safe_open(path, framework="pt", device="cuda:0") as file:
        tensors = dict(file.prefetch())
    torch.cuda.synchronize()
    return tensors


def loaders() -> dict[str, Load]:
    """All that can be compared here; says what cannot."""
    if why_no_torch_device() is not None:
        print(f"safetensors: not compared, {why_no_torch_device()}")
        return {OURS: ours_without_torch}
    found: dict[str, Load] = {OURS: ours, "safetensors load_file": stock}
    if hasattr(safetensors.safe_open, "prefetch"):
        found["safetensors prefetch"] = stock_prefetch
    else:
        print(f"safetensors {safetensors.__version__} has no prefetch: not compared")
    return found


def warm(path: Path) -> None:
    """Read all of it, so that the page cache has it."""
    with path.open("rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


def why_not(size: Size, folder: Path) -> str | None:
    """Why there is no room for a size; None where there is."""
    spare = 2 << 30
    if shutil.disk_usage(folder).free < size.bytes + spare:
        return f"there is no room for it in {folder}"
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:") and int(line.split()[1]) * 1024 < size.bytes + spare:
            return "the page cache could not hold it"
    # Two at a time while one is let go of.
    if why_no_torch_device() is None and torch.cuda.mem_get_info()[0] < 2 * size.bytes + spare:
        return "the device has too little free memory"
    return None


def check_equal(path: Path) -> None:
    """Raise SystemExit where the loaders disagree."""
    if why_no_torch_device() is not None:
        return
    mine = weights.load_file(path, device="cuda:0")
    for name, tensor in safetensors.torch.load_file(path, device="cuda:0").items():
        if not torch.equal(mine[name], tensor):
            raise SystemExit(f"{name} of {path.name} is not what safetensors loads")


def measure(path: Path, found: dict[str, Load], rounds: int) -> tuple[dict[str, Row], float]:
    """Load a file with each; also return the link's rate, in bytes a second."""
    rows = {name: Row() for name in found}
    limits = []
    names = list(found)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            warm(path)
            gc.collect()
            started = time.perf_counter()
            loaded = found[name](path)
            seconds = time.perf_counter() - started
            if number == 0:
                rows[name].first = seconds
            else:
                rows[name].seconds.append(seconds)
            del loaded
            if why_no_torch_device() is None:
                # Each pays for its own allocations.
                torch.cuda.empty_cache()
        limits.append(link_rate())
    return rows, max(limits)


def link_rate() -> float:
    """What the link does at best, measured on an arena that nobody needs."""
    with tempfile.TemporaryDirectory() as folder:
        arena = weights.begin([write_large(Path(folder) / "link.safetensors", [256 << 20])])
        arena.wait()
        return host_to_device_rate(arena.address("layers.0.weight"), 256 << 20)


def show(size: Size, rows: dict[str, Row], limit: float) -> None:
    medians = {name: median(row.seconds) for name, row in rows.items()}
    print(f"\n{size.name}: {len(size.tensors)} tensors, {size.bytes / 1e9:.3f} GB")
    print(f"  {'':24}{'median s':>10}{'min':>9}{'max':>9}{'first':>9}{'GB/s':>8}{'of link':>9}")
    for name, row in rows.items():
        rate = size.bytes / medians[name]
        ratio = "" if name == OURS else f"   ours is {medians[name] / medians[OURS]:.2f}x as fast"
        print(
            f"  {name:24}{medians[name]:10.4f}{min(row.seconds):9.4f}{max(row.seconds):9.4f}"
            f"{row.first:9.4f}{rate / 1e9:8.2f}{rate / limit:9.1%}{ratio}"
        )
    print(f"  {'one pinned copy':24}{size.bytes / limit:10.4f}{'':27}{limit / 1e9:8.2f}{1:9.1%}")


def machine() -> str:
    facts = [f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    facts += [f"torch {torch.__version__}", f"safetensors {safetensors.__version__}"]
    device = "a driver that is not NVIDIA's" if "PIPELINED_CUDA_DRIVER" in os.environ else library()
    if why_no_torch_device() is None:
        device = torch.cuda.get_device_name(0)
    return ", ".join([device, *facts])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, help="one size only: this, in 100 tensors")
    options = parser.parse_args(arguments)
    if why_no_device() is not None:
        print(why_no_device())
        return 1
    sizes = SIZES
    if options.megabytes is not None:
        sizes = (Size(f"{options.megabytes} MB", split(options.megabytes, 100)),)
    print(f"Load times onto {machine()}")
    found = loaders()
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            reason = why_not(size, Path(folder))
            if reason is not None:
                print(f"\n{size.name}: not measured, {reason}")
                continue
            path = write_large(Path(folder) / "weights.safetensors", size.tensors)
            check_equal(path)
            show(size, *measure(path, found, options.rounds))
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
