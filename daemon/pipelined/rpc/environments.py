"""The Environments service."""

from __future__ import annotations

from typing import Any

import grpc.aio

from pipelined.core.environments import Environment, Environments
from pipelined.rpc.auditing import Audit
from pipelined.rpc.messages import requirement_message, timestamp
from pipelined.rpc.status import unary
from pipelined_api.v1 import environments_pb2, environments_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EnvironmentsServicer(environments_pb2_grpc.EnvironmentsServicer):
    """Implements pipelined.v1.Environments; the .proto file says what each method does."""

    def __init__(self, environments: Environments, audit: Audit) -> None:
        self._environments = environments
        self._audit = audit

    @unary
    async def Create(
        self, request: environments_pb2.EnvironmentsCreateRequest, context: Context
    ) -> environments_pb2.EnvironmentsCreateResponse:
        """Record requirements under a name."""
        with self._audit.action("create environment", context, request.name):
            made = await self._environments.create(
                request.name, request.requirements, overwrite=request.overwrite
            )
        return environments_pb2.EnvironmentsCreateResponse(environment=await self._message(made))

    @unary
    async def Get(
        self, request: environments_pb2.EnvironmentsGetRequest, context: Context
    ) -> environments_pb2.EnvironmentsGetResponse:
        """Describe one."""
        found = await self._environments.get(request.name)
        return environments_pb2.EnvironmentsGetResponse(environment=await self._message(found))

    @unary
    async def List(
        self, request: environments_pb2.EnvironmentsListRequest, context: Context
    ) -> environments_pb2.EnvironmentsListResponse:
        """Describe all."""
        messages = [await self._message(each) for each in await self._environments.list()]
        return environments_pb2.EnvironmentsListResponse(environments=messages)

    @unary
    async def Delete(
        self, request: environments_pb2.EnvironmentsDeleteRequest, context: Context
    ) -> environments_pb2.EnvironmentsDeleteResponse:
        """Remove one."""
        with self._audit.action("delete environment", context, request.name):
            await self._environments.delete(request.name)
        return environments_pb2.EnvironmentsDeleteResponse()

    async def _message(self, environment: Environment) -> environments_pb2.Environment:
        statuses = await self._environments.compare(environment.requirements)
        return environments_pb2.Environment(
            name=environment.name,
            requirements=environment.requirements,
            created_at=timestamp(environment.created_at),
            updated_at=timestamp(environment.updated_at),
            statuses=[requirement_message(status) for status in statuses],
        )
