"""One run of a graph: from the caller's request to the response or the failure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from pipeline import Graph, _values
from pipeline.errors import InvalidInput, RunFailed, SerialisationError
from pipeline.objects.graph import ABSENT
from pipelined.worker import causes
from pipelined.worker.channel import ChannelClosed, ProtocolError
from pipelined.worker.failures import describe, text
from pipelined.worker.framing import MAX_PAYLOAD
from pipelined.worker.link import Cancelled, Link
from pipelined.worker.run_files import RunFiles
from pipelined_api.v1 import runs_pb2
from pipelined_api.v1.values_pb2 import ListValue, Value
from pipelined_api.worker.v1 import worker_pb2

Cause = worker_pb2.RunFailed.Cause
_Response = runs_pb2.RunResponse | runs_pb2.StreamResponse
_Result = TypeVar("_Result")


class Succeeded(NamedTuple):
    """How a run went.

    Attributes:
        seconds: that the nodes took.
        nodes: when each was executed, where that was asked for.
    """

    seconds: float
    nodes: Sequence[worker_pb2.NodeTime]


def execute(
    graph: Graph,
    run_id: str,
    request: bytes,
    max_response_bytes: int = 0,
    link: Link | None = None,
    files: RunFiles | None = None,
    *,
    stream: bool = False,
    timed: bool = False,
) -> tuple[Succeeded | worker_pb2.RunFailed, bytes]:
    """Run the graph on a serialised request; return the answer and its payload.

    Whatever user code raises becomes an answer: SystemExit and KeyboardInterrupt, too, end the run
    and not the worker.

    Args:
        graph: started.
        run_id: of the run.
        request: a RunRequest, or a StreamRequest, which has the same fields.
        max_response_bytes: of the response, or of each message of a stream; 0 for no limit.
        link: tells, before each node and each element of a stream, whether the run is to go on.
            Without it it does.
        files: has the large contents that the inputs refer to, and takes those of the outputs.
            Without it none goes beside the message.
        stream: send the outputs over the link as they come; the payload is the last StreamResponse
            then. Else they are all in the payload, a RunResponse.
        timed: say when each node was executed.

    Raises:
        ChannelClosed: The daemon went away during the run.
    """
    current = TimedNodes(link) if timed else CurrentNode(link)
    limit = min(max_response_bytes or MAX_PAYLOAD, MAX_PAYLOAD)
    try:
        values = _bound(graph, request, files)
        if not graph._streams and not stream:
            payload, seconds = _run(graph, values, run_id, limit, current, files)
        else:
            outputs = _Outputs(graph, values, current, files)
            if stream and link is not None:
                response: _Response = _send(outputs, run_id, limit, link)
            else:
                response = _collect(outputs, run_id, limit, link)
            payload, seconds = response.SerializeToString(), response.execution_seconds
        return Succeeded(seconds, current.times), payload
    except (ChannelClosed, ProtocolError):
        raise
    except Cancelled:
        failed = worker_pb2.RunFailed(cause=Cause.CAUSE_CANCELLED)
    except _Failed as known:
        failed = known.answer
    except BaseException as error:  # user code may raise anything
        failed = _node_failed(error, current.node)
    failed.run_id = run_id
    return failed, b""


class CurrentNode:
    """An Observer of a graph that knows which node is being executed.

    The graph names the node of an Exception; of SystemExit and the like it does not.

    Args:
        link: tells whether the run is to go on.

    Attributes:
        node: its name; empty between nodes.
        times: of nodes that have been executed; none here.
    """

    times: Sequence[worker_pb2.NodeTime] = ()

    def __init__(self, link: Link | None) -> None:
        self.node = ""
        self._link = link

    def check(self) -> None:
        """Raise Cancelled if the run is not to go on."""
        if self._link is not None:
            self._link.check()

    def node_started(self, name: str) -> None:
        """Take note of the node. Raises Cancelled if it is not to be executed."""
        self.check()
        self.node = name

    def node_finished(self, name: str, seconds: float) -> None:
        """Forget the node."""
        self.node = ""


class TimedNodes(CurrentNode):
    """One that also takes note of when nodes were executed."""

    def __init__(self, link: Link | None) -> None:
        super().__init__(link)
        self.times: list[worker_pb2.NodeTime] = []

    def node_finished(self, name: str, seconds: float) -> None:
        """Forget the node, but not its times."""
        super().node_finished(name, seconds)
        at = time.monotonic() - seconds
        self.times.append(worker_pb2.NodeTime(name=name, at=at, seconds=seconds))


class _Failed(Exception):
    """A run failed for a known reason."""

    def __init__(self, answer: worker_pb2.RunFailed) -> None:
        super().__init__()
        self.answer = answer


class _Outputs:
    """The outputs of a run as wire values, as they come.

    Attributes:
        streams: of each output, whether it streams.
        seconds: that the nodes have taken, without what the caller has.
    """

    def __init__(
        self, graph: Graph, values: Sequence[object], current: CurrentNode, files: RunFiles | None
    ) -> None:
        self.streams = [each.parameter.stream for each in graph.outputs]
        self.seconds = 0.0
        self._files = files
        self._rows = graph._stream_bound(values, current)
        self._elements: Counter[int] = Counter()

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._translated(self._rows.close)

    def next(self) -> list[tuple[int, object]] | None:
        """Return what comes next, with the index of each output; None at the end."""
        row = self._translated(partial(next, self._rows, None))
        if row is None:
            return None
        return [(index, item) for index, item in enumerate(row) if item is not ABSENT]

    def encode(self, index: int, item: object, into: Value) -> None:
        """Make a wire value of what has come."""
        name = f"outputs[{index}]"
        if self.streams[index]:
            name += f"[{self._elements[index]}]"
            self._elements[index] += 1
        take = None if self._files is None else self._files.take_output
        try:
            _values.encode_into(into, item, name, stored=take)
        except SerialisationError as error:
            raise _not_sendable(error) from None

    def thin_out(self, index: int, value: Value) -> None:
        """Have what is large in a value go beside the message, if anything can."""
        if self._files is not None:
            try:
                _values.thin_out(value, f"outputs[{index}]", self._files.take_output)
            except SerialisationError as error:
                raise _not_sendable(error) from None

    def _translated(self, call: Callable[[], _Result]) -> _Result:
        """Let the nodes go on, and count the time that they take."""
        began = time.perf_counter()
        try:
            return call()
        except RunFailed as error:
            answer = _node_failed(error.__cause__ or error, error.node or "")
            raise _Failed(answer) from None
        finally:
            self.seconds += time.perf_counter() - began


def _not_sendable(error: SerialisationError) -> _Failed:
    return _Failed(
        worker_pb2.RunFailed(
            cause=Cause.CAUSE_OUTPUT_TYPE, failure=describe(error), subject=error.subject
        )
    )


def _run(
    graph: Graph,
    values: Sequence[object],
    run_id: str,
    limit: int,
    current: CurrentNode,
    files: RunFiles | None,
) -> tuple[bytes, float]:
    """Execute a graph that does not stream; return a serialised RunResponse, and the seconds."""
    began = time.perf_counter()
    try:
        outputs = graph._run_bound(values, current)
    except RunFailed as error:
        raise _Failed(_node_failed(error.__cause__ or error, error.node or "")) from None
    seconds = time.perf_counter() - began
    current.check()
    response = runs_pb2.RunResponse()
    response.run_id = run_id
    response.execution_seconds = seconds
    take = None if files is None else files.take_output
    size, last = 0, len(outputs) - 1
    try:
        for index, item in enumerate(outputs):
            value = response.outputs.add()
            _values.encode_into(value, item, f"outputs[{index}]", stored=take)
            # Of the last one, or the only one, it is asked below: to ask is to serialise.
            if index < last and (size := size + value.ByteSize()) > limit:
                _thin_out(response, files)
                size = response.ByteSize()
                _check_size(size, limit)
        payload = response.SerializeToString()
        if len(payload) > limit:
            _thin_out(response, files)
            payload = response.SerializeToString()
    except SerialisationError as error:
        raise _not_sendable(error) from None
    _check_size(len(payload), limit)
    return payload, seconds


def _thin_out(response: runs_pb2.RunResponse, files: RunFiles | None) -> None:
    """Have what is large in the outputs go beside the message, if anything can."""
    if files is not None:
        for index, value in enumerate(response.outputs):
            _values.thin_out(value, f"outputs[{index}]", files.take_output)


def _collect(outputs: _Outputs, run_id: str, limit: int, link: Link | None) -> runs_pb2.RunResponse:
    response = runs_pb2.RunResponse(run_id=run_id)
    size = 0
    with outputs:
        for streams in outputs.streams:
            response.outputs.append(Value(list_value=ListValue() if streams else None))
        while (parts := outputs.next()) is not None:
            for index, item in parts:
                # Into its place: a large one is not to be copied.
                value = response.outputs[index]
                if outputs.streams[index]:
                    value = value.list_value.items.add()
                outputs.encode(index, item, value)
                # Before the generator is asked for more: there may be no end of it.
                size += value.ByteSize()
                if size > limit:
                    # What came before goes, too, on the first time; on the others it is small.
                    for number, each in enumerate(response.outputs):
                        outputs.thin_out(number, each)
                    size = response.ByteSize()
                _check_size(size, limit)
            if link is not None:
                link.check()
    response.execution_seconds = outputs.seconds
    _check_size(response.ByteSize(), limit)
    return response


def _send(outputs: _Outputs, run_id: str, limit: int, link: Link) -> runs_pb2.StreamResponse:
    with outputs:
        while link.wanted() and (parts := outputs.next()) is not None:
            response = runs_pb2.StreamResponse(run_id=run_id)
            for index, item in parts:
                outputs.encode(index, item, response.outputs.add(index=index).value)
            payload = response.SerializeToString()
            if len(payload) > limit:
                for output in response.outputs:
                    outputs.thin_out(output.index, output.value)
                payload = response.SerializeToString()
            _check_size(len(payload), limit)
            link.send(payload)
    return runs_pb2.StreamResponse(run_id=run_id, execution_seconds=outputs.seconds)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _Failed(worker_pb2.RunFailed(cause=Cause.CAUSE_OUTPUT_TOO_LARGE, size=size))


def _bound(graph: Graph, request: bytes, files: RunFiles | None) -> list[object]:
    """The value of each input of the graph."""
    positional, named = _inputs(runs_pb2.RunRequest.FromString(request), files)
    try:
        return graph._bind(positional, named)
    except InvalidInput as error:
        raise _Failed(_invalid(error.field, text(error), error.bound)) from None


def _inputs(
    request: runs_pb2.RunRequest, files: RunFiles | None
) -> tuple[list[object], dict[str, object]]:
    open_ = None if files is None else files.open_input
    positional: list[object] = []
    named: dict[str, object] = {}
    field = ""
    try:
        for index, value in enumerate(request.inputs):
            field = f"inputs[{index}]"
            positional.append(_values.decode(value, field, stored=open_))
        for entry in request.named_inputs:
            field = entry.key
            if entry.key in named:
                raise _Failed(_invalid(field, "given twice", None))
            named[entry.key] = _values.decode(entry.value, field, stored=open_)
    except SerialisationError as error:
        raise _Failed(_invalid(error.subject or field, text(error), None)) from None
    except ImportError as error:
        # An array of a library that is not installed here.
        raise _Failed(_invalid(field, text(error), None)) from None
    return positional, named


def _node_failed(error: BaseException, node: str) -> worker_pb2.RunFailed:
    return worker_pb2.RunFailed(cause=causes.of_run(error), failure=describe(error, node))


def _invalid(field: str, message: str, bound: str | None) -> worker_pb2.RunFailed:
    answer = worker_pb2.RunFailed(cause=Cause.CAUSE_INVALID_INPUT, subject=field, bound=bound or "")
    answer.failure.type = "InvalidInput"
    answer.failure.message = message.removeprefix(f"{field}: ")
    return answer
