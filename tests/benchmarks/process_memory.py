"""What a process holds, as the kernel counts it."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Memory:
    """In MiB.

    Attributes:
        private: pages that no other process maps, from smaps_rollup.
        shared: pages that others map too: the nursery's, and weights in the page cache.
        page_tables: what the kernel needs to map them.

    """

    private: float
    shared: float
    page_tables: float


def memory(pid: int) -> Memory:
    """Measure a live process."""
    rollup = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"))
    status = _kilobytes(Path(f"/proc/{pid}/status"))
    return Memory(
        private=(rollup["Private_Clean"] + rollup["Private_Dirty"]) * 1024 / MIB,
        shared=(rollup["Shared_Clean"] + rollup["Shared_Dirty"]) * 1024 / MIB,
        page_tables=status["VmPTE"] * 1024 / MIB,
    )


def _kilobytes(path: Path) -> dict[str, int]:
    values = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            values[name] = int(words[0])
    return values
