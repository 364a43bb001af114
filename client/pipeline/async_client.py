"""The client of a daemon for programs on asyncio.

::

    async with AsyncClient() as client:
        await client.deploy(graph, "diffusion")
        [images] = await client.run("diffusion", "a red square", {"height": 64})

It does what :class:`pipeline.Client` does, by the same code; that class documents the arguments and
the errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline import _responses, errors
from pipeline._aio_transport import AioTransport
from pipeline._calls import Calls
from pipeline._credentials import Credentials
from pipeline._files import AsyncFiles, Files
from pipeline._operations import Operations
from pipeline._transfers import Transfers
from pipeline._transport import BlockingTransport
from pipeline.async_stream import AsyncStream
from pipeline.runs import AsyncRun, Delivery, LogLine, RunInfo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pipeline._graph.graph import Graph
    from pipeline._options import DeployOptions
    from pipeline._requirements import RequirementStatus
    from pipeline._responses import Row
    from pipeline.deployment import DaemonInfo, Deployment, Drained, Environment, Pointer
    from pipeline.objects.files import File
    from pipeline.stats import DaemonStats
    from pipeline.timeline import Stage, Timeline
    from pipelined_api.v1 import runs_pb2, values_pb2

__all__ = ["AsyncClient"]


class AsyncClient:
    """A connection to a daemon, made with the first call, in the event loop of that call.

    Any number of tasks may share one. A File that a run gives back is downloaded when it is read,
    in the thread that reads it and on a connection of its own: ``asyncio.to_thread(file.read)``,
    or ``await client.files.download(file.sha256, target)``, keeps that out of the event loop.

    Args:
        address, token, tls, ca, cert, key, on_upload: see :class:`pipeline.Client`.

    Raises:
        errors.InvalidInput: the address is none, a file cannot be read, or the token would be sent
            in the clear to another machine.

    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool = False,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
        on_upload: Callable[[File, int, int], None] | None = None,
    ) -> None:
        credentials = Credentials(token, tls, ca, cert, key)
        self._transport = AioTransport(address, credentials)
        self._operations = Operations(self._transport, on_upload)
        self._files = AsyncFiles(self._operations.transfers)
        self._blocking: BlockingTransport | None = None
        self._begin_blocking = partial(BlockingTransport, address, credentials)

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self._transport.address

    @property
    def files(self) -> AsyncFiles:
        """Contents of files in the daemon."""
        return self._files

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Disconnect. Calls under way in other tasks end with :class:`errors.Cancelled`."""
        await self._transport.close()
        if self._blocking is not None:
            self._blocking.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.address!r})"

    async def deploy(
        self,
        graph: Graph,
        name: str,
        *,
        environment: Mapping[str, str] | None = None,
        instances: int | None = None,
        requirements: Sequence[str] = (),
        allow_differing: bool = False,
        **options: Unpack[DeployOptions],
    ) -> Deployment:
        """Make a graph runnable under a name; see :meth:`pipeline.Client.deploy`."""
        deployment, texts = await self._operations.deploy(
            graph, name, environment, instances, requirements, allow_differing, options
        )
        for text in texts:
            warnings.warn(text, errors.DeploymentWarning, stacklevel=2)
        return deployment

    async def deploy_folder(
        self,
        folder: str | Path,
        target: str | None = None,
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        instances: int | None = None,
        allow_differing: bool = False,
        **options: Unpack[DeployOptions],
    ) -> Deployment:
        """Make the graph of a folder runnable; see :meth:`pipeline.Client.deploy_folder`."""
        deployment, texts = await self._operations.deploy_folder(
            folder, target, name, environment, instances, allow_differing, options
        )
        for text in texts:
            warnings.warn(text, errors.DeploymentWarning, stacklevel=2)
        return deployment

    async def check_requirements(self, requirements: Sequence[str]) -> list[RequirementStatus]:
        """Compare requirements; see :meth:`pipeline.Client.check_requirements`."""
        return await self._operations.check_requirements(requirements)

    async def create_environment(
        self, name: str, requirements: Sequence[str], *, overwrite: bool = False
    ) -> Environment:
        """Record requirements under a name; see :meth:`pipeline.Client.create_environment`."""
        made = await self._operations.create_environment(name, requirements, overwrite)
        for status in made.unmet:
            warnings.warn(str(status), errors.DeploymentWarning, stacklevel=2)
        return made

    async def environment(self, name: str) -> Environment:
        """Ask for recorded requirements; see :meth:`pipeline.Client.environment`."""
        return await self._operations.environment(name)

    async def environments(self) -> list[Environment]:
        """Ask for all recorded requirements, ordered by name."""
        return await self._operations.environments()

    async def delete_environment(self, name: str) -> None:
        """Remove recorded requirements; see :meth:`pipeline.Client.delete_environment`."""
        await self._operations.delete_environment(name)

    async def run(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        priority: int = 0,
        **named: object,
    ) -> Row:
        """Run a deployment and wait for its outputs; see :meth:`pipeline.Client.run`."""
        response = await self._operations.run(name, inputs, named, timeout, priority)
        return await self._decoded(response)

    async def stream(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        priority: int = 0,
        **named: object,
    ) -> AsyncStream[Row]:
        """Run a deployment and give its outputs as they come; see :meth:`pipeline.Client.stream`.

        ::

            async with await client.stream("writer", "a prompt") as parts:
                async for [token] in parts: ...
        """
        messages, outputs = await self._operations.begin_stream(
            name, inputs, named, timeout, priority
        )
        return AsyncStream(
            _responses.rows(messages, outputs, self._referred, self._operations.transport.work)
        )

    async def submit(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        priority: int = 0,
        delivery: Delivery = "at_most_once",
        **named: object,
    ) -> AsyncRun:
        """Begin a run and do not wait for it; see :meth:`pipeline.Client.submit`."""
        info = await self._operations.submit(
            name, inputs, named, timeout, idempotency_key, priority, delivery
        )
        return self._handle(info)

    async def get_run(self, run_id: str) -> AsyncRun:
        """Return the handle of a run that was submitted; see :meth:`pipeline.Client.get_run`."""
        return self._handle(await self._operations.run_info(run_id))

    async def runs(
        self, name: str | None = None, *, states: Sequence[str] = (), limit: int = 100
    ) -> list[RunInfo]:
        """Ask for runs, the newest first; see :meth:`pipeline.Client.runs`."""
        return await self._operations.runs(name, states, limit)

    def logs(
        self, name: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncStream[LogLine]:
        """Give what a deployment's workers printed; see :meth:`pipeline.Client.logs`."""
        return AsyncStream(self._operations.logs(deployment=name, follow=follow, tail=tail))

    async def warm(
        self,
        name: str,
        *,
        on_progress: Callable[[Stage], None] | None = None,
        timeout: float | None = None,
    ) -> Timeline:
        """Start a deployment and wait until it is started; see :meth:`pipeline.Client.warm`."""
        return await self._operations.warm(name, on_progress, timeout)

    async def cool(self, name: str) -> Deployment:
        """Stop the workers of a deployment; see :meth:`pipeline.Client.cool`."""
        return await self._operations.cool(name)

    async def deployment(self, name: str) -> Deployment:
        """Ask for one deployment; see :meth:`pipeline.Client.deployment`."""
        return await self._operations.deployment(name)

    async def timeline(self, name: str) -> Timeline | None:
        """Ask for the timeline of a deployment's last startup; None if there was none yet."""
        return await self._operations.timeline(name)

    async def versions(self, name: str) -> list[Deployment]:
        """Ask for all versions of a deployment; see :meth:`pipeline.Client.versions`."""
        return await self._operations.versions(name)

    async def create_pointer(
        self,
        pointer: str,
        target: str,
        *,
        overwrite: bool = False,
        locked: bool = False,
        unlock: bool = False,
    ) -> Pointer:
        """Let a name mean one version; see :meth:`pipeline.Client.create_pointer`."""
        return await self._operations.create_pointer(pointer, target, overwrite, locked, unlock)

    async def pointers(self, name: str | None = None) -> list[Pointer]:
        """Ask for the pointers of one deployment, or of all."""
        return await self._operations.pointers(name)

    async def delete_pointer(self, pointer: str, *, unlock: bool = False) -> None:
        """Remove a pointer; see :meth:`pipeline.Client.delete_pointer`."""
        await self._operations.delete_pointer(pointer, unlock)

    async def delete(self, name: str) -> None:
        """Remove a deployment; see :meth:`pipeline.Client.delete`."""
        await self._operations.delete(name)

    async def info(self) -> DaemonInfo:
        """Ask what the daemon is and can do."""
        return await self._operations.info()

    async def stats(self) -> DaemonStats:
        """Ask what the daemon does: queues, runs per second, latencies, memory, restarts."""
        return await self._operations.stats()

    async def drain(self, seconds: float | None = None) -> Drained:
        """Stop the daemon; see :meth:`pipeline.Client.drain`."""
        return await self._operations.drain(seconds)

    async def list(self, *, worker_memory: bool = False) -> list[Deployment]:
        """Ask for all deployments; see :meth:`pipeline.Client.list`."""
        return await self._operations.deployments(worker_memory)

    def _handle(self, info: RunInfo) -> AsyncRun:
        return AsyncRun(self._operations, self._decoded, info.id, info.deployment)

    async def _decoded(self, response: runs_pb2.RunResponse) -> Row:
        work = self._operations.transport.work
        return await _responses.decoded(response.outputs, self._referred, work)

    def _referred(self, wire: values_pb2.File) -> File:
        if self._blocking is None:
            self._blocking = self._begin_blocking()
        return Files(Transfers(Calls(self._blocking))).referred(wire)
