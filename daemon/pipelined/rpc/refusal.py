"""Handlers that answer with an error whatever is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from grpc_status import rpc_status

from pipelined.core.errors import DomainError
from pipelined.rpc import failed_calls
from pipelined.rpc.status import reason_of, status_of

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


def refusing(
    handler: Handler, error: DomainError, on_refused: Callable[[str], None] | None = None
) -> Handler:
    """Make a handler of the same kind that answers with the error.

    Args:
        handler: What would have answered; None if nothing would.
        error: What is answered.
        on_refused: Called with the peer of each call that is.
    """
    rich = rpc_status.to_status(status_of(error))

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        failed_calls.count(reason_of(error))
        if on_refused is not None:
            on_refused(context.peer())
        await context.abort(rich.code, rich.details, rich.trailing_metadata)

    # The message is not looked at: it may be of an API that nobody here knows. On the wire one
    # message is a stream of one, so that a method that is not known is answered, too.
    if handler is None or (handler.request_streaming and handler.response_streaming):
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
