"""Following the health of a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health_pb2


@contextmanager
def watch(channel: grpc.Channel, service: str) -> Iterator[Iterator[int]]:
    """Yield the statuses of a service as Watch tells them: the one now, then each other one."""
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
    try:
        yield (response.status for response in call)
    finally:
        call.cancel()
