"""Traces for OpenTelemetry: a span of each call that begins a run, and of what the run meets.

Imported only where traces are configured: the packages are those of the extra ``[otel]``. Spans of
queue, startup, execution and nodes are made when they are over, of the times that are known then;
but the execution's is begun with the run, as the worker is told of it.
"""

from __future__ import annotations

import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipelined.core.observers import Unobserved
from pipelined.core.ports import NodeTime, TraceContext
from pipelined.core.run import Run, RunState
from pipelined.core.stages import StageKind, Timeline
from pipelined_api.v1 import runs_pb2

_RUNS = f"/{runs_pb2.DESCRIPTOR.services_by_name['Runs'].full_name}/"
# Their spans begin a trace if the caller has none; those of other calls only continue one.
_BEGINNING = {f"{_RUNS}{method}" for method in ("Run", "Stream", "Submit")}
_PACKAGE = f"/{runs_pb2.DESCRIPTOR.package}."
_HEADERS = ("traceparent", "tracestate")
_PROPAGATOR = TraceContextTextMapPropagator()
# Runs that wait for them look at them at once.
_STARTUPS_KEPT = 256


class Traces(Unobserved):
    """Makes and exports spans. Belongs to one event loop.

    Args:
        endpoint: Of an OTLP receiver (gRPC), "http://host:4317" or "https://…"; empty for what the
            OTEL_EXPORTER_OTLP_ variables say. They also have headers, certificates, the sampler and
            the resource.
        version: Of the distribution.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        resource = Resource.create({"service.name": "pipelined", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(
            endpoint=endpoint or None,
            insecure=not endpoint.startswith("https:") if endpoint else None,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("pipelined", version)
        # By the ids of runs: where the spans of their parts belong, and the span of the execution.
        self._parents: dict[str, Context] = {}
        self._executions: dict[str, Span] = {}
        # By deployment and version: the last one that went well.
        self._startups: OrderedDict[tuple[str, int], Timeline] = OrderedDict()
        self.around = CallSpans(self._tracer).around

    def close(self) -> None:
        """Export what has not been; waits for that, so not on the event loop's thread."""
        self._provider.shutdown()

    def run_created(self, run: Run) -> None:
        """See Observer."""
        span = trace.get_current_span()
        context = trace.set_span_in_context(span)
        if not span.get_span_context().is_valid:
            # Not in a call: one that is brought back after a restart, say.
            context = _PROPAGATOR.extract(dict(zip(_HEADERS, run.trace, strict=True)))
        span.set_attributes(_attributes(run))
        self._parents[run.id] = context

    def run_begun(self, run: Run) -> None:
        """See Observer."""
        if (parent := self._parents.get(run.id)) is None or run.started_at is None:
            return
        queue = self._span("queue", parent, run.created_at, run.started_at, _attributes(run))
        startup = self._startups.get((run.deployment, run.version))
        if run.cold and startup is not None:
            self._startup(startup, run, trace.set_span_in_context(queue))
        execution = self._tracer.start_span(
            "execute",
            context=parent,
            start_time=_nanoseconds(run.started_at),
            attributes=_attributes(run),
        )
        self._executions[run.id] = execution
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, context=trace.set_span_in_context(execution, parent))
        run.trace = TraceContext(*(headers.get(name, "") for name in _HEADERS))

    def run_queued_again(self, run: Run) -> None:
        """See Observer."""
        if (execution := self._executions.pop(run.id, None)) is not None:
            execution.set_status(Status(StatusCode.ERROR))
            execution.end()

    def run_ended(self, run: Run, nodes: Sequence[NodeTime]) -> None:
        """See Observer."""
        parent = self._parents.pop(run.id, None)
        if parent is None or run.ended_at is None:
            return
        span = self._executions.pop(run.id, None)
        if span is None:
            span = self._tracer.start_span(
                "queue",
                context=parent,
                start_time=_nanoseconds(run.created_at),
                attributes=_attributes(run),
            )
        if run.state is not RunState.SUCCEEDED:
            # Not the text: it may have what the caller sent.
            span.set_attribute("error.type", type(run.error).__name__)
            span.set_status(Status(StatusCode.ERROR))
        context = trace.set_span_in_context(span)
        # What a worker says is kept within what the daemon has seen.
        offset = time.time() - time.monotonic()
        least, most = run.started_at or run.created_at, run.ended_at
        for node in nodes:
            began = min(max(node.started + offset, least), most)
            ended = min(began + max(node.seconds, 0.0), most)
            self._span(f"node {node.name}", context, began, ended, {"pipelined.node": node.name})
        span.end(_nanoseconds(run.ended_at))

    def startup_ended(self, timeline: Timeline, error: Exception | None) -> None:
        """See Observer."""
        if error is None:
            self._startups[timeline.deployment, timeline.version] = timeline
            if len(self._startups) > _STARTUPS_KEPT:
                self._startups.popitem(last=False)

    def _startup(self, timeline: Timeline, run: Run, parent: Context) -> None:
        ended = max((s.start_seconds + s.seconds for s in timeline.stages), default=0.0)
        if timeline.started_at + ended < run.created_at:
            # Of an instance that has gone before the run came.
            return
        attributes: dict[str, str | int] = {
            "pipelined.deployment": timeline.deployment,
            "pipelined.version": timeline.version,
            "pipelined.startup": timeline.startup,
        }
        zero = timeline.started_at
        span = self._span("startup", parent, zero, zero + ended, attributes)
        context = trace.set_span_in_context(span)
        for stage in timeline.stages:
            if stage.kind is StageKind.READY:
                continue
            name = f"startup {stage.kind.name.lower()}"
            began = zero + stage.start_seconds
            of_it: dict[str, str | int] = {"pipelined.stage": stage.kind.name.lower()}
            if stage.name:
                of_it["pipelined.stage.name"] = stage.name
            if stage.bytes:
                of_it["pipelined.stage.bytes"] = stage.bytes
            self._span(name, context, began, began + stage.seconds, of_it)

    def _span(
        self,
        name: str,
        parent: Context,
        began: float,
        ended: float,
        attributes: dict[str, str | int],
    ) -> Span:
        """Make a span that is over; times are seconds since the epoch."""
        span = self._tracer.start_span(
            name, context=parent, start_time=_nanoseconds(began), attributes=attributes
        )
        span.end(_nanoseconds(ended))
        return span


