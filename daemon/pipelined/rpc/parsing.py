"""Requests that are no messages reach our methods, which answer them like any other bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a request that could not be parsed.

    Attributes:
        expected: Full name of the message that it should have been.
    """

    expected: str


def tolerant(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Make a handler hand on a Malformed where gRPC would log a traceback and answer UNKNOWN.

    Its method has to know what to do with it.
    """
    parts: Any = handler
    # In a stream the method itself meets what cannot be parsed.
    if parts.request_streaming or parts.request_deserializer is None:
        return handler
    return parts._replace(  # type: ignore[no-any-return]
        request_deserializer=_tolerant(parts.request_deserializer)
    )


def _tolerant(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def parsed(data: bytes) -> object:
        try:
            return parse(data)
        except DecodeError:
            # Generated code passes the class method of the message.
            return Malformed(parse.__self__.DESCRIPTOR.full_name)  # type: ignore[attr-defined]

    return parsed
