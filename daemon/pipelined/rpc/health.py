"""grpc.health.v1: "" is the daemon, "deployments/NAME" the newest version of each deployment.

Our own servicer, because the one of grpcio-health-checking forgets the other watchers of a service
when one of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pipelined.core.deployment import Deployment
from pipelined.core.states import State
from pipelined.rpc.status import streaming, unary

Context = grpc.aio.ServicerContext[Any, Any]
Response = health_pb2.HealthCheckResponse
PREFIX = "deployments/"


class Health(health_pb2_grpc.HealthServicer):
    """The health of the daemon and of each deployment, as it is when somebody asks.

    Who watches is told when something is said to have changed, and at each ``refresh``. Belongs to
    one event loop.

    Args:
        unwell: Says why the daemon does not serve; empty while it does.
        starts_workers: Says whether a deployment that is cold can be started.
    """

    def __init__(self, unwell: Callable[[], str], starts_workers: Callable[[], bool]) -> None:
        self._unwell = unwell
        self._starts_workers = starts_workers
        self._deployments: dict[str, Deployment] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @property
    def serving(self) -> bool:
        """Whether the daemon as a whole serves."""
        return not self._unwell()

    def refresh(self) -> None:
        """Let watchers look again, also at what changes without anybody saying so."""
        for service in list(self._watchers):
            self._wake(service)

    def deployment_changed(self, name: str, deployment: Deployment | None) -> None:
        """Follow the newest version of a name; None when the name is gone."""
        if deployment is None:
            self._deployments.pop(name, None)
        else:
            self._deployments[name] = deployment
        self._wake(PREFIX + name)

    @unary
    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Answer once."""
        status = self._status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Response(status=status)

    @streaming
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
                status = self._status(request.service)
                if status is None:
                    status = Response.SERVICE_UNKNOWN
                if status != told:
                    told = status
                    yield Response(status=status)
                await changed.wait()
                changed.clear()
        finally:
            watchers.discard(changed)
            # Another one may have come since, when these had left.
            if not watchers and self._watchers.get(request.service) is watchers:
                del self._watchers[request.service]

    def _status(self, service: str) -> int | None:
        if service == "":
            serving = True
        elif (deployment := self._deployments.get(service.removeprefix(PREFIX))) is None or (
            not service.startswith(PREFIX)
        ):
            return None
        else:
            # One that is not warm is started by a run, if that can be.
            warm = deployment.state is State.WARM
            serving = deployment.takes_runs and (warm or self._starts_workers())
        return Response.SERVING if serving and not self._unwell() else Response.NOT_SERVING

    def _wake(self, service: str) -> None:
        for changed in self._watchers.get(service, ()):
            changed.set()
