"""grpc.health.v1: "" is the daemon, "deployments/NAME" the newest version of each deployment.

Our own servicer, because the one of grpcio-health-checking forgets the other watchers of a service
when one of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pipelined.core.deployment import Deployment

Context = grpc.aio.ServicerContext[Any, Any]
Response = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health of the daemon and of each deployment. Belongs to one event loop."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {"": Response.NOT_SERVING}
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @property
    def serving(self) -> bool:
        """Whether the daemon as a whole serves."""
        return self._statuses[""] == Response.SERVING

    def daemon_serving(self, serving: bool) -> None:
        """Say whether the daemon as a whole serves."""
        self._set("", Response.SERVING if serving else Response.NOT_SERVING)

    def deployment_changed(self, name: str, deployment: Deployment | None) -> None:
        """Follow the newest version of a name; None when the name is gone.

        A cold one serves, as a run starts it. Only one whose startup failed, or that is going away,
        would not answer.
        """
        if deployment is None:
            self._set(f"deployments/{name}", None)
        elif deployment.takes_runs:
            self._set(f"deployments/{name}", Response.SERVING)
        else:
            self._set(f"deployments/{name}", Response.NOT_SERVING)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Answer once."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Response(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer now and whenever the answer is another one."""
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(request.service, set())
        watchers.add(changed)
        try:
            told: int | None = None
            while True:
                status = self._statuses.get(request.service, Response.SERVICE_UNKNOWN)
                if status != told:
                    told = status
                    yield Response(status=status)
                await changed.wait()
                changed.clear()
        finally:
            watchers.discard(changed)
            if not watchers:
                self._watchers.pop(request.service, None)

    def _set(self, service: str, status: int | None) -> None:
        if status is None:
            self._statuses.pop(service, None)
        else:
            self._statuses[service] = status
        for watcher in self._watchers.get(service, ()):
            watcher.set()