class CallSpans:
    """Executes calls within a span each, the child of the caller's.

    Args:
        tracer: Makes the spans.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def around(
        self,
        method: str,
        handler: grpc.RpcMethodHandler[Any, Any],
        metadata: Collection[tuple[str, str | bytes]],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Make of a method's handler the one that answers a call with such metadata."""
        headers = {key: value for key, value in metadata if key in _HEADERS}
        if not method.startswith(_PACKAGE):
            return handler
        if method not in _BEGINNING and "traceparent" not in headers:
            return handler
        traced: Any = handler
        parent = _PROPAGATOR.extract(headers)
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(traced, kind)
            # A generator would have the span as the current one also where it is suspended.
            if behaviour is not None and not inspect.isasyncgenfunction(inspect.unwrap(behaviour)):
                traced = traced._replace(**{kind: self._traced(behaviour, method, parent)})
        return traced  # type: ignore[no-any-return]

    def _traced(
        self, behaviour: Callable[[Any, Any], Awaitable[Any]], method: str, parent: Context
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        service, _, name = method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

        async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._tracer.start_as_current_span(
                method[1:],
                context=parent,
                kind=SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    answer = await behaviour(request, context)
                except BaseException:
                    span.set_status(Status(StatusCode.ERROR))
                    code = context.code()
                    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
                    if isinstance(number, int):
                        span.set_attribute("rpc.grpc.status_code", number)
                    raise
                span.set_attribute("rpc.grpc.status_code", 0)
                return answer

        return traced


def _attributes(run: Run) -> dict[str, str | int]:
    return {
        "pipelined.run_id": run.id,
        "pipelined.deployment": run.deployment,
        "pipelined.version": run.version,
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
