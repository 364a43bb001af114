"""All that watches the daemon, put together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any

import structlog

from pipelined.core.observers import Observers
from pipelined.core.ports import Observer
from pipelined.observe.activity import Activity
from pipelined.observe.errors import TracesError
from pipelined.observe.event_log import EventLog
from pipelined.observe.from_loop import ask
from pipelined.observe.loop_lag import LoopLag
from pipelined.observe.reporter import Reporter
from pipelined.settings import MetricsSettings, Settings
from pipelined_api.v1 import daemon_pb2

# With one of these OpenTelemetry's own libraries would export, too.
_TRACE_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Until spans that have not been exported are lost.
_LAST_EXPORT_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Observation:
    """What watches the daemon.

    Attributes:
        activity: Counts.
        observer: To be told of everything.
        around: Puts spans around the handlers of calls; None if traces are not configured.
        traced: Whether traces are recorded.
    """

    activity: Activity
    observer: Observer
    around: Callable[[str, Any, Collection[tuple[str, str | bytes]]], Any] | None
    traced: bool = False


@contextlib.asynccontextmanager
async def observing(settings: Settings, version: str) -> AsyncIterator[Observation]:
    """Make what watches, as far as it is configured, and end it.

    Raises:
        TracesError: The packages for traces are missing.
    """
    activity = Activity()
    observers: list[Observer] = [activity, EventLog(debug=settings.log.debug)]
    configured = bool(settings.traces.endpoint)
    if not configured and not any(os.environ.get(name) for name in _TRACE_VARIABLES):
        yield Observation(activity, Observers(*observers, broken=_broken), None)
        return
    try:
        from pipelined.observe.traces import Traces
    except ImportError as error:
        why = f"traces need {error.name}: pip install 'pipelined[otel]'"
        if configured:
            raise TracesError(why) from None
        # The variables may be meant for others.
        log.warning("no traces", reason=why)
        yield Observation(activity, Observers(*observers, broken=_broken), None)
        return
    traces = Traces(settings.traces.endpoint or "", version)
    # First: what the others log has the trace that it gives to a run.
    observers.insert(0, traces)
    try:
        yield Observation(
            activity, Observers(*observers, broken=_broken), traces.around, traced=True
        )
    finally:
        # Not a thread that the end of the process waits for: the receiver may be gone.
        closing = threading.Thread(target=traces.close, name="last traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _LAST_EXPORT_SECONDS)


def _broken(error: Exception) -> None:
    log.error("an observer broke", exc_info=error)


@contextlib.asynccontextmanager
async def metrics_served(
    settings: MetricsSettings,
    version: str,
    reporter: Reporter,
    nursery: Callable[[], daemon_pb2.Nursery],
    serving: Callable[[], bool],
) -> AsyncIterator[None]:
    """Serve the metrics over HTTP, if that is configured.

    Args:
        settings: Where.
        version: Of the distribution.
        reporter: Has the numbers.
        nursery: Says what the nursery is doing.
        serving: Says whether the daemon is healthy.

    Raises:
        MetricsError: They cannot be served there.
    """
    if settings.address is None:
        yield
        return
    # Their packages are imported by those who want them.
    from pipelined.observe.http import MetricsServer
    from pipelined.observe.metrics import DaemonCollector, Numbers, registry_of

    loop = asyncio.get_running_loop()

    with contextlib.closing(LoopLag()) as lag:

        def numbers() -> Numbers:
            return Numbers(
                report=reporter.snapshot(),
                counts=reporter.counts(),
                lag=lag.seconds.copy(),
                nursery=nursery(),
                serving=serving(),
            )

        collector = DaemonCollector(version, lambda: ask(loop, numbers), reporter.with_memory)
        server = MetricsServer(
            settings.address, registry_of(collector), lambda: bool(ask(loop, serving))
        )
        log.info("metrics served", address=str(server.address))
        try:
            yield
        finally:
            await asyncio.to_thread(server.close)
