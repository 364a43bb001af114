"""Finds out who calls, and refuses those who may not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelined.core.access import AccessRefused, Role, TokenInvalid, TokenMissing
from pipelined.core.tokens import Tokens
from pipelined.rpc.auditing import Audit
from pipelined.rpc.caller import Caller
from pipelined.rpc.refusal import Handler, refusing

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


class AccessControl:
    """Tells who calls by one listener.

    Args:
        entrance: What the listener lets in.
        tokens: Those that there are.
        audit: Is told who was refused.

    Attributes:
        anonymous: Who sends no token, where none is wanted.
    """

    def __init__(self, entrance: Entrance, tokens: CurrentTokens, audit: Audit) -> None:
        self._entrance = entrance
        self._tokens = tokens
        self._audit = audit
        self.anonymous = Caller("", entrance.role, entrance.listener)

    def identified(self, metadata: Sequence[tuple[str, str | bytes]]) -> Caller:
        """Return who sends this.

        Raises:
            AccessRefused: It is nobody who is let in.
        """
        sent = [value for key, value in metadata if key == TOKEN_KEY]
        if not sent:
            if self._entrance.wants_token:
                raise TokenMissing
            return self.anonymous
        text = sent[0]
        # Two of them: which one is meant is anybody's guess.
        if len(sent) > 1 or not isinstance(text, str) or not text.lower().startswith(_SCHEME):
            raise TokenInvalid
        token = self._tokens.current.verified(text[len(_SCHEME) :].strip(), time.time())
        return Caller(token.id, min(token.role, self._entrance.role), self._entrance.listener)

    def refusing(
        self, method: str, handler: Handler, known: Caller, error: AccessRefused
    ) -> Handler:
        """Make a handler that answers with the refusal, and has it told."""
        return refusing(
            handler, error, lambda peer: self._audit.refused(method, known, peer, error)
        )
