"""The daemon's numbers for Prometheus. docs/observability.md has the list of them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from pipelined.core.reports import DaemonReport, DeploymentReport
from pipelined.core.run import RunState
from pipelined.core.states import State
from pipelined.observe.activity import Histogram
from pipelined.observe.reporter import Counts
from pipelined_api.v1 import daemon_pb2
from pipelined_api.versions import API_VERSION

_ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)
_NURSERY_STATES = {
    daemon_pb2.Nursery.STATE_PRELOADING: "preloading",
    daemon_pb2.Nursery.STATE_READY: "ready",
    daemon_pb2.Nursery.STATE_RESTARTING: "restarting",
}


@dataclass(frozen=True, slots=True)
class Numbers:
    """All that is reported, as it was at one moment.

    Attributes:
        report: Without the memory of processes.
        counts: By deployment.
        lag: Of the event loop.
        nursery: What it is doing.
        serving: Whether the daemon is healthy.
    """

    report: DaemonReport
    counts: dict[str, Counts]
    lag: Histogram
    nursery: daemon_pb2.Nursery
    serving: bool


class DaemonCollector(Collector):
    """Makes metrics of numbers, in the thread of whoever asks.

    Args:
        version: Of the distribution.
        take: Returns the numbers; None if the event loop does not answer.
        with_memory: Adds to a report what the kernel has to be asked.
    """

    def __init__(
        self,
        version: str,
        take: Callable[[], Numbers | None],
        with_memory: Callable[[DaemonReport], DaemonReport],
    ) -> None:
        self._version = version
        self._take = take
        self._with_memory = with_memory

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        numbers = self._take()
        yield _build_info(self._version)
        yield GaugeMetricFamily(
            "pipelined_event_loop_responsive",
            "1 if the event loop answered; otherwise all that it would have said is missing.",
            value=float(numbers is not None),
        )
        if numbers is not None:
            yield from _of_the_daemon(numbers)
            yield from _of_deployments(numbers, self._with_memory(numbers.report))


def registry_of(collector: DaemonCollector) -> CollectorRegistry:
    """Return a registry with it, and with what the kernel says of this process."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def _build_info(version: str) -> Metric:
    info = GaugeMetricFamily(
        "pipelined_build_info",
        "1, with the versions of the daemon, of its API and of its Python.",
        labels=["version", "api_version", "python_version"],
    )
    info.add_metric([version, API_VERSION, platform.python_version()], 1.0)
    return info


def _of_the_daemon(numbers: Numbers) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pipelined_serving", "1 while the daemon is healthy.", value=float(numbers.serving)
    )
    lag = HistogramMetricFamily(
        "pipelined_event_loop_lag_seconds",
        "How much later than asked for the event loop woke up, each quarter of a second.",
    )
    lag.add_metric([], *_cumulative(numbers.lag))
    yield lag
    failed = CounterMetricFamily(
        "pipelined_calls_failed", "Calls answered with an error, by reason.", labels=["reason"]
    )
    for reason, count in sorted(numbers.report.failed_calls.items()):
        failed.add_metric([reason], count)
    yield failed
    yield GaugeMetricFamily(
        "pipelined_files_bytes",
        "Bytes of uploaded files and of those that runs gave back.",
        value=numbers.report.stored_bytes,
    )
    state = GaugeMetricFamily(
        "pipelined_nursery_state", "1 for the state that the nursery is in.", labels=["state"]
    )
    for value, name in _NURSERY_STATES.items():
        state.add_metric([name], float(numbers.nursery.state == value))
    yield state
    yield CounterMetricFamily(
        "pipelined_nursery_restarts",
        "Nurseries started after the first one.",
        value=numbers.nursery.restarts,
    )


def _of_deployments(numbers: Numbers, report: DaemonReport) -> Sequence[Metric]:
    runs = _counter("runs", "Runs that ended, by state.", "state")
    starts = _counter("run_starts", "Runs begun, cold if they waited for a startup.", "start")
    startups = _counter("startups", "Startups that ended, by outcome.", "outcome")
    restarts = _counter("worker_restarts", "Warm workers that ended unasked, by cause.", "cause")
    queued = _gauge("runs_queued", "Runs that wait for an instance.")
    submitted = _gauge("submitted_runs_queued", "Of those, the ones that nobody waits for.")
    running = _gauge("runs_running", "Runs that workers have.")
    instances = _gauge("instances", "Instances by state.", "state")
    memory = _gauge("worker_memory_bytes", "Memory of the live workers together.", "kind")
    weights = _gauge("weights_bytes", "Bytes of files of weights, by where they are.", "tier")
    queue_seconds = _histogram("run_queue_seconds", "From the call to the beginning of a run.")
    run_seconds = _histogram("run_seconds", "From the beginning of a run to its end.")
    stages = _histogram("startup_stage_seconds", "Stages of startups.", "stage")
    for each in report.deployments:
        name = each.name
        for state in State:
            instances.add_metric([name, state.name.lower()], each.instances.get(state, 0))
        for kind, size in _memory(each):
            memory.add_metric([name, kind], size)
        weights.add_metric([name, "worker"], each.weights_bytes)
        queued.add_metric([name], each.queued)
        running.add_metric([name], each.running)
        starts.add_metric([name, "cold"], each.cold_starts)
        starts.add_metric([name, "warm"], each.warm_starts)
        if (counts := numbers.counts.get(name)) is None:
            continue
        submitted.add_metric([name], counts.submitted)
        for end in _ENDS:
            runs.add_metric([name, end.name.lower()], counts.ended.get(end, 0))
        for outcome, count in counts.startups.items():
            startups.add_metric([name, outcome], count)
        for cause, count in counts.deaths.items():
            restarts.add_metric([name, cause], count)
        queue_seconds.add_metric([name], *_cumulative(counts.queue_seconds))
        run_seconds.add_metric([name], *_cumulative(counts.run_seconds))
        for stage, times in counts.stages.items():
            stages.add_metric([name, stage.name.lower()], *_cumulative(times))
    gauges = (queued, submitted, running, instances, memory, weights)
    return [runs, starts, startups, restarts, *gauges, queue_seconds, run_seconds, stages]


def _memory(report: DeploymentReport) -> Iterable[tuple[str, int]]:
    yield "resident", report.memory.resident
    yield "anonymous", report.memory.anonymous
    if report.memory.proportional is not None:
        yield "proportional", report.memory.proportional


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"pipelined_{name}", text, labels=["deployment", *labels])


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pipelined_{name}", text, labels=["deployment", *labels])


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"pipelined_{name}", text, labels=["deployment", *labels])


def _cumulative(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets as Prometheus has them, and the sum."""
    total = 0
    buckets: list[tuple[str, float]] = []
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets, histogram.sum
