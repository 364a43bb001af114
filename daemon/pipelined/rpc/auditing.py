"""Who changed something, or was refused: who, what, from where, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc.aio

from pipelined.core.access import RoleTooLow
from pipelined.core.errors import DomainError
from pipelined.rpc.caller import Caller, caller
from pipelined.rpc.status import reason_of

OK = "ok"
INTERNAL = "INTERNAL"
CANCELLED = "CANCELLED"


class AuditSink(Protocol):
    """Keeps entries."""

    def write(self, action: str, outcome: str, facts: dict[str, str]) -> None:
        """Keep one. Never raises."""

    def write_limited(self, action: str, outcome: str, facts: dict[str, str]) -> None:
        """Keep one, unless there have been too many of that outcome lately. Never raises."""


@dataclass(slots=True)
class Entry:
    """What is done, as far as it is known; a method adds to it.

    Attributes:
        subject: What it is done to: a deployment, a pointer, a file.
        details: More of it, for people.
    """

    subject: str = ""
    details: dict[str, str] = field(default_factory=dict)


class Audit:
    """Makes entries of calls.

    Args:
        sink: Keeps them.
    """

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink

    @contextlib.contextmanager
    def action(
        self, name: str, context: grpc.aio.ServicerContext[Any, Any], subject: str = ""
    ) -> Iterator[Entry]:
        """Tell what is done inside, once it is known how that ended.

        Args:
            name: What is done, such as "deploy".
            context: Of the call.
            subject: What it is done to.
        """
        entry = Entry(subject)
        outcome = CANCELLED
        try:
            yield entry
            outcome = OK
        except DomainError as error:
            outcome = reason_of(error)
            raise
        except Exception:
            outcome = INTERNAL
            raise
        finally:
            facts = _facts(caller(), context.peer())
            facts |= {"subject": entry.subject} | entry.details
            if outcome in (OK, CANCELLED, INTERNAL):
                # Of those that did not end well, something may have been done.
                self._sink.write(name, outcome, facts)
            else:
                # What is refused costs a caller nothing, and shall not rotate away what others did.
                self._sink.write_limited(name, outcome, facts)

    def refused(self, method: str, known: Caller, peer: str, error: DomainError) -> None:
        """Tell of a call that was not let in; of many, some."""
        facts = _facts(known, peer) | {"subject": method}
        if not isinstance(error, RoleTooLow):
            # Nobody yet; the holder of a token that was one.
            facts |= {"caller": getattr(error, "token_id", ""), "role": ""}
        self._sink.write_limited("call", reason_of(error), facts)


def _facts(known: Caller, peer: str) -> dict[str, str]:
    return {
        "caller": known.id,
        "role": known.role.label,
        "peer": peer,
        "listener": known.listener,
    }
