"""Runs as messages."""

from __future__ import annotations

from google.rpc import status_pb2

from pipelined.core.errors import OutputsNotKept
from pipelined.core.printed import Line
from pipelined.core.run import Run, RunState
from pipelined.rpc.caller import caller
from pipelined.rpc.messages import timestamp
from pipelined.rpc.status import reason_in, reason_of, status_of, without_tracebacks
from pipelined_api.v1 import runs_pb2

# The key of RunsGetResponse.response: the field's number, and that a length follows.
_RESPONSE_KEY = bytes([runs_pb2.RunsGetResponse.RESPONSE_FIELD_NUMBER << 3 | 2])


def run_info(run: Run) -> runs_pb2.RunInfo:
    """A run as it is now."""
    message = runs_pb2.RunInfo(
        run_id=run.id,
        deployment=run.deployment,
        version=run.version,
        state=runs_pb2.RunState.ValueType(run.state.value),
        created_at=timestamp(run.created_at),
        execution_seconds=run.execution_seconds,
        submitted=run.submitted,
        attempts=run.attempts,
        priority=run.priority,
    )
    if run.submitted:
        message.delivery = runs_pb2.Delivery.ValueType(run.delivery.value)
    if run.started_at is not None:
        message.started_at.CopyFrom(timestamp(run.started_at))
    if run.ended_at is not None:
        message.ended_at.CopyFrom(timestamp(run.ended_at))
    if run.status:
        status = status_pb2.Status.FromString(run.status)
        message.error.reason = reason_in(status)
        message.error.message = status.message
    elif run.error is not None:
        message.error.reason = reason_of(run.error)
        message.error.message = status_of(run.error).message
    return message


def told(error: Exception, run_id: str, *, tracebacks: bool = True) -> bytes:
    """How an error is told to who asks for the run: a serialised status."""
    return status_of(error, run_id, tracebacks=tracebacks).SerializeToString()


def get_response(run: Run, response: bytes | None, *, info_only: bool) -> bytes:
    """A serialised RunsGetResponse; the response of the run, if there is one, in it as it came."""
    message = runs_pb2.RunsGetResponse(run=run_info(run))
    if run.status:
        sees_code = caller().sees_code
        message.status = run.status if sees_code else without_tracebacks(run.status)
    elif run.error is not None:
        message.status = told(run.error, run.id, tracebacks=caller().sees_code)
    elif run.state is RunState.SUCCEEDED and not info_only:
        if response is not None:
            length = _varint(len(response))
            return b"".join([message.SerializeToString(), _RESPONSE_KEY, length, response])
        why = (
            "they have made room for newer ones, or are larger than all that may be kept"
            if run.submitted
            else "the caller that ran it has got them"
        )
        message.status = status_of(OutputsNotKept(run.id, why), run.id).SerializeToString()
    return message.SerializeToString()


def _varint(number: int) -> bytes:
    """A number as the wire format has lengths: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def line_message(line: Line) -> runs_pb2.LogLine:
    """One line of output."""
    return runs_pb2.LogLine(
        time=timestamp(line.at),
        text=line.text,
        run_id=line.run_id,
        worker=line.worker,
        note=line.note,
    )
