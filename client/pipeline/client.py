"""The client of a daemon: deploy a graph once, run it many times.

::

    with Client() as client:
        client.deploy(graph, "diffusion")
        [images] = client.run("diffusion", "a red square", {"height": 64})

Every method raises :class:`pipeline.errors.PipelineError` or one of its subclasses;
:class:`pipeline.errors.Unavailable` if no daemon answers at the address.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline import _responses, errors
from pipeline._files import Files
from pipeline._graph.streams import Stream
from pipeline._operations import Operations
from pipeline._transport import BlockingTransport, drive, iterate
from pipeline._values import decode
from pipelined_api.v1 import runs_pb2

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph
    from pipeline._responses import Row
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
        self._transport = BlockingTransport(address, token=token, tls=tls)
        self._operations = Operations(self._transport, on_upload)
        self._files = Files(self._operations.transfers)

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
        deployment, texts = drive(self._operations.deploy(graph, name, environment, instances))
        for text in texts:
            warnings.warn(text, errors.DeploymentWarning, stacklevel=2)
        return deployment

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
        messages, outputs = drive(self._operations.begin_stream(name, inputs, named, timeout))
        return Stream(self._rows(messages, outputs))

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
        return drive(self._operations.warm(name, on_progress, timeout))

    def deployment(self, name: str) -> Deployment:
        """Ask for one deployment.

        Raises:
            errors.NotFound: there is none of that name.

        """
        return drive(self._operations.deployment(name))

    def timeline(self, name: str) -> Timeline | None:
        """Ask for the timeline of a deployment's last startup; None if there was none yet."""
        return drive(self._operations.timeline(name))

    def list(self) -> list[Deployment]:
        """Ask for all deployments, ordered by name."""
        return drive(self._operations.deployments())

    def delete(self, name: str) -> None:
        """Remove a deployment: runs in progress end, new ones are refused.

        Raises:
            errors.NotFound: there is none of that name.

        """
        drive(self._operations.delete(name))

    def info(self) -> DaemonInfo:
        """Ask what the daemon is and can do."""
        return drive(self._operations.info())

    def _run(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> runs_pb2.RunResponse:
        # The command prints outputs without making tensors of them, hence the message.
        return drive(self._operations.run(name, inputs, named, timeout))

    def _stream(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
    ) -> Generator[runs_pb2.StreamResponse, None, None]:
        messages, _ = drive(self._operations.begin_stream(name, inputs, named, timeout))
        return iterate(messages)

    def _rows(
        self, messages: AsyncGenerator[runs_pb2.StreamResponse, None], outputs: int
    ) -> Generator[Row, None, None]:
        return iterate(_responses.rows(messages, outputs, self._files.referred))
