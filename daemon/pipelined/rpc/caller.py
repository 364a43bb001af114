"""Who makes the call that is being answered."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from pipelined.core.access import Role
from pipelined.core.run import Run


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        id: Of the token; empty for a caller of a unix socket that sent none. All of those are one.
        role: What it may do.
        listener: Address that it came in by.
    """

    id: str
    role: Role
    listener: str = ""

    @property
    def sees_all(self) -> bool:
        """Whether the runs and files of others are visible to it."""
        return self.role >= Role.ADMIN

    @property
    def sees_code(self) -> bool:
        """Whether it may know how deployed code looks inside, from tracebacks for instance."""
        return self.role >= Role.DEPLOY

    def sees(self, run: Run) -> bool:
        """Whether it may know of a run."""
        return self.sees_all or run.owner == self.id


# Set by what lets the call in (dispatch.py), in the task that answers it. The default may do
# nothing that one has to be let in for.
_NOBODY = Caller("", Role.RUN)
_current: ContextVar[Caller] = ContextVar("pipelined_caller", default=_NOBODY)


def caller() -> Caller:
    """Return who makes the call that this task answers."""
    return _current.get()


def set_caller(known: Caller) -> None:
    """Say who makes the call that this task answers."""
    _current.set(known)
