"""Who may do what: the roles of callers, and the ways in which they are refused.

::

    DomainError
      └─ AccessRefused
          ├─ TokenMissing   the listener wants a token, and none came
          ├─ TokenInvalid   it is none of ours, or not written as one
          ├─ TokenExpired   its time is over
          ├─ TokenRevoked   it was taken back
          └─ RoleTooLow     the caller's role does not allow the call
"""

from __future__ import annotations

from enum import IntEnum

from pipelined.core.errors import DomainError


class Role(IntEnum):
    """What a caller may do; each role may do what those below it may.

    RUN sends data: it runs what is deployed and sees its own runs and files. DEPLOY ships code and
    changes deployments. ADMIN also sees and ends the runs and files of others, and drains the
    daemon.
    """

    RUN = 1
    DEPLOY = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """As options, tokens and messages write it."""
        return self.name.lower()


ROLES = {role.label: role for role in Role}


class InvalidRole(ValueError):
    """The text is no role."""


def parse_role(text: str) -> Role:
    """Return the role that is called so. Raises InvalidRole."""
    role = ROLES.get(text)
    if role is None:
        raise InvalidRole(f"{text!r} is no role: there are {', '.join(ROLES)}")
    return role


class AccessRefused(DomainError):
    """Base of the refusals; the text says nothing that the caller did not send."""


class TokenMissing(AccessRefused):
    """The listener serves no call without a token."""

    def __init__(self) -> None:
        super().__init__("this address wants a token with every call, and none came with this one")


class TokenInvalid(AccessRefused):
    """The token is none of ours, or what came is not written as one."""

    def __init__(self) -> None:
        super().__init__("the token is not one of this daemon's")


class TokenExpired(AccessRefused):
    """The time of the token is over."""

    def __init__(self, token_id: str) -> None:
        super().__init__(f"the token {token_id} has expired")
        self.token_id = token_id


class TokenRevoked(AccessRefused):
    """The token was taken back."""

    def __init__(self, token_id: str) -> None:
        super().__init__(f"the token {token_id} has been revoked")
        self.token_id = token_id


class RoleTooLow(AccessRefused):
    """The caller's role does not allow the call."""

    def __init__(self, method: str, needed: Role, role: Role) -> None:
        super().__init__(f"{method} needs the role {needed.label}, and the caller has {role.label}")
        self.method = method
        self.needed = needed
        self.role = role
