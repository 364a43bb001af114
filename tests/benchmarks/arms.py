"""The two arms of the cold start benchmark, and how they alternate."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pipeline import Client
from pipeline.timeline import Timeline
from unet_graphs import unet_graph

# The code and the weights are the same; a sum of floats depends a little on the number of threads.
TOLERANCE = 1e-5


@dataclass
class Series:
    """The rounds of one comparison, in seconds.

    Attributes:
        name: what is compared.
        fresh: from the spawn of a process to its printed result.
        daemon: from the call of deploy to the result of the first run.
        deploy: the part of ``daemon`` that the deploy call took.
        preparations: what was done to the page cache, where that may fail.
        timeline: of the last round in the daemon.

    """

    name: str
    fresh: list[float] = field(default_factory=list)
    daemon: list[float] = field(default_factory=list)
    deploy: list[float] = field(default_factory=list)
    preparations: list[str] = field(default_factory=list)
    timeline: Timeline | None = None

    @property
    def ratio(self) -> float:
        """How many times faster the daemon is, by the medians."""
        return median(self.fresh) / median(self.daemon)


def compare(
    client: Client,
    name: str,
    folder: Path,
    *,
    size: str,
    rounds: int,
    prepare: Callable[[], str | None],
) -> Series:
    """Run both arms in each round, by turns first; `prepare` sees to the page cache before each.

    Raises:
        SystemExit: the results differ, so the arms did not do the same work.

    """
    series = Series(name)
    for number in range(rounds):
        arms = [_fresh, _daemon] if number % 2 == 0 else [_daemon, _fresh]
        results = []
        for arm in arms:
            said = prepare()
            if said is not None:
                series.preparations.append(said)
            results.append(arm(series, client, f"{size}-{time.monotonic_ns()}", size, folder))
        if abs(results[0] - results[1]) > TOLERANCE * abs(results[0]):
            raise SystemExit(f"{name}: the arms disagree, {results}: nothing was measured")
    return series


def _fresh(series: Series, client: Client, name: str, size: str, folder: Path) -> float:
    program = Path(__file__).with_name("unet_work.py")
    command = [sys.executable, str(program), size, str(folder)]
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        series.fresh.append(time.perf_counter() - started)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return float(line)


def _daemon(series: Series, client: Client, name: str, size: str, folder: Path) -> float:
    graph = unet_graph(size, str(folder), name)
    started = time.perf_counter()
    client.deploy(graph, name)
    deployed = time.perf_counter()
    [result] = client.run(name)
    series.daemon.append(time.perf_counter() - started)
    series.deploy.append(deployed - started)
    series.timeline = client.timeline(name)
    # Its worker would take memory from the rounds that follow.
    client.delete(name)
    assert isinstance(result, int | float)
    return float(result)
