"""The audit log: a file of JSON lines for its owner alone, rotated by size, and the daemon's log.

Each line is an object with ``time`` (RFC 3339, UTC), ``action``, ``outcome`` ("ok" or the reason of
the error), ``caller`` (id of the token; empty for one without), ``role``, ``peer``, ``listener``
and ``subject``; actions add to it what they know.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import structlog

from pipelined.core.tokens import Tokens

NAME = "audit.log"
OK = "ok"
MODE = 0o600
MAX_BYTES = 16 << 20
# Files before the one that is written: NAME.1 is the newest of them.
KEPT = 4
# Of refusals with the same reason, so many lines in so many seconds: who knocks without a token a
# thousand times a second shall not rotate away what others did.
LIMITED = 20
LIMITED_SECONDS = 60.0
# Of what callers send; what they may send is longer.
MAX_TEXT = 300

log = structlog.get_logger()


class AuditLog:
    """Keeps entries. Belongs to one event loop.

    A file that cannot be written is said in the log, once: the daemon goes on.

    Args:
        path: Of the file.
        clock: Seconds since the epoch.
        max_bytes: After which another file is begun.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, max_bytes: int = MAX_BYTES
    ) -> None:
        self._path = path
        self._clock = clock
        self._max_bytes = max_bytes
        self._failed = False
        # By outcome: when its window began, and the entries in it.
        self._windows: dict[str, tuple[float, int]] = {}

    def write(self, action: str, outcome: str, facts: dict[str, str]) -> None:
        """Keep an entry."""
        bounded = {key: _bounded(value) for key, value in facts.items()}
        log.info("audit", action=action, outcome=outcome, **bounded)
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": at, "action": action, "outcome": outcome, **bounded}
        try:
            self._append(json.dumps(entry).encode() + b"\n")
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("the audit log cannot be written", reason=error.strerror)
            self._failed = True

    def write_limited(self, action: str, outcome: str, facts: dict[str, str]) -> None:
        """Keep an entry, unless there were LIMITED of that outcome in its window."""
        now = self._clock()
        began, count = self._windows.get(outcome, (now, 0))
        if not 0 <= now - began < LIMITED_SECONDS:
            if count > LIMITED:
                self.write(action, outcome, {"left_out": str(count - LIMITED)})
            began, count = now, 0
        self._windows[outcome] = began, count + 1
        if count < LIMITED:
            self.write(action, outcome, facts)

    def tokens_changed(self, before: Tokens, after: Tokens) -> None:
        """Tell which tokens came, and which were taken back or away."""
        old, new = _not_revoked(before), _not_revoked(after)
        for token_id in new.keys() - old.keys():
            self.write("add token", OK, {"subject": token_id, "token_role": new[token_id]})
        for token_id in old.keys() - new.keys():
            self.write("revoke token", OK, {"subject": token_id, "token_role": old[token_id]})

    def _append(self, line: bytes) -> None:
        descriptor = self._open()
        try:
            if os.fstat(descriptor).st_size + len(line) > self._max_bytes:
                os.close(descriptor)
                descriptor = -1
                self._rotate()
                descriptor = self._open()
            os.write(descriptor, line)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        # A line is one write to the end, so that none is torn. No link is followed.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, MODE)

    def _rotate(self) -> None:
        for number in range(KEPT, 0, -1):
            newer = self._numbered(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _not_revoked(tokens: Tokens) -> dict[str, str]:
    return {token.id: token.role.label for token in tokens.records() if token.revoked is None}


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
