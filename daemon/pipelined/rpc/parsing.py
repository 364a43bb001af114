"""Requests that are no messages reach our methods, which answer them like any other bad input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a request that could not be parsed.

    Attributes:
        expected: Full name of the message that it should have been.
    """

    expected: str


class TolerantParsing(grpc.aio.ServerInterceptor):
    """Hands on a Malformed where gRPC would log a traceback and answer UNKNOWN.

    Args:
        packages: Prefixes of the services whose methods know what to do with it.
    """

    def __init__(self, *packages: str) -> None:
        self._prefixes = tuple(f"/{package}." for package in packages)

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See ServerInterceptor."""
        handler: Any = await continuation(handler_call_details)
        # In a stream the method itself meets what cannot be parsed.
        if (
            handler is None
            or handler.request_streaming
            or handler.request_deserializer is None
            or not handler_call_details.method.startswith(self._prefixes)
        ):
            return handler  # type: ignore[no-any-return]
        return handler._replace(  # type: ignore[no-any-return]
            request_deserializer=_tolerant(handler.request_deserializer)
        )


def _tolerant(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def parsed(data: bytes) -> object:
        try:
            return parse(data)
        except DecodeError:
            # Generated code passes the class method of the message.
            return Malformed(parse.__self__.DESCRIPTOR.full_name)  # type: ignore[attr-defined]

    return parsed
