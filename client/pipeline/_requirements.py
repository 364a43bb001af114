"""Asks the daemon how requirements compare to what is installed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline._transport import STATE_CALL_SECONDS, Transport, retrying
from pipelined_api.v1 import daemon_pb2

__all__ = ["RequirementStatus", "check_requirements"]

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


def check_requirements(
    transport: Transport, requirements: Sequence[str]
) -> list[RequirementStatus]:
    """Compare requirements (PEP 508) to the daemon's packages, in their order.

    Raises:
        errors.InvalidInput: one is no requirement, names a URL, or there are over 1,000.

    """
    request = daemon_pb2.CheckRequirementsRequest(requirements=requirements)
    response = retrying(
        lambda: transport.unary(transport.daemon.CheckRequirements, request, STATE_CALL_SECONDS)
    )
    return [
        RequirementStatus(
            each.requirement, each.package, _STATES.get(each.state, ""), each.installed_version
        )
        for each in response.statuses
    ]
