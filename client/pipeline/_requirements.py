"""How requirements compare with what is installed at the daemon."""

from __future__ import annotations

from dataclasses import dataclass

from pipelined_api.v1 import daemon_pb2

__all__ = ["RequirementStatus", "requirement_status"]

_STATES = {
    daemon_pb2.RequirementStatus.STATE_SATISFIED: "satisfied",
    daemon_pb2.RequirementStatus.STATE_DIFFERING: "differing",
    daemon_pb2.RequirementStatus.STATE_MISSING: "missing",
}


@dataclass(frozen=True)
class RequirementStatus:
    """A requirement, and what the daemon has.

    Attributes:
        requirement: as it was given, such as ``"torch>=2.4"``.
        package: its package, such as ``"torch"``.
        state: ``"satisfied"``, ``"differing"`` or ``"missing"``.
        installed_version: what is installed there; empty if nothing is.

    """

    requirement: str
    package: str
    state: str
    installed_version: str


def requirement_status(message: daemon_pb2.RequirementStatus) -> RequirementStatus:
    """Read one status."""
    return RequirementStatus(
        message.requirement,
        message.package,
        _STATES.get(message.state, ""),
        message.installed_version,
    )
