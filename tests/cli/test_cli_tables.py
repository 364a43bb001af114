"""What gives way in tables where a terminal is narrow: the reasons of failures, nothing else."""

from __future__ import annotations

import io
from datetime import datetime, timezone

from rich.console import Console

from pipeline.cli import printing
from pipeline.runs import RunInfo


def test_a_long_failure_leaves_the_other_columns_whole() -> None:
    long = "the daemon ended while the run was executed; it may have had effects"
    now = datetime.now(timezone.utc)
    run = RunInfo("0123456789abcdef", "summary", 3, "failed", now, reason="WHY", message=long)
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as capture:
        console.print(printing.runs_table([run]))
    [heading, row] = capture.get().splitlines()
    assert heading.split() == ["RUN", "DEPLOYMENT", "STATE", "AGE", "TOOK", "ATTEMPTS", "FAILURE"]
    assert row.startswith("0123456789abcdef  summary:v3  failed ")
    assert row.rstrip().endswith("…")
