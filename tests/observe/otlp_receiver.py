"""A receiver of traces: what an OpenTelemetry collector is to the daemon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SECONDS = 30.0


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came; ids as hexadecimal digits, times in nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, str | int]
    failed: bool
    service: str


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent.

    Attributes:
        port: On loopback.
    """

    def __init__(self) -> None:
        self.port = 0
        self._spans: list[ReceivedSpan] = []
        self._changed = threading.Condition()

    def Export(
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: grpc.ServicerContext,
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._changed:
            for resource in request.resource_spans:
                [service] = [
                    each.value.string_value
                    for each in resource.resource.attributes
                    if each.key == "service.name"
                ]
                for scope in resource.scope_spans:
                    self._spans += [_received(span, service) for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans_of(self, trace_id: str, *names: str) -> dict[str, ReceivedSpan]:
        """Wait until spans of these names have come of a trace, and return all of it by name."""
        found: dict[str, ReceivedSpan] = {}

        def complete() -> bool:
            found.update({s.name: s for s in self._spans if s.trace_id == trace_id})
            return found.keys() >= set(names)

        with self._changed:
            assert self._changed.wait_for(complete, SECONDS), f"only {sorted(found)}"
        return found


def _received(span: object, service: str) -> ReceivedSpan:
    from opentelemetry.proto.trace.v1 import trace_pb2

    assert isinstance(span, trace_pb2.Span)
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes={
            each.key: each.value.string_value or each.value.int_value for each in span.attributes
        },
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        service=service,
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Have one on a port of its own."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    # Generated without annotations.
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(receiver, server)
    receiver.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
