"""A server that answers as a test wants it, for what a real daemon cannot be made to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from pipelined_api.address import parse_address
from pipelined_api.v1 import (
    daemon_pb2,
    daemon_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    timeline_pb2,
)
from pipelined_api.versions import API_VERSION

Behaviour = Callable[[grpc.ServicerContext], None]


class AbortingDaemon(daemon_pb2_grpc.DaemonServicer, deployments_pb2_grpc.DeploymentsServicer):
    """A real server on a unix socket that answers as a test wants it.

    Attributes:
        address: of the server.
        behaviour: what happens in a call before it is answered with an empty message.
        calls: how many there were.
        api_version: what Info says.
        deploy_keys: the idempotency keys of deployments.
        warm_ended: set when a call of Warm has ended, however that was.
    """

    def __init__(self, socket: Path) -> None:
        self.behaviour: Behaviour = lambda context: None
        self.calls = 0
        self.deploy_keys: list[str] = []
        self.api_version = API_VERSION
        self.warm_ended = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        daemon_pb2_grpc.add_DaemonServicer_to_server(self, self._server)
        deployments_pb2_grpc.add_DeploymentsServicer_to_server(self, self._server)
        self.address = f"unix:{socket}"
        self._server.add_insecure_port(parse_address(self.address).target)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def Info(
        self, request: daemon_pb2.InfoRequest, context: grpc.ServicerContext
    ) -> daemon_pb2.InfoResponse:
        self._behave(context)
        return daemon_pb2.InfoResponse(version="0.0.9", api_version=self.api_version)

    def CheckRequirements(
        self, request: daemon_pb2.CheckRequirementsRequest, context: grpc.ServicerContext
    ) -> daemon_pb2.CheckRequirementsResponse:
        self._behave(context)
        return daemon_pb2.CheckRequirementsResponse()

    def Stats(
        self, request: daemon_pb2.StatsRequest, context: grpc.ServicerContext
    ) -> daemon_pb2.StatsResponse:
        self._behave(context)
        return daemon_pb2.StatsResponse()

    def Drain(
        self, request: daemon_pb2.DrainRequest, context: grpc.ServicerContext
    ) -> daemon_pb2.DrainResponse:
        self._behave(context)
        return daemon_pb2.DrainResponse()

    def Deploy(
        self,
        request: Iterator[deployments_pb2.DeployRequest],
        context: grpc.ServicerContext,
    ) -> deployments_pb2.DeployResponse:
        header = next(iter(request)).header
        self.deploy_keys.append(header.idempotency_key)
        self._behave(context)
        code = b"".join(part.code for part in request)
        assert len(code) == header.code_size
        deployment = deployments_pb2.Deployment(name=header.name, digest=header.digest, version=1)
        return deployments_pb2.DeployResponse(
            deployment=deployment, warnings=["numpy is 2.0 here, 1.26 there"]
        )

    def Get(
        self, request: deployments_pb2.DeploymentsGetRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.DeploymentsGetResponse:
        self._behave(context)
        return deployments_pb2.DeploymentsGetResponse()

    def List(
        self, request: deployments_pb2.DeploymentsListRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.DeploymentsListResponse:
        self._behave(context)
        return deployments_pb2.DeploymentsListResponse()

    def Delete(
        self, request: deployments_pb2.DeploymentsDeleteRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.DeploymentsDeleteResponse:
        self._behave(context)
        return deployments_pb2.DeploymentsDeleteResponse()

    def Warm(
        self, request: deployments_pb2.WarmRequest, context: grpc.ServicerContext
    ) -> Iterator[deployments_pb2.WarmResponse]:
        context.add_callback(self.warm_ended.set)
        state = deployments_pb2.DEPLOYMENT_STATE_STARTING
        yield deployments_pb2.WarmResponse(state=state)
        stage = timeline_pb2.Stage(kind=timeline_pb2.Stage.KIND_FORK, seconds=0.02, source="fork")
        yield deployments_pb2.WarmResponse(state=state, stage=stage)
        self._behave(context)

    def Cool(
        self, request: deployments_pb2.CoolRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.CoolResponse:
        self._behave(context)
        return deployments_pb2.CoolResponse()

    def SetPointer(
        self, request: deployments_pb2.SetPointerRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.SetPointerResponse:
        self._behave(context)
        return deployments_pb2.SetPointerResponse()

    def ListPointers(
        self, request: deployments_pb2.ListPointersRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.ListPointersResponse:
        self._behave(context)
        return deployments_pb2.ListPointersResponse()

    def DeletePointer(
        self, request: deployments_pb2.DeletePointerRequest, context: grpc.ServicerContext
    ) -> deployments_pb2.DeletePointerResponse:
        self._behave(context)
        return deployments_pb2.DeletePointerResponse()

    def _behave(self, context: grpc.ServicerContext) -> None:
        self.calls += 1
        self.behaviour(context)


def aborting(status: status_pb2.Status) -> Behaviour:
    return lambda context: context.abort_with_status(rpc_status.to_status(status))
