"""What a client does, written once: ``client`` and ``async_client`` are the two faces of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING

from pipeline import _requests, _responses, errors
from pipeline._calls import STATE_CALL_SECONDS, Calls, deadline_in
from pipeline._transfers import OnUpload, Transfers, Uploads
from pipelined_api.v1 import daemon_pb2, deployments_pb2, runs_pb2, schema_pb2

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph
    from pipeline._transport import Transport
    from pipeline.deployment import DaemonInfo, Deployment
    from pipeline.timeline import Stage, Timeline

__all__ = ["Operations"]


class Operations:
    """The operations of a client on a channel of either kind.

    The methods are those of :class:`pipeline.Client`, which documents them. What a run gives back
    is left as the messages have it: the command prints outputs without making tensors of them.
    """

    def __init__(self, transport: Transport, on_upload: OnUpload | None) -> None:
        self.transport = transport
        self.calls = Calls(transport)
        self.transfers = Transfers(self.calls)
        self._on_upload = on_upload
        # By name. May be older than the daemon's; see _fitted.
        self._schemas: dict[str, schema_pb2.Schema] = {}

    async def deploy(
        self,
        graph: Graph,
        name: str,
        environment: Mapping[str, str] | None,
        instances: int,
    ) -> tuple[Deployment, list[str]]:
        """Return the deployment and what is to be warned about."""
        # Imports cloudpickle, which only deploying needs.
        from pipeline._graph.pickling import pack

        code, packages = await self.transport.work(lambda: pack(graph))
        header = _requests.deploy_header(
            graph,
            code,
            packages,
            name,
            environment=environment,
            instances=instances,
            # One key for all attempts: a second one does not make a second version.
            idempotency_key=uuid.uuid4().hex,
        )
        return await self._deploy(header, code)

    async def _deploy(
        self, header: deployments_pb2.DeployHeader, code: bytes
    ) -> tuple[Deployment, list[str]]:
        response = await self.calls.retrying(
            lambda: self.calls.upload(
                self.transport.stubs.deployments.Deploy,
                _requests.deploy_stream(header, code),
                None,
            )
        )
        self._schemas[header.name] = response.deployment.schema
        return _responses.deployment(response.deployment), list(response.warnings)

    async def run(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> runs_pb2.RunResponse:
        """Run once and return the outputs undecoded."""
        deadline = deadline_in(timeout)
        uploads = Uploads(self.transfers, self._on_upload)
        request = await self._fitted(name, inputs, named, timeout, uploads)
        try:
            return await uploads.run(
                lambda left: self.calls.unary(self.transport.stubs.runs.Run, request, left),
                deadline,
            )
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self._schemas.pop(name, None)
            raise

    async def begin_stream(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> tuple[AsyncGenerator[runs_pb2.StreamResponse, None], int]:
        """Validate the inputs; the run begins when the first message is asked for.

        Returns:
            The messages, and how many outputs the deployment has as far as is known.

        """
        uploads = Uploads(self.transfers, self._on_upload)
        fitted = await self._fitted(name, inputs, named, timeout, uploads)
        messages = self._messages(_requests.stream_request(fitted), uploads, timeout)
        return messages, len(self._schemas[name].outputs)

    async def _messages(
        self, request: runs_pb2.StreamRequest, uploads: Uploads, timeout: float | None
    ) -> AsyncGenerator[runs_pb2.StreamResponse, None]:
        deadline = deadline_in(timeout)
        messages: AsyncGenerator[runs_pb2.StreamResponse, None] | None = None

        async def first(left: float | None) -> runs_pb2.StreamResponse | None:
            nonlocal messages
            messages = self.calls.stream(self.transport.stubs.runs.Stream, request, left)
            return await anext(messages, None)

        try:
            message = await uploads.run(first, deadline)
            if message is None or messages is None:
                return
            yield message
            async for message in messages:
                yield message
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self._schemas.pop(request.deployment, None)
            raise
        finally:
            if messages is not None:
                await messages.aclose()

    async def warm(
        self, name: str, on_progress: Callable[[Stage], None] | None, timeout: float | None
    ) -> Timeline:
        """See ``Client.warm``."""
        request = deployments_pb2.WarmRequest(name=name)
        messages = self.calls.stream(self.transport.stubs.deployments.Warm, request, timeout)
        # Closed here: a traceback would keep a generator, and with it the call, alive.
        try:
            async for message in messages:
                if message.HasField("timeline"):
                    return _responses.timeline(message.timeline)
                if message.HasField("stage") and on_progress is not None:
                    on_progress(_responses.stage(message.stage))
        finally:
            await messages.aclose()
        raise errors.PipelineError(
            f"the daemon at {self.calls.address} ended the startup of {name!r} without a timeline"
        )

    async def deployment(self, name: str) -> Deployment:
        """See ``Client.deployment``."""
        return _responses.deployment((await self._get(name)).deployment)

    async def timeline(self, name: str) -> Timeline | None:
        """See ``Client.timeline``."""
        response = await self._get(name)
        return _responses.timeline(response.timeline) if response.HasField("timeline") else None

    async def deployments(self) -> list[Deployment]:
        """See ``Client.list``."""
        request = deployments_pb2.DeploymentsListRequest()
        response = await self.calls.state(self.transport.stubs.deployments.List, request)
        return [_responses.deployment(message) for message in response.deployments]

    async def delete(self, name: str) -> None:
        """See ``Client.delete``."""
        self._schemas.pop(name, None)
        request = deployments_pb2.DeploymentsDeleteRequest(name=name)
        # No deadline: it answers when the runs in progress have ended.
        await self.calls.unary(self.transport.stubs.deployments.Delete, request, None)

    async def info(self) -> DaemonInfo:
        """See ``Client.info``."""
        request = daemon_pb2.InfoRequest()
        return _responses.info(await self.calls.state(self.transport.stubs.daemon.Info, request))

    async def schema(self, name: str) -> schema_pb2.Schema:
        """Ask what a deployment takes and gives."""
        return (await self._get(name)).deployment.schema

    async def _get(
        self, name: str, timeout: float = STATE_CALL_SECONDS
    ) -> deployments_pb2.DeploymentsGetResponse:
        request = deployments_pb2.DeploymentsGetRequest(name=name)
        get = self.transport.stubs.deployments.Get
        response = await self.calls.retrying(lambda: self.calls.unary(get, request, timeout))
        self._schemas[name] = response.deployment.schema
        return response

    async def _fitted(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        uploads: Uploads,
    ) -> runs_pb2.RunRequest:
        """Encode the inputs by the schema that is known, or by the daemon's if they do not fit."""

        def encoded(schema: schema_pb2.Schema) -> runs_pb2.RunRequest:
            return _requests.run_request(schema, name, inputs, named, uploads.add)

        known = self._schemas.get(name)
        if known is not None:
            try:
                return await self.transport.work(lambda: encoded(known))
            except errors.InvalidInput:
                # Another client may have deployed a version that takes them.
                pass
        limit = STATE_CALL_SECONDS if timeout is None else min(timeout, STATE_CALL_SECONDS)
        schema = (await self._get(name, limit)).deployment.schema
        return await self.transport.work(lambda: encoded(schema))
