"""The Deployments service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from pipelined.core import compatibility
from pipelined.core.compatibility import Installed, Package
from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.errors import InvalidRequest
from pipelined.core.options import Options
from pipelined.core.specification import MAX_SCHEMA_BYTES, validate
from pipelined.core.stages import Stage
from pipelined.core.states import State
from pipelined.rpc.auditing import Audit
from pipelined.rpc.idle_streams import moving
from pipelined.rpc.messages import (
    checked_key,
    deployment_message,
    pointer_message,
    specification_of,
    stage_message,
    timeline_message,
)
from pipelined.rpc.status import streaming, unary
from pipelined_api.schema import check_schema
from pipelined_api.v1 import deployments_pb2, deployments_pb2_grpc
from pipelined_api.wire_values import SchemaViolation

Context = grpc.aio.ServicerContext[Any, Any]


class DeploymentsServicer(deployments_pb2_grpc.DeploymentsServicer):
    """Implements pipelined.v1.Deployments; the .proto file says what each method does.

    Args:
        deployments: The deployments there are.
        installed: The packages that workers have.
        audit: Is told who has changed what.
        gpus: How many the machine has.
        idle_seconds: After which an upload of which nothing comes is ended.
    """

    def __init__(
        self,
        deployments: Deployments,
        installed: Installed,
        audit: Audit,
        gpus: int,
        idle_seconds: float,
    ) -> None:
        self._gpus = gpus
        self._idle_seconds = idle_seconds
        self._deployments = deployments
        self._installed = installed
        self._audit = audit

    @unary
    async def Deploy(
        self, request: AsyncIterator[deployments_pb2.DeployRequest], context: Context
    ) -> deployments_pb2.DeployResponse:
        """Receive a pipeline under a name."""
        requests = moving(request, self._idle_seconds)
        with self._audit.action("deploy", context) as entry:
            header = await _header(requests)
            entry.subject = header.name
            entry.details = {"code_sha256": header.code_sha256.hex(), "digest": header.digest}
            key = checked_key(header.idempotency_key)
            specification = specification_of(header)
            validate(specification)
            _check_gpus(specification.options, self._gpus)
            # Looks into the folders of installed packages.
            warnings = await asyncio.to_thread(_check, header, self._installed)
            deployment, created = await self._deployments.deploy(
                specification, _chunks(requests), key
            )
            entry.details["version"] = str(deployment.specification.version)
            entry.details["created"] = str(created).lower()
        return deployments_pb2.DeployResponse(
            deployment=self._message(deployment), created=created, warnings=warnings
        )

    @unary
    async def Get(
        self, request: deployments_pb2.DeploymentsGetRequest, context: Context
    ) -> deployments_pb2.DeploymentsGetResponse:
        """Describe one version."""
        deployment = self._deployments.get(request.name, "name")
        response = deployments_pb2.DeploymentsGetResponse(deployment=self._message(deployment))
        if (timeline := deployment.timeline) is not None:
            response.timeline.CopyFrom(timeline_message(timeline))
        return response

    @unary
    async def List(
        self, request: deployments_pb2.DeploymentsListRequest, context: Context
    ) -> deployments_pb2.DeploymentsListResponse:
        """Describe the newest versions, or all."""
        deployments = self._deployments.list(all_versions=request.all_versions)
        messages = [self._message(deployment) for deployment in deployments]
        if request.worker_memory:
            await asyncio.gather(*map(_measure, messages, deployments))
        return deployments_pb2.DeploymentsListResponse(deployments=messages)

    @unary
    async def Delete(
        self, request: deployments_pb2.DeploymentsDeleteRequest, context: Context
    ) -> deployments_pb2.DeploymentsDeleteResponse:
        """Remove a deployment or a version."""
        with self._audit.action("delete", context, request.name):
            await self._deployments.delete(request.name, "name")
        return deployments_pb2.DeploymentsDeleteResponse()

    @streaming
    async def Warm(
        self, request: deployments_pb2.WarmRequest, context: Context
    ) -> AsyncIterator[deployments_pb2.WarmResponse]:
        """Start a version and report the stages."""
        deployment = self._deployments.get(request.name, "name")
        stages: asyncio.Queue[Stage | None] = asyncio.Queue()
        warming = asyncio.create_task(
            deployment.warm(stages.put_nowait, context.time_remaining()), name="warm"
        )
        warming.add_done_callback(lambda task: stages.put_nowait(None))
        # If the caller leaves, nobody asks how it ended.
        warming.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            yield _progress(deployment.state)
            while (stage := await stages.get()) is not None:
                yield _progress(deployment.state, stage)
            timeline = await warming
        finally:
            warming.cancel()
        response = _progress(deployment.state)
        response.timeline.CopyFrom(timeline_message(timeline))
        yield response

    @unary
    async def Cool(
        self, request: deployments_pb2.CoolRequest, context: Context
    ) -> deployments_pb2.CoolResponse:
        """Stop the workers of a version."""
        with self._audit.action("cool", context, request.name):
            deployment = await self._deployments.cool(request.name, "name")
        return deployments_pb2.CoolResponse(deployment=self._message(deployment))

    @unary
    async def SetPointer(
        self, request: deployments_pb2.SetPointerRequest, context: Context
    ) -> deployments_pb2.SetPointerResponse:
        """Make a pointer, or set one to another version."""
        with self._audit.action("set pointer", context, request.pointer) as entry:
            entry.details = {"target": request.target}
            pointer = await self._deployments.set_pointer(
                request.pointer,
                request.target,
                overwrite=request.overwrite,
                locked=request.locked,
                unlock=request.unlock,
            )
        return deployments_pb2.SetPointerResponse(pointer=pointer_message(pointer))

    @unary
    async def ListPointers(
        self, request: deployments_pb2.ListPointersRequest, context: Context
    ) -> deployments_pb2.ListPointersResponse:
        """Describe the pointers of one deployment or of all."""
        messages = [pointer_message(p) for p in self._deployments.pointers(request.name)]
        return deployments_pb2.ListPointersResponse(pointers=messages)

    @unary
    async def DeletePointer(
        self, request: deployments_pb2.DeletePointerRequest, context: Context
    ) -> deployments_pb2.DeletePointerResponse:
        """Remove a pointer."""
        with self._audit.action("delete pointer", context, request.pointer):
            await self._deployments.delete_pointer(request.pointer, unlock=request.unlock)
        return deployments_pb2.DeletePointerResponse()

    def _message(self, deployment: Deployment) -> deployments_pb2.Deployment:
        return deployment_message(deployment, self._deployments.pointers_to(deployment))


def _progress(state: State, stage: Stage | None = None) -> deployments_pb2.WarmResponse:
    return deployments_pb2.WarmResponse(
        state=deployments_pb2.DeploymentState.ValueType(state.value),
        stage=None if stage is None else stage_message(stage),
    )


async def _measure(message: deployments_pb2.Deployment, deployment: Deployment) -> None:
    workers = deployment.instances.workers
    message.worker_memory_bytes.extend(await asyncio.gather(*(w.memory() for w in workers)))
    # As many as were measured.
    message.worker_pids[:] = [worker.pid for worker in workers]


def _check_gpus(options: Options, there: int) -> None:
    """Refuse what could not be started on this machine."""
    if isinstance(options.gpus, int) and options.gpus > there:
        raise InvalidRequest(
            "options.gpus.count", f"{options.gpus} are more than this machine has: {there}"
        )
    if isinstance(options.gpus, tuple):
        for device in options.gpus:
            if device.isdecimal() and int(device) >= there:
                raise InvalidRequest(
                    "options.gpus.devices", f"{device} is none of the {there} of this machine"
                )


def _check(header: deployments_pb2.DeployHeader, installed: Installed) -> list[str]:
    """Compare what the code wants to what is here, and return what does not prevent it."""
    if header.code_format == deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE:
        warnings = compatibility.python_warning(header.python_version, installed)
    else:
        packages = [Package(p.module, p.distribution, p.version) for p in header.packages]
        warnings = compatibility.check(header.python_version, packages, installed)
    return warnings + compatibility.check_requirements(
        header.requirements, installed, allow_differing=header.allow_differing
    )


async def _header(
    requests: AsyncIterator[deployments_pb2.DeployRequest],
) -> deployments_pb2.DeployHeader:
    async for request in requests:
        if request.WhichOneof("part") != "header":
            break
        size = request.header.schema.ByteSize()
        if size > MAX_SCHEMA_BYTES:
            raise InvalidRequest("schema", f"{size} bytes are more than {MAX_SCHEMA_BYTES}")
        try:
            check_schema(request.header.schema)
        except SchemaViolation as error:
            raise InvalidRequest(f"schema.{error.field}", error.message) from error
        return request.header
    raise InvalidRequest("header", "has to be the first message of the stream")


async def _chunks(requests: AsyncIterator[deployments_pb2.DeployRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "code":
            raise InvalidRequest("code", "only chunks of code may follow the header")
        yield request.code
