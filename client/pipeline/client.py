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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline._credentials import Credentials
from pipeline._files import Files
from pipeline._operations import Operations
from pipeline._run_methods import RunMethods
from pipeline._transport import BlockingTransport, drive

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pipeline._graph.graph import Graph
    from pipeline._options import DeployOptions
    from pipeline._requirements import RequirementStatus
    from pipeline.deployment import DaemonInfo, Deployment, Drained, Environment, Pointer
    from pipeline.objects.files import File
    from pipeline.stats import DaemonStats
    from pipeline.timeline import Stage, Timeline

__all__ = ["Client"]


class Client(RunMethods):
    """A connection to a daemon, made with the first call. Any number of threads may share one.

    Where a method takes the name of a deployment, that may be ``NAME`` or ``NAME:latest`` for its
    newest version, ``NAME:v3`` for that one, or ``NAME:POINTER`` for what a pointer names.

    Args:
        address: ``unix:/path``, ``/path`` or ``host:port``. None: ``PIPELINED_ADDRESS``, else the
            socket in ``$XDG_RUNTIME_DIR``, else the system's.
        token: what the daemon knows the caller by. None: ``PIPELINED_TOKEN``, else what is in the
            file that ``PIPELINED_TOKEN_FILE`` names, else none.
        tls: whether to use TLS, trusting the system's authorities; for TCP only, as what follows.
        ca: PEM file with the authorities to trust instead. None: ``PIPELINED_CA``.
        cert: PEM file with a certificate of the client's own. None: ``PIPELINED_CERT``.
        key: PEM file with the private key of that. None: ``PIPELINED_KEY``.
        on_upload: called with a File that a run takes, the bytes of it that the daemon has, and
            all its bytes, whenever more of them have been sent; from another thread.

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
        self._transport = BlockingTransport(address, Credentials(token, tls, ca, cert, key))
        operations = Operations(self._transport, on_upload)
        super().__init__(operations, Files(operations.transfers))

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
        instances: int | None = None,
        requirements: Sequence[str] = (),
        allow_differing: bool = False,
        **options: Unpack[DeployOptions],
    ) -> Deployment:
        """Make a graph runnable under a name; its code is stored, and not run yet.

        Deploying what is deployed already changes nothing. Anything else under the same name
        becomes its next version. What may matter but does not prevent it, such as a package in
        another version, is warned about with :class:`errors.DeploymentWarning`.

        Args:
            graph: from ``Pipeline.get_pipeline()``.
            name: letters, digits, ``.``, ``_`` and ``-``, starting with a letter or a digit.
            environment: variables for its workers.
            instances: workers that run it at once: both ``min_instances`` and ``max_instances``.
            requirements: what the daemon has to have besides what the code imports, as PEP 508
                has it.
            allow_differing: warn about requirements that are not met, instead of refusing.
            options: ``min_instances`` that are started at once and kept (0), ``max_instances`` that
                there may be (1); of each worker ``memory`` (such as ``"4GiB"``), ``threads``,
                ``gpus`` (how many, or a list of which), ``open_files`` and the ``cpu_seconds`` of
                one run; ``queue_length`` and ``concurrent_runs``; and ``secrets``, variables whose
                values are never shown again.

        Raises:
            errors.SerialisationError: the graph cannot be pickled, or has too much code.
            errors.Incompatible: the daemon's Python differs, it lacks a package, or it does not
                meet a requirement.
            errors.InvalidInput: the name, the environment, a requirement or an option.
            TypeError: there is no such option.

        """
        deployment, texts = drive(
            self._operations.deploy(
                graph, name, environment, instances, requirements, allow_differing, options
            )
        )
        for text in texts:
            warnings.warn(text, errors.DeploymentWarning, stacklevel=2)
        return deployment

    def deploy_folder(
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
            options: as those of ``deploy``.
            allow_differing: warn about packages that the folder requires and that the daemon lacks
                or has in other versions, instead of refusing.

        Raises:
            errors.InvalidInput: folder, target, name, ``pipeline.yaml``, or too many files.
            errors.GraphError: the module cannot be imported here, or the variable is no graph.
            errors.Incompatible: a required package is not there, or in another version.

        """
        deployment, texts = drive(
            self._operations.deploy_folder(
                folder, target, name, environment, instances, allow_differing, options
            )
        )
        for text in texts:
            warnings.warn(text, errors.DeploymentWarning, stacklevel=2)
        return deployment

    def check_requirements(self, requirements: Sequence[str]) -> list[RequirementStatus]:
        """Compare requirements with the packages that the daemon's workers have.

        Args:
            requirements: as PEP 508 has them, such as ``"torch>=2.4"``.

        Returns:
            One status for each, in their order.

        Raises:
            errors.InvalidInput: one is no requirement, names a URL, or there are over 1,000.

        """
        return drive(self._operations.check_requirements(requirements))

    def create_environment(
        self, name: str, requirements: Sequence[str], *, overwrite: bool = False
    ) -> Environment:
        """Record requirements under a name; nothing is installed.

        What the daemon does not meet is recorded, too, and warned about one by one with
        :class:`errors.DeploymentWarning`. ``deploy`` takes them as its ``requirements``.

        Args:
            name: as those of deployments.
            requirements: as PEP 508 has them, such as ``"torch>=2.4"``.
            overwrite: whether there may be one of that name, whose requirements these replace.

        Raises:
            errors.AlreadyExists: there is one, and it is not to be overwritten.
            errors.InvalidInput: the name, or one is no requirement or names a URL.

        """
        made = drive(self._operations.create_environment(name, requirements, overwrite))
        for status in made.unmet:
            warnings.warn(str(status), errors.DeploymentWarning, stacklevel=2)
        return made

    def environment(self, name: str) -> Environment:
        """Ask for recorded requirements, and how they compare now.

        Raises:
            errors.NotFound: there are none of that name.

        """
        return drive(self._operations.environment(name))

    def environments(self) -> list[Environment]:
        """Ask for all recorded requirements, ordered by name."""
        return drive(self._operations.environments())

    def delete_environment(self, name: str) -> None:
        """Remove recorded requirements; deployments stay as they are.

        Raises:
            errors.NotFound: there are none of that name.

        """
        drive(self._operations.delete_environment(name))

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

    def cool(self, name: str) -> Deployment:
        """Stop the workers of a deployment when its runs in progress have ended.

        The next run or ``warm`` starts them again. One that is cold stays so.

        Returns:
            The deployment as it is after that.

        Raises:
            errors.NotFound: there is none of that name.

        """
        return drive(self._operations.cool(name))

    def deployment(self, name: str) -> Deployment:
        """Ask for one deployment.

        Raises:
            errors.NotFound: there is none of that name.

        """
        return drive(self._operations.deployment(name))

    def timeline(self, name: str) -> Timeline | None:
        """Ask for the timeline of a deployment's last startup; None if there was none yet."""
        return drive(self._operations.timeline(name))

    def versions(self, name: str) -> list[Deployment]:
        """Ask for all versions of a deployment that are kept, the oldest first.

        Raises:
            errors.NotFound: there is none of that name.

        """
        return drive(self._operations.versions(name))

    def create_pointer(
        self,
        pointer: str,
        target: str,
        *,
        overwrite: bool = False,
        locked: bool = False,
        unlock: bool = False,
    ) -> Pointer:
        """Let a name such as ``diffusion:prod`` mean one version, which is kept then.

        ::

            client.create_pointer("diffusion:prod", "diffusion:v3")
            client.run("diffusion:prod", "a red square")

        Args:
            pointer: ``NAME:POINTER``.
            target: a reference to the same NAME; the version that it stands for now is meant.
            overwrite: whether the pointer may exist, and mean another version until now.
            locked: whether later calls need ``unlock`` to overwrite or delete it.
            unlock: whether the pointer that is overwritten may be locked.

        Raises:
            errors.AlreadyExists: it exists, and is not to be overwritten.
            errors.NotFound: there is no such version.
            errors.InvalidInput: this is no name of a pointer, or one of another deployment.
            errors.PipelineError: it is locked (reason ``"POINTER_LOCKED"``).

        """
        return drive(self._operations.create_pointer(pointer, target, overwrite, locked, unlock))

    def pointers(self, name: str | None = None) -> list[Pointer]:
        """Ask for the pointers of one deployment, or of all."""
        return drive(self._operations.pointers(name))

    def delete_pointer(self, pointer: str, *, unlock: bool = False) -> None:
        """Remove a pointer; the version stays.

        Raises:
            errors.NotFound: there is none of that name.
            errors.PipelineError: it is locked (reason ``"POINTER_LOCKED"``).

        """
        drive(self._operations.delete_pointer(pointer, unlock))

    def delete(self, name: str) -> None:
        """Remove a deployment with all its versions, or one version (``NAME:v3``).

        Runs in progress end, new ones are refused.

        Raises:
            errors.NotFound: there is none of that name.
            errors.PipelineError: a pointer names that version (reason ``"VERSION_IN_USE"``).

        """
        drive(self._operations.delete(name))

    def info(self) -> DaemonInfo:
        """Ask what the daemon is and can do."""
        return drive(self._operations.info())

    def stats(self) -> DaemonStats:
        """Ask what the daemon does: queues, runs per second, latencies, memory, restarts."""
        return drive(self._operations.stats())

    def drain(self, seconds: float | None = None) -> Drained:
        """Stop the daemon as SIGTERM does, and return when its runs have ended.

        It takes no more work, lets runs end, and exits. One that is stopping already is joined.

        Args:
            seconds: that runs may take to end; what the daemon is configured with by default.
                Where it is stopping already, the sooner end counts.

        Raises:
            errors.InvalidInput: the time is negative, or longer than a year.

        """
        return drive(self._operations.drain(seconds))

    def list(self, *, worker_memory: bool = False) -> list[Deployment]:
        """Ask for all deployments, ordered by name.

        Args:
            worker_memory: also for the memory of their workers, which takes the daemon some
                milliseconds for each.

        """
        return drive(self._operations.deployments(worker_memory))
