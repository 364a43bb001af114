"""Calls as bytes, with what comes back as far as a test wants to know it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Answer:
    """How a call ended.

    Attributes:
        code: OK, or why it failed.
        message: Of the status.
        reason: Of its ErrorInfo; empty without one.
        metadata: Of its ErrorInfo.
        status: The whole google.rpc.Status.
        received: Responses before the end.
    """

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    status: status_pb2.Status = field(default_factory=status_pb2.Status)
    received: tuple[bytes, ...] = ()


def answer(
    channel: grpc.Channel,
    method: str,
    *messages: bytes,
    metadata: tuple[tuple[str, str | bytes], ...] = (),
    seconds: float = 30.0,
) -> Answer:
    """Call a method of any kind: on the wire one message is a stream of one."""
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    received: list[bytes] = []
    answers = call(iter(messages), timeout=seconds, metadata=metadata)
    with contextlib.suppress(grpc.RpcError):
        received.extend(answers)
    if answers.code() is grpc.StatusCode.OK:
        return Answer(grpc.StatusCode.OK, received=tuple(received))
    return _failed(answers, received)


def _failed(error: grpc.Call, received: Iterable[bytes]) -> Answer:
    status = rpc_status.from_call(error) or status_pb2.Status()
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return Answer(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        status,
        tuple(received),
    )
