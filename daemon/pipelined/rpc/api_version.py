"""Clients whose API does not fit are told so by name, in whatever they call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from pipelined.core.errors import ApiMismatch
from pipelined.rpc.refusal import Handler, refusing
from pipelined_api.versions import API_VERSION, API_VERSION_KEY, major


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
        return refusing(handler, ApiMismatch(text, API_VERSION))
