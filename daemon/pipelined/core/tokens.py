"""Tokens: what is kept of them, and how one that comes with a call is told from others.

A token is ``pld_ID_SECRET``: the id finds the record, the secret proves the rest. The secret is 32
random bytes, so that its SHA-256 is as hard to reverse as it is to guess the secret itself (2^255
tries on average). What slow, salted hashes are for, passwords that people choose and reuse, does
not arise, and a fast hash costs a call microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipelined.core.access import Role, TokenExpired, TokenInvalid, TokenRevoked

PREFIX = "pld"
ID_BYTES = 6
SECRET_BYTES = 32
MAX_NOTE = 200
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * ID_BYTES}}})_[A-Za-z0-9_-]{{43}}")
_ID = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
_DIGEST = re.compile("[0-9a-f]{64}")
# Compared with what has an id of nobody's, so that it takes as long.
_NO_DIGEST = "0" * 64


class InvalidToken(ValueError):
    """A record that is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. Times are seconds since the epoch.

    Attributes:
        id: Names it; no secret.
        role: What its bearer may do at most.
        sha256: Of the whole token, hexadecimal.
        created: When it was made.
        expires: From when on it is refused; None if never.
        revoked: When it was taken back; None if it was not.
        note: What it is for.
    """

    id: str
    role: Role
    sha256: str
    created: float
    expires: float | None = None
    revoked: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if _ID.fullmatch(self.id) is None:
            raise InvalidToken(f"{self.id[:40]!r} is no id of a token")
        if _DIGEST.fullmatch(self.sha256) is None:
            raise InvalidToken(f"the token {self.id} has no SHA-256")
        if len(self.note) > MAX_NOTE:
            raise InvalidToken(f"a note of {len(self.note)} characters, more than {MAX_NOTE}")

    def is_valid(self, now: float) -> bool:
        """Whether it lets its bearer in."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def new_token(role: Role, now: float, expires: float | None, note: str) -> tuple[str, Token]:
    """Return a token, to be shown once, and its record. Raises InvalidToken if the note is long."""
    token_id = secrets.token_hex(ID_BYTES)
    text = f"{PREFIX}_{token_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return text, Token(token_id, role, _digest(text), now, expires, note=note)


def id_in(text: str) -> str:
    """Return the id in what may be a token; a text that is none is returned as it is."""
    match = _TOKEN.fullmatch(text)
    return text if match is None else match[1]


def revoked(token: Token, now: float) -> Token:
    """Return the record of the token taken back; one that was already stays as it is."""
    return token if token.revoked is not None else replace(token, revoked=now)


class Tokens:
    """The tokens of one moment; never changed."""

    def __init__(self, records: Iterable[Token] = ()) -> None:
        self._by_id = {record.id: record for record in records}

    def __len__(self) -> int:
        return len(self._by_id)

    def any_valid(self, now: float) -> bool:
        """Whether one of them lets somebody in."""
        return any(record.is_valid(now) for record in self._by_id.values())

    def records(self) -> list[Token]:
        """All of them, as they were given."""
        return list(self._by_id.values())

    def verified(self, text: str, now: float) -> Token:
        """Return the record of a token.

        Raises:
            TokenInvalid: It is none of these. Whether its id exists is not told.
            TokenExpired, TokenRevoked: It was one.
        """
        match = _TOKEN.fullmatch(text)
        record = self._by_id.get(match[1]) if match is not None else None
        expected = _NO_DIGEST if record is None else record.sha256
        # In a time that says nothing of how much of it is right.
        equal = hmac.compare_digest(_digest(text), expected)
        if record is None or not equal:
            raise TokenInvalid
        if record.revoked is not None:
            raise TokenRevoked(record.id)
        if record.expires is not None and record.expires <= now:
            raise TokenExpired(record.id)
        return record


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
