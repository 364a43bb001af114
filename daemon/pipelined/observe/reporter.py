"""Makes reports: takes the numbers on the event loop, and reads /proc beside it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipelined.core.deployment import Deployment
from pipelined.core.reports import DaemonReport, DeploymentReport, ProcessMemory
from pipelined.core.run import RunState
from pipelined.core.stages import StageKind
from pipelined.core.states import State
from pipelined.core.versions import Catalogue
from pipelined.observe.activity import Activity, Histogram, Tally
from pipelined.observe.memory import MemoryReader, open_files


@dataclass(frozen=True, slots=True)
class Counts:
    """What a tally has besides the numbers of a DeploymentReport, as it was at one moment."""

    submitted: int
    ended: Mapping[RunState, int]
    queue_seconds: Histogram
    run_seconds: Histogram
    startups: Mapping[str, int]
    stages: Mapping[StageKind, Histogram]
    deaths: Mapping[str, int]


class Reporter:
    """Reports on the daemon. ``snapshot`` and ``report`` belong to the event loop.

    Args:
        catalogue: The deployments.
        activity: What they have done.
        stored_bytes: Says what files there are.
        failed_calls: Says how many calls were answered with an error, by reason.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        activity: Activity,
        stored_bytes: Callable[[], int],
        failed_calls: Callable[[], Mapping[str, int]],
    ) -> None:
        self._catalogue = catalogue
        self._activity = activity
        self._stored_bytes = stored_bytes
        self._failed_calls = failed_calls
        self._memory = MemoryReader()
        self._reading = threading.Lock()

    async def report(self) -> DaemonReport:
        """Say what there is now."""
        return await asyncio.to_thread(self.with_memory, self.snapshot())

    def snapshot(self) -> DaemonReport:
        """Say what there is now, but for what the kernel has to be asked."""
        by_name: dict[str, list[Deployment]] = {}
        for deployment in self._catalogue.list(all_versions=True):
            by_name.setdefault(deployment.specification.name, []).append(deployment)
        return DaemonReport(
            deployments=[self._deployment(name, each) for name, each in by_name.items()],
            memory=ProcessMemory(),
            open_files=0,
            stored_bytes=self._stored_bytes(),
            failed_calls=dict(self._failed_calls()),
        )

    def counts(self) -> dict[str, Counts]:
        """Say what a tally of each deployment has beside that."""
        return {name: _counts(tally) for name, tally in self._activity.tallies.items()}

    def with_memory(self, report: DaemonReport) -> DaemonReport:
        """Add what the kernel has to be asked; in any thread but the event loop's."""
        with self._reading:
            return replace(
                report,
                deployments=[
                    replace(each, memory=self._memory.of(each.workers))
                    for each in report.deployments
                ],
                memory=self._memory.of([os.getpid()]),
                open_files=open_files(),
            )

    def _deployment(self, name: str, versions: list[Deployment]) -> DeploymentReport:
        newest = versions[-1]
        instances: Counter[State] = Counter()
        for version in versions:
            instances.update(version.instances.states)
        report = DeploymentReport(
            name=name,
            version=newest.specification.version,
            state=newest.state,
            instances=instances,
            workers=[pid for version in versions for pid in version.instances.worker_pids],
            weights_bytes=sum(version.instances.weights_bytes for version in versions),
        )
        tally = self._activity.tallies.get(name)
        if tally is None:
            return report
        median, most = tally.recent.quantiles(0.5, 0.99)
        return replace(
            report,
            queued=tally.queued,
            running=tally.running,
            succeeded=tally.ended[RunState.SUCCEEDED],
            failed=tally.ended[RunState.FAILED],
            cancelled=tally.ended[RunState.CANCELLED],
            cold_starts=tally.cold_starts,
            warm_starts=tally.warm_starts,
            restarts=tally.restarts,
            runs_per_second=tally.recent.per_second(),
            seconds_p50=median,
            seconds_p99=most,
        )


def _counts(tally: Tally) -> Counts:
    return Counts(
        submitted=tally.submitted,
        ended=dict(tally.ended),
        queue_seconds=tally.queue_seconds.copy(),
        run_seconds=tally.run_seconds.copy(),
        startups=dict(tally.startups),
        stages={kind: times.copy() for kind, times in tally.stages.items()},
        deaths=dict(tally.deaths),
    )
