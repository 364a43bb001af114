"""The table of states, and the back-off between tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelined.core import states
from pipelined.core.backoff import LONGEST_DELAY_SECONDS, Backoff
from pipelined.core.stages import StageKind
from pipelined.core.states import TRANSITIONS, IllegalTransition, State
from pipelined_api.v1 import deployments_pb2, timeline_pb2


def test_table_is_total_and_every_state_can_be_left() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS.values())
    reachable = {State.COLD}
    while new := {after for state in reachable for after in TRANSITIONS[state]} - reachable:
        reachable |= new
    assert reachable == set(State)


def test_anything_can_drain_and_draining_ends_cold() -> None:
    for state in set(State) - {State.DRAINING}:
        states.check(state, State.DRAINING)
    assert TRANSITIONS[State.DRAINING] == {State.COLD}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.COLD, State.WARM),
        (State.FAILED, State.WARM),
        (State.ASLEEP, State.STARTING),
        (State.DRAINING, State.WARM),
    ],
)
def test_illegal_transitions(before: State, after: State) -> None:
    with pytest.raises(IllegalTransition, match=f"{before.name} → {after.name}"):
        states.check(before, after)


def test_the_wire_has_the_same_states_and_stages() -> None:
    wire_states = deployments_pb2.DeploymentState.items()
    assert {(f"DEPLOYMENT_STATE_{s.name}", s.value) for s in State} == set(wire_states[1:])
    wire_kinds = timeline_pb2.Stage.Kind.items()
    assert {(f"KIND_{kind.name}", kind.value) for kind in StageKind} == set(wire_kinds[1:])


@given(failures=st.integers(1, 200))
def test_backoff_grows_to_its_bound_and_is_forgotten(failures: int) -> None:
    now = 1000.0
    backoff = Backoff(lambda: now)
    delays = []
    for _ in range(failures):
        backoff.failed()
        delays.append(backoff.remaining())
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] <= LONGEST_DELAY_SECONDS
    if failures > 8:
        assert delays[-1] == LONGEST_DELAY_SECONDS
    now += LONGEST_DELAY_SECONDS
    assert backoff.remaining() == 0
    backoff.failed()
    backoff.succeeded()
    assert (backoff.remaining(), backoff.failures) == (0, 0)
