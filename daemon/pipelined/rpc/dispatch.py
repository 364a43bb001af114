"""Every call comes in here: it is let in or refused, and its method is found.

gRPC asks ``Dispatcher.service`` in the task that then answers the call, so what is set there holds
for the method. It is one function, and not an interceptor for each check, because each of those
would be a coroutine more for every call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from pipelined.core.access import AccessRefused, Role, RoleTooLow
from pipelined.core.errors import ApiMismatch
from pipelined.rpc.access import TOKEN_KEY, AccessControl
from pipelined.rpc.api_version import check_version
from pipelined.rpc.caller import set_caller
from pipelined.rpc.parsing import tolerant
from pipelined.rpc.refusal import Handler, refusing
from pipelined.rpc.roles import ROLES
from pipelined.rpc.trace_headers import HEADERS, set_trace
from pipelined_api.versions import API_VERSION_KEY

Metadata: TypeAlias = "Collection[tuple[str, str | bytes]]"
Around: TypeAlias = "Callable[[str, grpc.RpcMethodHandler[Any, Any], Metadata], Handler]"
"""Makes of a method's handler the one that answers a call with such metadata."""

_KEYS = {TOKEN_KEY, API_VERSION_KEY, *HEADERS}


@dataclass(frozen=True, slots=True)
class _Method:
    handler: grpc.RpcMethodHandler[Any, Any]
    needed: Role
    versioned: bool


class Methods:
    """Takes services, as a server does from generated code, and has their methods by full names.

    Args:
        package: Prefix of the services that refuse callers of another API version. Daemon.Info does
            not: from it a client learns what would be served.
        tolerant_packages: Those whose methods know what to do with a Malformed.
    """

    def __init__(self, package: str, *tolerant_packages: str) -> None:
        self._versioned = f"/{package}."
        self._open = f"{self._versioned}Daemon/Info"
        self._tolerant = tuple(f"/{each}." for each in tolerant_packages)
        self.by_name: dict[str, _Method] = {}

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Take a service. A method without a role is for nobody but ADMIN."""
        for name, handler in handlers.items():
            full = f"/{service}/{name}"
            self.by_name[full] = _Method(
                tolerant(handler) if full.startswith(self._tolerant) else handler,
                ROLES.get(full, Role.ADMIN),
                full.startswith(self._versioned) and full != self._open,
            )

    def add_generic_rpc_handlers(self, handlers: Collection[grpc.GenericRpcHandler]) -> None:
        """Ignore them: generated code hands over each service in both ways."""


class Dispatcher(grpc.GenericRpcHandler):
    """Answers for all methods of one listener.

    Args:
        methods: They.
        access: Knows who calls.
        around: Puts something around the handlers of calls that are let in; None for nothing.
    """

    def __init__(self, methods: Methods, access: AccessControl, around: Around | None) -> None:
        self._methods = methods.by_name
        self._access = access
        self._around = around

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """See the base class."""
        name = handler_call_details.method
        method = self._methods.get(name)
        metadata = handler_call_details.invocation_metadata or ()
        ours = [pair for pair in metadata if pair[0] in _KEYS]
        known = self._access.anonymous
        try:
            known = self._access.identified(ours)
            if method is None:
                # Who has been let in is told so.
                return None
            if known.role < method.needed:
                raise RoleTooLow(name.rpartition("/")[2], method.needed, known.role)
            if ours:
                if method.versioned:
                    check_version(ours)
                set_trace(ours)
        except AccessRefused as error:
            handler = None if method is None else method.handler
            return self._access.refusing(name, handler, known, error)
        except ApiMismatch as error:
            assert method is not None
            return refusing(method.handler, error)
        set_caller(known)
        if self._around is None:
            return method.handler
        return self._around(name, method.handler, metadata)
