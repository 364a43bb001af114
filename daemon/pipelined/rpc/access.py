"""Lets calls in: finds out who calls, and refuses what that caller may not do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc
import grpc.aio

from pipelined.core.access import AccessRefused, Role, RoleTooLow, TokenInvalid, TokenMissing
from pipelined.core.tokens import Tokens
from pipelined.rpc.auditing import Audit
from pipelined.rpc.caller import Caller, set_caller
from pipelined.rpc.refusal import Handler, refusing
from pipelined.rpc.roles import ROLES

TOKEN_KEY = "authorization"
_SCHEME = "bearer "


class CurrentTokens(Protocol):
    """Has the tokens that are valid now."""

    @property
    def current(self) -> Tokens:
        """All of them, as the file has them."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """What one listener lets in.

    Attributes:
        listener: Its address, for the audit log.
        role: The highest that a caller has who comes in there, whatever its token says.
        wants_token: Whether no call is served without one.
    """

    listener: str
    role: Role
    wants_token: bool


class AccessControl(grpc.aio.ServerInterceptor):
    """Stands before every service of a listener; a method without a role is for nobody but ADMIN.

    Args:
        entrance: What the listener lets in.
        tokens: Those that there are.
        audit: Is told who was refused.
    """

    def __init__(self, entrance: Entrance, tokens: CurrentTokens, audit: Audit) -> None:
        self._entrance = entrance
        self._tokens = tokens
        self._audit = audit
        self._anonymous = Caller("", entrance.role, entrance.listener)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See the base class."""
        method = handler_call_details.method
        known = self._anonymous
        try:
            known = self._identified(handler_call_details.invocation_metadata or ())
            handler = await continuation(handler_call_details)
            if handler is None:
                # No such method: who has been let in is told so.
                return None
            needed = ROLES.get(method, Role.ADMIN)
            if known.role < needed:
                raise RoleTooLow(method.rpartition("/")[2], needed, known.role)
        except AccessRefused as refusal:
            error = refusal

            def on_refused(peer: str) -> None:
                self._audit.refused(method, known, peer, error)

            return refusing(await continuation(handler_call_details), error, on_refused)
        set_caller(known)
        return handler

    def _identified(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        sent = [value for key, value in metadata if key == TOKEN_KEY]
        if not sent:
            if self._entrance.wants_token:
                raise TokenMissing
            return self._anonymous
        text = sent[0]
        # Two of them: which one is meant is anybody's guess.
        if len(sent) > 1 or not isinstance(text, str) or not text.lower().startswith(_SCHEME):
            raise TokenInvalid
        token = self._tokens.current.verified(text[len(_SCHEME) :].strip(), time.time())
        return Caller(token.id, min(token.role, self._entrance.role), self._entrance.listener)
