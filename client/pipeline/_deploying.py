"""What a client does with deployments, written once for both kinds of client."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import _checks, _requests, _responses, errors
from pipeline._calls import STATE_CALL_SECONDS, Calls
from pipeline._options import DeployOptions, as_given, checked_secrets, options_message
from pipeline._requirements import RequirementStatus, requirement_status
from pipelined_api.v1 import daemon_pb2, deployments_pb2, environments_pb2, schema_pb2

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph
    from pipeline._transport import Transport
    from pipeline.deployment import DaemonInfo, Deployment, Drained, Environment, Pointer
    from pipeline.stats import DaemonStats
    from pipeline.timeline import Stage, Timeline

__all__ = ["Deploying"]


class Deploying:
    """The operations on deployments; ``Operations`` adds those on runs."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.calls = Calls(transport)
        # By reference. May be older than the daemon's; see Operations._fitted.
        self.schemas: dict[str, schema_pb2.Schema] = {}

    async def deploy(
        self,
        graph: Graph,
        name: str,
        environment: Mapping[str, str] | None,
        instances: int | None,
        requirements: Sequence[str],
        allow_differing: bool,
        options: DeployOptions,
    ) -> tuple[Deployment, list[str]]:
        """Return the deployment and what is to be warned about."""
        # These import cloudpickle and pydantic, which only deploying needs.
        from pipeline._graph.graph import Graph
        from pipeline._graph.pickling import pack

        if not isinstance(graph, Graph):
            raise errors.InvalidInput(
                f"graph has to be a Graph, as get_pipeline() of a Pipeline gives it, not "
                f"{type(graph).__name__}",
                field="graph",
            )
        _checks.check_name(name)
        _checks.check_variables(environment or {}, "environment")
        _checks.check_requirements(requirements)
        wanted = options_message(instances, options)
        secrets = checked_secrets(options)

        code, packages = await self.transport.work(lambda: pack(graph))
        header = _requests.deploy_header(
            graph,
            code,
            packages,
            name,
            environment=environment,
            options=wanted,
            secrets=secrets,
            requirements=requirements,
            allow_differing=allow_differing,
            # One key for all attempts: a second one does not make a second version.
            idempotency_key=uuid.uuid4().hex,
        )
        return await self._deploy(header, code)

    async def deploy_folder(
        self,
        folder: str | Path,
        target: str | None,
        name: str | None,
        environment: Mapping[str, str] | None,
        instances: int | None,
        allow_differing: bool,
        options: DeployOptions,
    ) -> tuple[Deployment, list[str]]:
        """Return the deployment and what is to be warned about."""
        # Imports yaml and packaging, which only this needs.
        from pipeline._bundle import prepare

        header, code = await self.transport.work(
            lambda: prepare(
                Path(folder),
                target,
                name=name,
                environment=environment,
                instances=instances,
                options=options,
                allow_differing=allow_differing,
                idempotency_key=uuid.uuid4().hex,
            )
        )
        return await self._deploy(header, code)

    async def check_requirements(self, requirements: Sequence[str]) -> list[RequirementStatus]:
        """See ``Client.check_requirements``."""
        _checks.check_requirements(requirements)
        request = daemon_pb2.CheckRequirementsRequest(requirements=requirements)
        response = await self.calls.state(self.transport.stubs.daemon.CheckRequirements, request)
        return [requirement_status(message) for message in response.statuses]

    async def create_environment(
        self, name: str, requirements: Sequence[str], overwrite: bool
    ) -> Environment:
        """See ``Client.create_environment``."""
        _checks.check_text(name, "name", "the name of an environment")
        _checks.check_requirements(requirements)
        request = environments_pb2.EnvironmentsCreateRequest(
            name=name, requirements=requirements, overwrite=overwrite
        )
        response = await self.calls.unary(
            self.transport.stubs.environments.Create, request, STATE_CALL_SECONDS
        )
        return _responses.environment(response.environment)

    async def environment(self, name: str) -> Environment:
        """See ``Client.environment``."""
        _checks.check_text(name, "name", "the name of an environment")
        request = environments_pb2.EnvironmentsGetRequest(name=name)
        response = await self.calls.state(self.transport.stubs.environments.Get, request)
        return _responses.environment(response.environment)

    async def environments(self) -> list[Environment]:
        """See ``Client.environments``."""
        request = environments_pb2.EnvironmentsListRequest()
        response = await self.calls.state(self.transport.stubs.environments.List, request)
        return [_responses.environment(message) for message in response.environments]

    async def delete_environment(self, name: str) -> None:
        """See ``Client.delete_environment``."""
        _checks.check_text(name, "name", "the name of an environment")
        request = environments_pb2.EnvironmentsDeleteRequest(name=name)
        await self.calls.unary(
            self.transport.stubs.environments.Delete, request, STATE_CALL_SECONDS
        )

    async def _deploy(
        self, header: deployments_pb2.DeployHeader, code: bytes
    ) -> tuple[Deployment, list[str]]:
        try:
            response = await self.calls.retrying(
                lambda: self.calls.upload(
                    self.transport.stubs.deployments.Deploy,
                    _requests.deploy_stream(header, code),
                    None,
                )
            )
        except errors.InvalidInput as error:
            raise as_given(error) from None
        self.schemas[header.name] = response.deployment.schema
        return _responses.deployment(response.deployment), list(response.warnings)

    async def warm(
        self, name: str, on_progress: Callable[[Stage], None] | None, timeout: float | None
    ) -> Timeline:
        """See ``Client.warm``."""
        _checks.check_name(name)
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
        return _responses.deployment((await self.get(name)).deployment)

    async def timeline(self, name: str) -> Timeline | None:
        """See ``Client.timeline``."""
        response = await self.get(name)
        return _responses.timeline(response.timeline) if response.HasField("timeline") else None

    async def deployments(self, memory: bool) -> list[Deployment]:
        """See ``Client.list``."""
        request = deployments_pb2.DeploymentsListRequest(worker_memory=memory)
        response = await self.calls.state(self.transport.stubs.deployments.List, request)
        return [_responses.deployment(message) for message in response.deployments]

    async def delete(self, name: str) -> None:
        """See ``Client.delete``."""
        _checks.check_name(name)
        self.schemas.pop(name, None)
        request = deployments_pb2.DeploymentsDeleteRequest(name=name)
        # No deadline: it answers when the runs in progress have ended.
        await self.calls.unary(self.transport.stubs.deployments.Delete, request, None)

    async def cool(self, name: str) -> Deployment:
        """See ``Client.cool``."""
        _checks.check_name(name)
        request = deployments_pb2.CoolRequest(name=name)
        # No deadline: it answers when the runs in progress have ended.
        response = await self.calls.unary(self.transport.stubs.deployments.Cool, request, None)
        return _responses.deployment(response.deployment)

    async def versions(self, name: str) -> list[Deployment]:
        """See ``Client.versions``."""
        _checks.check_plain_name(name)
        request = deployments_pb2.DeploymentsListRequest(all_versions=True)
        response = await self.calls.state(self.transport.stubs.deployments.List, request)
        found = [each for each in response.deployments if each.name == name]
        if not found:
            raise errors.NotFound(f"there is no deployment {name!r}")
        return [_responses.deployment(message) for message in found]

    async def create_pointer(
        self, pointer: str, target: str, overwrite: bool, locked: bool, unlock: bool
    ) -> Pointer:
        """See ``Client.create_pointer``."""
        _checks.check_text(pointer, "pointer", "a pointer")
        _checks.check_text(target, "target", "what a pointer means")
        request = deployments_pb2.SetPointerRequest(
            pointer=pointer, target=target, overwrite=overwrite, locked=locked, unlock=unlock
        )
        response = await self.calls.unary(
            self.transport.stubs.deployments.SetPointer, request, STATE_CALL_SECONDS
        )
        # What it meant before is not what it means now.
        self.schemas.pop(pointer, None)
        return _responses.pointer(response.pointer)

    async def pointers(self, name: str | None) -> list[Pointer]:
        """See ``Client.pointers``."""
        if name is not None:
            _checks.check_plain_name(name)
        request = deployments_pb2.ListPointersRequest(name=name or "")
        response = await self.calls.state(self.transport.stubs.deployments.ListPointers, request)
        return [_responses.pointer(message) for message in response.pointers]

    async def delete_pointer(self, pointer: str, unlock: bool) -> None:
        """See ``Client.delete_pointer``."""
        _checks.check_text(pointer, "pointer", "a pointer")
        request = deployments_pb2.DeletePointerRequest(pointer=pointer, unlock=unlock)
        await self.calls.unary(
            self.transport.stubs.deployments.DeletePointer, request, STATE_CALL_SECONDS
        )

    async def info(self) -> DaemonInfo:
        """See ``Client.info``."""
        request = daemon_pb2.InfoRequest()
        return _responses.info(await self.calls.state(self.transport.stubs.daemon.Info, request))

    async def stats(self) -> DaemonStats:
        """See ``Client.stats``."""
        request = daemon_pb2.StatsRequest()
        return _responses.stats(await self.calls.state(self.transport.stubs.daemon.Stats, request))

    async def drain(self, seconds: float | None) -> Drained:
        """See ``Client.drain``."""
        _checks.check_seconds(seconds, "seconds")
        request = daemon_pb2.DrainRequest(seconds=seconds)
        # Whoever asks waits as long as the daemon lets runs take.
        response = await self.calls.unary(self.transport.stubs.daemon.Drain, request, None)
        return _responses.drained(response)

    async def schema(self, name: str) -> schema_pb2.Schema:
        """Ask what a deployment takes and gives."""
        return (await self.get(name)).deployment.schema

    async def get(
        self, name: str, timeout: float = STATE_CALL_SECONDS
    ) -> deployments_pb2.DeploymentsGetResponse:
        _checks.check_name(name)
        request = deployments_pb2.DeploymentsGetRequest(name=name)
        get = self.transport.stubs.deployments.Get
        response = await self.calls.retrying(lambda: self.calls.unary(get, request, timeout))
        self.schemas[name] = response.deployment.schema
        return response
