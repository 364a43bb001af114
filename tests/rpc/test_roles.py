"""The table of roles is total, and as the documentation says."""

from __future__ import annotations

from google.protobuf import descriptor_pool

from pipelined.core.access import Role
from pipelined.rpc.roles import ROLES
from pipelined.rpc.server import REFLECTION, SERVICES


def served() -> set[str]:
    pool = descriptor_pool.Default()
    methods = set()
    for name in SERVICES:
        # It has the messages, and so the descriptor, of its first version.
        known = (
            name.replace("reflection.v1.", "reflection.v1alpha.") if name == REFLECTION else name
        )
        methods |= {f"/{name}/{each.name}" for each in pool.FindServiceByName(known).methods}
    return methods


def test_every_method_has_a_role() -> None:
    assert served() == set(ROLES)


def test_what_changes_something_for_others_is_not_for_role_run() -> None:
    for method in ("Deploy", "Delete", "Cool", "SetPointer", "DeletePointer"):
        assert ROLES[f"/pipelined.v1.Deployments/{method}"] >= Role.DEPLOY
    for method in ("Create", "Delete"):
        assert ROLES[f"/pipelined.v1.Environments/{method}"] >= Role.DEPLOY
