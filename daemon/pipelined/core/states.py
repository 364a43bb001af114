"""The states of a deployment, and the one table of legal transitions."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a deployment is; the wire's DeploymentState has the same members."""

    COLD = 1
    STARTING = 2
    WARM = 3
    ASLEEP = 4
    FAILED = 5
    DRAINING = 6


TRANSITIONS: dict[State, frozenset[State]] = {
    State.COLD: frozenset({State.STARTING, State.DRAINING}),
    # Back to COLD: nobody's fault, such as a nursery that could not be started.
    State.STARTING: frozenset({State.WARM, State.FAILED, State.COLD, State.DRAINING}),
    # Back to COLD: the worker died.
    State.WARM: frozenset({State.ASLEEP, State.COLD, State.DRAINING}),
    State.ASLEEP: frozenset({State.WARM, State.COLD, State.DRAINING}),
    State.FAILED: frozenset({State.STARTING, State.COLD, State.DRAINING}),
    State.DRAINING: frozenset({State.COLD}),
}


class IllegalTransition(AssertionError):
    """A transition that the table does not have: a bug in the daemon, never a caller's doing."""


def check(before: State, after: State) -> None:
    """Raise IllegalTransition unless the table allows it."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"{before.name} → {after.name}")
