"""One run of a graph: from the caller's request to the response or the failure."""

from __future__ import annotations

import time

from pipeline import Graph, _values
from pipeline.errors import InvalidInput, RunFailed, SerialisationError
from pipelined.worker.failures import describe, text
from pipelined.worker.framing import MAX_PAYLOAD
from pipelined.worker.run_files import RunFiles
from pipelined_api.v1 import runs_pb2
from pipelined_api.worker.v1 import worker_pb2

Cause = worker_pb2.RunFailed.Cause


def execute(
    graph: Graph,
    run_id: str,
    request: bytes,
    max_response_bytes: int = 0,
    files: RunFiles | None = None,
) -> tuple[worker_pb2.FromWorker, bytes]:
    """Run the graph on a serialised RunRequest; return the answer and its payload.

    Whatever user code raises becomes an answer: SystemExit and KeyboardInterrupt, too, end the run
    and not the worker. Large contents of files are in ``files``; without, none goes beside the
    message.
    """
    current = CurrentNode()
    try:
        response = _run(graph, run_id, request, current, files)
        size = response.ByteSize()
        limit = min(max_response_bytes or MAX_PAYLOAD, MAX_PAYLOAD)
        if size > limit:
            failed = worker_pb2.RunFailed(cause=Cause.CAUSE_OUTPUT_TOO_LARGE, size=size)
        else:
            succeeded = worker_pb2.RunSucceeded(
                run_id=run_id, execution_seconds=response.execution_seconds
            )
            return worker_pb2.FromWorker(run_succeeded=succeeded), response.SerializeToString()
    except _Failed as known:
        failed = known.answer
    except BaseException as error:  # user code may raise anything
        failure = describe(error, current.node)
        failed = worker_pb2.RunFailed(cause=Cause.CAUSE_NODE, failure=failure)
    failed.run_id = run_id
    return worker_pb2.FromWorker(run_failed=failed), b""


class CurrentNode:
    """An Observer of a graph that knows which node is being executed.

    The graph names the node of an Exception; of SystemExit and the like it does not.
    """

    def __init__(self) -> None:
        self.node = ""

    def node_started(self, name: str) -> None:
        """Take note of the node."""
        self.node = name

    def node_finished(self, name: str, seconds: float) -> None:
        """Forget the node."""
        self.node = ""


class _Failed(Exception):
    """A run failed for a known reason."""

    def __init__(self, answer: worker_pb2.RunFailed) -> None:
        super().__init__()
        self.answer = answer


def _run(
    graph: Graph, run_id: str, request: bytes, current: CurrentNode, files: RunFiles | None
) -> runs_pb2.RunResponse:
    positional, named = _inputs(runs_pb2.RunRequest.FromString(request), files)
    began = time.perf_counter()
    try:
        outputs = graph.execute(positional, named, observer=current)
    except InvalidInput as error:
        raise _Failed(_invalid(error.field, text(error), error.bound)) from None
    except RunFailed as error:
        failure = describe(error.__cause__ or error, error.node or "")
        raise _Failed(worker_pb2.RunFailed(cause=Cause.CAUSE_NODE, failure=failure)) from None
    seconds = time.perf_counter() - began
    response = runs_pb2.RunResponse(run_id=run_id, execution_seconds=seconds)
    take = None if files is None else files.take_output
    try:
        for index, output in enumerate(outputs):
            response.outputs.append(_values.encode(output, f"outputs[{index}]", stored=take))
    except SerialisationError as error:
        raise _Failed(
            worker_pb2.RunFailed(
                cause=Cause.CAUSE_OUTPUT_TYPE, failure=describe(error), subject=error.subject
            )
        ) from None
    return response


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


def _invalid(field: str, message: str, bound: str | None) -> worker_pb2.RunFailed:
    answer = worker_pb2.RunFailed(cause=Cause.CAUSE_INVALID_INPUT, subject=field, bound=bound or "")
    answer.failure.type = "InvalidInput"
    answer.failure.message = message.removeprefix(f"{field}: ")
    return answer
