"""Clients whose API does not fit are told so by name, in whatever they call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from grpc_status import rpc_status

from pipelined.core.errors import ApiMismatch
from pipelined.rpc import failed_calls
from pipelined.rpc.status import reason_of, status_of
from pipelined_api.versions import API_VERSION, API_VERSION_KEY, major

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class ApiVersionCheck(grpc.aio.ServerInterceptor):
    """Refuses calls that say that they are of an API with another major version.

    Those that say nothing, from stubs in other languages, are served; so is Daemon.Info, from which
    a client learns what would be served.

    Args:
        package: Prefix of the services whose calls are looked at.
    """

    def __init__(self, package: str) -> None:
        self._prefix = f"/{package}."
        self._open = f"{self._prefix}Daemon/Info"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See the base class."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if not method.startswith(self._prefix) or method == self._open:
            return handler
        metadata = handler_call_details.invocation_metadata or ()
        version = next((value for key, value in metadata if key == API_VERSION_KEY), None)
        if version is None or handler is None:
            return handler
        text = version if isinstance(version, str) else version.decode(errors="replace")
        if major(text) == major(API_VERSION):
            return handler
        return _refusing(handler, ApiMismatch(text, API_VERSION))


def _refusing(handler: grpc.RpcMethodHandler[Any, Any], error: ApiMismatch) -> Handler:
    """Make a handler of the same kind that answers with the error."""
    rich = rpc_status.to_status(status_of(error))

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        failed_calls.count(reason_of(error))
        await context.abort(rich.code, rich.details, rich.trailing_metadata)

    # The message is not looked at: it may be of an API that nobody here knows.
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
