"""The methods of :class:`pipeline.Client` that are about runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import _responses
from pipeline._graph.streams import Stream
from pipeline._transport import drive, iterate
from pipeline.runs import Delivery, LogLine, Run, RunInfo
from pipelined_api.v1 import runs_pb2, schema_pb2

if TYPE_CHECKING:
    from pipeline._files import Files
    from pipeline._operations import Operations
    from pipeline._responses import Row

__all__ = ["RunMethods"]


class RunMethods:
    """Runs of deployments."""

    def __init__(self, operations: Operations, files: Files) -> None:
        self._operations = operations
        self._files = files

    def run(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        priority: int = 0,
        **named: object,
    ) -> Row:
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
            priority: from -10 to 10: the higher, the sooner it is its turn, where runs wait. Each
                step counts as 30 seconds of waiting. An input of that name goes by its position.
            named: inputs by their names.

        Raises:
            errors.NotFound: there is no such deployment.
            errors.InvalidInput: the inputs do not fit.
            errors.StartupFailed, errors.RunFailed: a node raised; with the remote traceback.
            errors.WorkerDied: its process died; the next run gets another.
            errors.DeadlineExceeded, errors.Cancelled, errors.Overloaded: as they say.

        """
        return drive(self._decoded(self._run(name, inputs, named, timeout, priority)))

    def stream(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        priority: int = 0,
        **named: object,
    ) -> Stream[Row]:
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
            priority: as that of ``run``.
            named: inputs by their names.

        Raises:
            errors.NotFound, errors.InvalidInput: as ``run``.
            errors.RunFailed: from the iterator, after the elements before the failure, as is
                everything else that ``run`` raises.

        """
        messages, outputs = drive(
            self._operations.begin_stream(name, inputs, named, timeout, priority)
        )
        return Stream(self._rows(messages, outputs))

    def submit(
        self,
        name: str,
        /,
        *inputs: object,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        priority: int = 0,
        delivery: Delivery = "at_most_once",
        **named: object,
    ) -> Run:
        """Begin a run that goes on by itself, and do not wait for it.

        ::

            run = client.submit("diffusion", "a red square")
            ...
            [images] = run.result()

        It is on the daemon's disk when this returns, and goes on after a restart. Its outputs are
        kept for a time (``pipelined serve --run-ttl``).

        Args:
            name: the deployment.
            inputs: in the order of the graph's input Variables.
            timeout: seconds from now, the wait in the queue included; None for no limit.
            idempotency_key: a second submit with the same key gives the same run, as long as the
                daemon remembers it; None for a new run. Chosen anew for each call, it makes the
                retries of that call safe.
            priority: as that of ``run``.
            delivery: what becomes of it if its process ends while it is executed:
                ``"at_most_once"``, it fails (reason ``"WORKER_DIED"``, or ``"RUN_INTERRUPTED"`` if
                it was the daemon); ``"at_least_once"``, it is executed again, up to 3 times in all.
            named: inputs by their names.

        Raises:
            errors.NotFound, errors.InvalidInput: as ``run``.
            errors.Overloaded: the queue is full.
            errors.AlreadyExists: the key was that of another run.

        """
        info = drive(
            self._operations.submit(
                name, inputs, named, timeout, idempotency_key, priority, delivery
            )
        )
        return self._handle(info)

    def get_run(self, run_id: str) -> Run:
        """Return the handle of a run that was submitted, here or elsewhere.

        Raises:
            errors.NotFound: the daemon does not remember it.

        """
        return self._handle(drive(self._operations.run_info(run_id)))

    def runs(
        self, name: str | None = None, *, states: Sequence[str] = (), limit: int = 100
    ) -> list[RunInfo]:
        """Ask for runs, the newest first; those of ``run`` and ``stream``, too.

        Args:
            name: of one deployment; None for all.
            states: only those; see :class:`pipeline.runs.RunInfo`.
            limit: at most so many, up to 1000.

        Raises:
            errors.InvalidInput: there is no such state, or the limit is out of its bounds.

        """
        return drive(self._operations.runs(name, states, limit))

    def logs(self, name: str, *, follow: bool = False, tail: int | None = None) -> Stream[LogLine]:
        """Give what the workers of a deployment printed, their startup included.

        Args:
            name: the deployment; the lines of all its versions.
            follow: go on with what they print from now on, until the Stream is closed.
            tail: of the lines that are there, only so many of the newest.

        Raises:
            errors.NotFound: from the iterator: there is no such deployment.

        """
        return Stream(iterate(self._operations.logs(deployment=name, follow=follow, tail=tail)))

    def _handle(self, info: RunInfo) -> Run:
        return Run(self._operations, self._decoded, info.id, info.deployment)

    async def _decoded(self, response: runs_pb2.RunResponse) -> Row:
        work = self._operations.transport.work
        return await _responses.decoded(response.outputs, self._files.referred, work)

    def _run(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        priority: int,
    ) -> runs_pb2.RunResponse:
        # The command prints outputs without making tensors of them, hence the message.
        return drive(self._operations.run(name, inputs, named, timeout, priority))

    def _stream(
        self,
        name: str,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        timeout: float | None,
        priority: int,
    ) -> Generator[runs_pb2.StreamResponse, None, None]:
        messages, _ = drive(self._operations.begin_stream(name, inputs, named, timeout, priority))
        return iterate(messages)

    def _rows(
        self, messages: AsyncGenerator[runs_pb2.StreamResponse, None], outputs: int
    ) -> Generator[Row, None, None]:
        return iterate(
            _responses.rows(
                messages, outputs, self._files.referred, self._operations.transport.work
            )
        )

    def _schema(self, name: str) -> schema_pb2.Schema:
        return drive(self._operations.schema(name))

    def _submit(
        self,
        name: str,
        named: Mapping[str, object],
        timeout: float | None,
        idempotency_key: str | None,
        priority: int,
        delivery: str,
    ) -> RunInfo:
        # What an input is called is no concern of ours: none of these is a keyword argument.
        return drive(
            self._operations.submit(name, (), named, timeout, idempotency_key, priority, delivery)
        )

    def _result(self, run_id: str, timeout: float | None) -> runs_pb2.RunResponse:
        return drive(self._operations.result(run_id, timeout))
