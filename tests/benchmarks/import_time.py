"""How long importing the library takes, in processes of their own.

    python tests/benchmarks/import_time.py [--check] [--rounds N]

From the start of the import to its end, without the interpreter's own start; and from the spawn of
``pipeline --help`` to its exit. Medians of rounds. The exit code of --check is 1 where
``import pipeline`` takes more than 0.4 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from machine import machine

MOST_SECONDS = 0.4
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    library = median(_import("pipeline") for _ in range(options.rounds))
    rows = {
        "import pipeline": library,
        "import pipeline.client": median(_import("pipeline.client") for _ in range(options.rounds)),
        "pipeline --help": median(_help() for _ in range(options.rounds)),
    }
    table = Table("", "seconds", title=f"Importing the library, medians of {options.rounds}")
    for label, seconds in rows.items():
        table.add_row(label, f"{seconds:.3f}")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    if options.check and library > MOST_SECONDS:
        console.print(f"[red]import pipeline took {library:.3f} s, more than {MOST_SECONDS} s")
        return 1
    return 0


def _import(module: str) -> float:
    command = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _help() -> float:
    command = [str(Path(sys.executable).with_name("pipeline")), "--help"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
