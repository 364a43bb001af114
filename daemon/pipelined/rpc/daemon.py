"""The Daemon service."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from pipelined.core import compatibility
from pipelined.core.compatibility import Installed
from pipelined.core.reports import Reporting
from pipelined.core.shutdown import Shutdown
from pipelined.rpc.auditing import Audit
from pipelined.rpc.caller import caller
from pipelined.rpc.messages import requirement_message, timestamp
from pipelined.rpc.runs import checked_seconds
from pipelined.rpc.stats_messages import stats_message
from pipelined.rpc.status import unary
from pipelined_api.v1 import daemon_pb2, daemon_pb2_grpc
from pipelined_api.versions import API_VERSION

# What came after the first API, by name.
FEATURES = (
    "stream",
    "versions",
    "pointers",
    "cool",
    "submit",
    "logs",
    "bundle",
    "environments",
    "drain",
    "stats",
    "tokens",
    "options",
    "durable",
)


class DaemonServicer(daemon_pb2_grpc.DaemonServicer):
    """Implements pipelined.v1.Daemon.

    Args:
        version: Of the distribution.
        nursery: Says what the nursery is doing.
        isolation: What keeps workers from the daemon.
        audit: Is told who drains the daemon.
        gpus: The models of the machine's GPUs.
        installed: What is installed where the workers run.
        max_message_bytes: The largest message that the server takes.
        shutdown: The end of the daemon.
        unwell: Says why the daemon does not serve; empty while it does.
        reporting: Says what the daemon does.
    """

    def __init__(
        self,
        version: str,
        nursery: Callable[[], daemon_pb2.Nursery],
        isolation: daemon_pb2.Isolation,
        audit: Audit,
        gpus: Sequence[str],
        installed: Installed,
        max_message_bytes: int,
        shutdown: Shutdown,
        unwell: Callable[[], str],
        reporting: Reporting,
    ) -> None:
        self._version = version
        self._nursery = nursery
        self._isolation = isolation
        self._audit = audit
        self._gpus = gpus
        self._installed = installed
        self._max_message_bytes = max_message_bytes
        self._shutdown = shutdown
        self._unwell = unwell
        self._reporting = reporting
        self._started_at = time.time()

    @unary
    async def Info(
        self, request: daemon_pb2.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> daemon_pb2.InfoResponse:
        """Describe the daemon."""
        return daemon_pb2.InfoResponse(
            version=self._version,
            api_version=API_VERSION,
            features=FEATURES,
            started_at=timestamp(self._started_at),
            pid=os.getpid(),
            python_version=platform.python_version(),
            nursery=self._nursery(),
            max_message_bytes=self._max_message_bytes,
            gpus=self._gpus,
            draining=self._shutdown.asked.is_set(),
            not_serving_reason=self._unwell(),
            caller=daemon_pb2.Caller(id=caller().id, role=caller().role.label),
            isolation=self._isolation,
        )

    @unary
    async def Stats(
        self, request: daemon_pb2.StatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> daemon_pb2.StatsResponse:
        """Say what the daemon does, in numbers."""
        response = stats_message(await self._reporting())
        response.started_at.CopyFrom(timestamp(self._started_at))
        return response

    @unary
    async def CheckRequirements(
        self,
        request: daemon_pb2.CheckRequirementsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> daemon_pb2.CheckRequirementsResponse:
        """Compare requirements to what is installed."""
        # Looks into the folders of installed packages.
        statuses = await asyncio.to_thread(
            compatibility.compare, request.requirements, self._installed
        )
        return daemon_pb2.CheckRequirementsResponse(
            statuses=[requirement_message(status) for status in statuses]
        )

    @unary
    async def Drain(
        self, request: daemon_pb2.DrainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> daemon_pb2.DrainResponse:
        """Stop the daemon, and answer when its runs have ended."""
        seconds = None
        if request.HasField("seconds"):
            seconds = checked_seconds("seconds", request.seconds)
        with self._audit.action("drain", context) as entry:
            # Told when it begins: the daemon may be gone before it ends.
            entry.details["seconds"] = f"{seconds:g}" if seconds is not None else "as configured"
            self._shutdown.ask(seconds)
        # It is the daemon's, and not this caller's who may leave.
        drained = await asyncio.shield(self._shutdown.drained)
        return daemon_pb2.DrainResponse(unfinished_runs=drained.unfinished, seconds=drained.seconds)
