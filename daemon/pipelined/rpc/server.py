"""The gRPC servers, one for each listener: their limits, and the services on all of them.

One server does not tell which of its sockets a call came in by, so each listener has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from pipelined.core.compatibility import Installed
from pipelined.core.deployments import Deployments
from pipelined.core.durable_runs import DurableRuns
from pipelined.core.environments import Environments
from pipelined.core.file_owners import FileOwners
from pipelined.core.files import FileStore
from pipelined.core.printed import Journal
from pipelined.core.reports import Reporting
from pipelined.core.run_execution import RunExecution
from pipelined.core.runs import Runs
from pipelined.core.shutdown import Shutdown
from pipelined.listening import ListenAddress
from pipelined.rpc.access import AccessControl, CurrentTokens, Entrance
from pipelined.rpc.auditing import Audit
from pipelined.rpc.daemon import DaemonServicer
from pipelined.rpc.deployments import DeploymentsServicer
from pipelined.rpc.dispatch import Around, Dispatcher, Methods
from pipelined.rpc.environments import EnvironmentsServicer
from pipelined.rpc.files import FilesServicer
from pipelined.rpc.health import Health
from pipelined.rpc.owned_files import OwnedFiles
from pipelined.rpc.run_inputs import RunInputs
from pipelined.rpc.run_records import SERVICE as RUNS
from pipelined.rpc.run_records import RunRecords
from pipelined.rpc.run_records import handlers as runs_handlers
from pipelined.rpc.runs import RunCalls
from pipelined.rpc.status import streaming
from pipelined_api.limits import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from pipelined_api.v1 import (
    daemon_pb2,
    daemon_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    environments_pb2,
    environments_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
)

# Calls at once on one connection; further ones wait in the client.
MAX_CONCURRENT_STREAMS = 4096
MAX_METADATA_BYTES = 16 * 2**10
# A client that pings more often is cut off. Ours pings every 60 s, with calls in flight only.
MIN_PING_INTERVAL_MS = 20_000
PACKAGE = daemon_pb2.DESCRIPTOR.package
HEALTH_PACKAGE = health_pb2.DESCRIPTOR.package
REFLECTION = "grpc.reflection.v1.ServerReflection"

# What reflection tells of.
SERVICES = (
    deployments_pb2.DESCRIPTOR.services_by_name["Deployments"].full_name,
    RUNS,
    files_pb2.DESCRIPTOR.services_by_name["Files"].full_name,
    environments_pb2.DESCRIPTOR.services_by_name["Environments"].full_name,
    daemon_pb2.DESCRIPTOR.services_by_name["Daemon"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    REFLECTION,
    reflection.SERVICE_NAME,
)

OPTIONS: tuple[tuple[str, int], ...] = (
    # A second daemon on the same port has to fail instead of taking half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
)


class Servers:
    """All services, on as many servers as there are listeners. Belongs to one event loop."""

    def __init__(
        self,
        deployments: Deployments,
        environments: Environments,
        files: FileStore,
        owners: FileOwners,
        runs: Runs,
        durable: DurableRuns,
        journal: Journal,
        installed: Installed,
        health: Health,
        tokens: CurrentTokens,
        audit: Audit,
        nursery: Callable[[], daemon_pb2.Nursery],
        isolation: daemon_pb2.Isolation,
        gpus: Sequence[str],
        version: str,
        shutdown: Shutdown,
        unwell: Callable[[], str],
        upload_idle_seconds: float,
        reporting: Reporting,
        around: Around | None = None,
    ) -> None:
        self._around = around
        self._tokens = tokens
        self._audit = audit
        self._servers: list[grpc.aio.Server] = []
        served_deployments = DeploymentsServicer(
            deployments, installed, audit, len(gpus), upload_idle_seconds
        )
        served_daemon = DaemonServicer(
            version,
            nursery,
            isolation,
            audit,
            gpus,
            installed,
            MAX_MESSAGE_BYTES,
            shutdown,
            unwell,
            reporting,
        )
        owned = OwnedFiles(files, owners)
        execution = RunExecution(runs, durable)
        calls = RunCalls(RunInputs(deployments, owned), runs, execution, durable)
        records = RunRecords(runs, execution, journal, deployments, durable)
        self._methods = methods = Methods(PACKAGE, PACKAGE, HEALTH_PACKAGE)
        # For generated code it is a server.
        taker: Any = methods
        methods.add_registered_method_handlers(RUNS, runs_handlers(calls, records))
        deployments_pb2_grpc.add_DeploymentsServicer_to_server(served_deployments, taker)
        daemon_pb2_grpc.add_DaemonServicer_to_server(served_daemon, taker)
        served_environments = EnvironmentsServicer(environments, audit)
        environments_pb2_grpc.add_EnvironmentsServicer_to_server(served_environments, taker)
        served_files = FilesServicer(owned, audit, upload_idle_seconds)
        files_pb2_grpc.add_FilesServicer_to_server(served_files, taker)
        health_pb2_grpc.add_HealthServicer_to_server(health, taker)
        _add_reflection(methods)

    def add(self, listen: ListenAddress) -> grpc.aio.Server:
        """Make a server for a listener, bound to no address and not started."""
        wants_token = listen.address.path is None
        entrance = Entrance(str(listen), listen.role, wants_token)
        access = AccessControl(entrance, self._tokens, self._audit)
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((Dispatcher(self._methods, access, self._around),))
        self._servers.append(server)
        return server

    async def start(self) -> None:
        """Take calls on all of them."""
        for server in self._servers:
            await server.start()

    async def stop(self, grace_seconds: float | None) -> None:
        """Take no more calls, and end those in progress after a time."""
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers))


class _Reflection:
    """The library's servicer, with our answer to what is no message."""

    def __init__(self) -> None:
        # Annotated as a coroutine; it is a generator.
        self._servicer: Any = reflection.aio.ReflectionServicer(SERVICES)

    @streaming
    async def ServerReflectionInfo(
        self, request: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Answer questions about services and messages."""
        async for answer in self._servicer.ServerReflectionInfo(request, context):
            yield answer


def _add_reflection(methods: Methods) -> None:
    """Serve reflection as v1alpha and as v1, which has the same messages under another name."""
    servicer = _Reflection()
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in (REFLECTION, reflection.SERVICE_NAME):
        methods.add_registered_method_handlers(service, {"ServerReflectionInfo": method})
