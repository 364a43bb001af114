"""The client of a daemon: deploy a graph once, run it many times.

::

    with Client() as client:
        client.deploy(graph, "diffusion")
        [images] = client.run("diffusion", "a red square", {"height": 64})

Every method raises :class:`pipeline.errors.PipelineError` or one of its subclasses;
:class:`pipeline.errors.Unavailable` if no daemon answers at the address.
"""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline import _requests, _responses, errors
from pipeline._files import Files, Uploads
from pipeline._graph.streams import Stream
from pipeline._transport import STATE_CALL_SECONDS, Transport, retrying
from pipeline._values import decode
from pipelined_api.v1 import daemon_pb2, deployments_pb2, runs_pb2, schema_pb2, values_pb2

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph
    from pipeline.deployment import DaemonInfo, Deployment
    from pipeline.objects.files import File
    from pipeline.timeline import Stage, Timeline

__all__ = ["Client"]


class Client:
    """A connection to a daemon, made with the first call. Any number of threads may share one.

    Args:
        address: ``unix:/path``, ``/path`` or ``host:port``. None: ``PIPELINED_ADDRESS``, else the
            socket in ``$XDG_RUNTIME_DIR``, else the system's.
        token: what the daemon knows the caller by, where it asks for one.
        tls: True, or the path of a PEM file with the certificates to trust.
        on_upload: called with a File that a run takes, the bytes of it that the daemon has, and
            all its bytes, whenever more of them have been sent; from another thread.

    Raises:
        errors.InvalidInput: the address is none, or the certificates cannot be read.

    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool | str | Path = False,
        on_upload: Callable[[File, int, int], None] | None = None,
    ) -> None:
        self._transport = Transport(address, token=token, tls=tls)
        self._files = Files(self._transport)
        self._on_upload = on_upload
        # By name. May be older than the daemon's; see _fitted.
        self._schemas: dict[str, schema_pb2.Schema] = {}

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self._transport.address

    @property
    def files(self) -> Files:
        """Contents of files in the daemon."""
        return self._files

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. Calls under way in other threads end with :class:`errors.Cancelled`."""
        self._transport.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def deploy(
        self,
        graph: Graph,
        name: str,
        *,
        environment: Mapping[str, str] | None = None,
        instances: int = 1,
    ) -> Deployment:
        """Make a graph runnable under a name; its code is stored, and not run yet.

        Deploying what is deployed already changes nothing. Anything else under the same name
        becomes its next version. What may matter but does not prevent it, such as a package in
        another version, is warned about with :class:`errors.DeploymentWarning`.

        Args:
            graph: from ``Pipeline.get_pipeline()``.
            name: letters, digits, ``.``, ``_`` and ``-``, starting with a letter or a digit.
            environment: variables for its workers.
            instances: workers that run it at once.

        Raises:
            errors.SerialisationError: the graph cannot be pickled, or has too much code.
            errors.Incompatible: the daemon's Python differs, or it lacks a package.
            errors.InvalidInput: the name, the environment or the number of instances.

        """
        # Imports cloudpickle, which only deploying needs.
        from pipeline._graph.pickling import pack

        code, packages = pack(graph)
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
        response = retrying(
            lambda: self._transport.upload(
                self._transport.deployments.Deploy, _requests.deploy_stream(header, code), None
            )
        )
        self._schemas[name] = response.deployment.schema
        for warning in response.warnings:
            warnings.warn(warning, errors.DeploymentWarning, stacklevel=2)
        return _responses.deployment(response.deployment)

    def deploy_folder(
        self,
        folder: str | Path,
        target: str | None = None,
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        instances: int | None = None,
        allow_differing: bool = False,
    ) -> Deployment:
        """Make the graph of a folder runnable under a name; nothing is pickled.

        The folder's files are sent as they are, without hidden ones and what ``.pipelineignore``
        names. Its ``pipeline.yaml`` gives what is not given here. In the workers the folder is the
        current one, and the first in which modules are looked for. See also ``deploy``.

        Args:
            folder: with the module and all of its files.
            target: the graph, ``"module:variable"``.
            name: of the deployment.
            environment: variables for its workers, besides those of ``pipeline.yaml``.
            instances: workers that run it at once.
            allow_differing: warn about packages that the folder requires and that the daemon lacks
                or has in other versions, instead of refusing.

        Raises:
            errors.InvalidInput: folder, target, name, ``pipeline.yaml``, or too many files.
            errors.GraphError: the module cannot be imported here, or the variable is no graph.
            errors.Incompatible: a required package is not there, or in another version.

        """
        from pipeline._bundle import prepare

        header, code = prepare(
            Path(folder),
            target,
            name=name,
            environment=environment,
            instances=instances,
            allow_differing=allow_differing,
            idempotency_key=uuid.uuid4().hex,
        )
        response = retrying(
            lambda: self._transport.upload(
                self._transport.deployments.Deploy, _requests.deploy_stream(header, code), None
            )
        )
        self._schemas[header.name] = response.deployment.schema
        for warning in response.warnings:
            warnings.warn(warning, errors.DeploymentWarning, stacklevel=2)
        return _responses.deployment(response.deployment)

    def run(
        self, name: str, /, *inputs: object, timeout: float | None = None, **named: object
    ) -> list[object]:
        """Run a deployment once and wait for its outputs, one item per output of the graph.

        Of an output that streams it is the list of all elements; ``stream`` gives them one by one.

        A cold deployment is started first. Inputs are validated here, before anything is sent,
        and again by the daemon. Never tried again by itself: a run may have effects.
        A File of more than 1 MiB is uploaded before, unless the daemon has its content; one that
        comes back is downloaded when it is read.

        Args:
            name: the deployment.
            inputs: in the order of the graph's input Variables.
            timeout: seconds for everything, including a startup; None for no limit.
            named: inputs by their names.

        Raises:
            errors.NotFound: there is no such deployment.
            errors.InvalidInput: the inputs do not fit.
            errors.StartupFailed, errors.RunFailed: a node raised; with the remote traceback.
            errors.WorkerDied: its process died; the next run gets another.
            errors.DeadlineExceeded, errors.Cancelled, errors.Overloaded: as they say.

        """
        response = self._run(name, inputs, named, timeout)
        return [decode(value, stored=self._files.referred) for value in response.outputs]

    def stream(
        self, name: str, /, *inputs: object, timeout: float | None = None, **named: object
    ) -> Stream[list[object]]:
        """Run a deployment once and give its outputs as they come.

        The first list has the static outputs; there is none if every output streams. After that
        each list has the next element of every stream that has not ended. There is one item per
        output in each; what has nothing to give is ``pipeline.objects.graph.ABSENT``. ::

            with client.stream("writer", "a prompt") as parts:
                for [token] in parts: ...

        Inputs are validated here, and again by the daemon; the run begins when the first list is
        asked for. One that is not read waits. Closing the Stream closes the generators in the
        worker when they yield next: their ``finally`` is executed.

        Args:
            name: the deployment.
            inputs: in the order of the graph's input Variables.
            timeout: seconds for everything from the beginning of the run; None for no limit.
            named: inputs by their names.

        Raises:
            errors.NotFound, errors.InvalidInput: as ``run``.
            errors.RunFailed: from the iterator, after the elements before the failure, as is
                everything else that ``run`` raises.

        """
        messages = self._stream(name, inputs, named, timeout)
        return Stream(_rows(messages, len(self._schemas[name].outputs), self._files.referred))

    def warm(
        self,
        name: str,
        *,
        on_progress: Callable[[Stage], None] | None = None,
        timeout: float | None = None,
    ) -> Timeline:
        """Start a deployment unless it is started, and wait until it is.

        Args:
            name: the deployment.
            on_progress: called in this thread with each stage as it ends.
            timeout: seconds to wait; None for no limit. The startup goes on without us.

        Returns:
            The timeline of the startup, or of the last one if it was warm.

        """
        request = deployments_pb2.WarmRequest(name=name)
        # Closed here: a traceback would keep a generator, and with it the call, alive.
        with closing(
            self._transport.stream(self._transport.deployments.Warm, request, timeout)
        ) as messages:
            for message in messages:
                if message.HasField("timeline"):
                    return _responses.timeline(message.timeline)
                if message.HasField("stage") and on_progress is not None:
                    on_progress(_responses.stage(message.stage))
        raise errors.PipelineError(
            f"the daemon at {self.address} ended the startup of {name!r} without a timeline"
        )

    def deployment(self, name: str) -> Deployment:
        """Ask for one deployment.

        Raises:
            errors.NotFound: there is none of that name.

        """
        response = self._get(name, STATE_CALL_SECONDS)
        return _responses.deployment(response.deployment)

    def timeline(self, name: str) -> Timeline | None:
        """Ask for the timeline of a deployment's last startup; None if there was none yet."""
        response = self._get(name, STATE_CALL_SECONDS)
        return _responses.timeline(response.timeline) if response.HasField("timeline") else None

    def list(self) -> list[Deployment]:
        """Ask for all deployments, ordered by name."""
        request = deployments_pb2.DeploymentsListRequest()
        response = retrying(
            lambda: self._transport.unary(
                self._transport.deployments.List, request, STATE_CALL_SECONDS
            )
        )
        return [_responses.deployment(message) for message in response.deployments]

    def delete(self, name: str) -> None:
        """Remove a deployment: runs in progress end, new ones are refused.

        Raises:
            errors.NotFound: there is none of that name.

        """
        self._schemas.pop(name, None)
        request = deployments_pb2.DeploymentsDeleteRequest(name=name)
        # No deadline: it answers when the runs in progress have ended.
        self._transport.unary(self._transport.deployments.Delete, request, None)

    def info(self) -> DaemonInfo:
        """Ask what the daemon is and can do."""
        request = daemon_pb2.InfoRequest()
        response = retrying(
            lambda: self._transport.unary(self._transport.daemon.Info, request, STATE_CALL_SECONDS)
        )
        return _responses.info(response)

    def _get(self, name: str, timeout: float) -> deployments_pb2.DeploymentsGetResponse:
        request = deployments_pb2.DeploymentsGetRequest(name=name)
        response = retrying(
            lambda: self._transport.unary(self._transport.deployments.Get, request, timeout)
        )
        self._schemas[name] = response.deployment.schema
        return response

    def _run(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> runs_pb2.RunResponse:
        # The command prints outputs without making tensors of them, hence the message.
        deadline = None if timeout is None else time.monotonic() + timeout
        uploads = Uploads(self._files, self._on_upload)
        request = self._fitted(name, inputs, named, timeout, uploads)
        try:
            return uploads.run(
                lambda left: self._transport.unary(self._transport.runs.Run, request, left),
                deadline,
            )
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self._schemas.pop(name, None)
            raise

    def _stream(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> Generator[runs_pb2.StreamResponse, None, None]:
        """Validate the inputs now; send them, and yield the messages, when they are asked for."""
        uploads = Uploads(self._files, self._on_upload)
        fitted = self._fitted(name, inputs, named, timeout, uploads)
        return self._messages(_requests.stream_request(fitted), uploads, timeout)

    def _messages(
        self, request: runs_pb2.StreamRequest, uploads: Uploads, timeout: float | None
    ) -> Generator[runs_pb2.StreamResponse, None, None]:
        deadline = None if timeout is None else time.monotonic() + timeout

        def begin(
            left: float | None,
        ) -> tuple[runs_pb2.StreamResponse | None, Generator[runs_pb2.StreamResponse, None, None]]:
            messages = self._transport.stream(self._transport.runs.Stream, request, left)
            return next(messages, None), messages

        try:
            first, messages = uploads.run(begin, deadline)
            with closing(messages):
                if first is not None:
                    yield first
                    yield from messages
        except (errors.InvalidInput, errors.NotFound):
            # Ours is not the schema that the daemon has now.
            self._schemas.pop(request.deployment, None)
            raise

    def _fitted(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        uploads: Uploads,
    ) -> runs_pb2.RunRequest:
        known = self._schemas.get(name)
        if known is not None:
            try:
                return _requests.run_request(known, name, inputs, named, uploads.add)
            except errors.InvalidInput:
                # Another client may have deployed a version that takes them.
                pass
        limit = STATE_CALL_SECONDS if timeout is None else min(timeout, STATE_CALL_SECONDS)
        schema = self._get(name, limit).deployment.schema
        return _requests.run_request(schema, name, inputs, named, uploads.add)


def _rows(
    messages: Generator[runs_pb2.StreamResponse, None, None],
    outputs: int,
    referred: Callable[[values_pb2.File], File],
) -> Generator[list[object], None, None]:
    with closing(messages):
        for message in messages:
            if message.outputs:
                yield _responses.row(message, outputs, referred)
