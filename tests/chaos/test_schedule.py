"""What the storm is judged by: its schedule, and what a fault excuses."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline import errors
from tests.chaos.incidents import EVERYBODY, NOTHING, WORKER_GONE, Incidents
from tests.chaos.schedule import LEAST_IN_ALL, LEAST_OF_KIND, schedule

KINDS = [f"kind {number}" for number in range(23)]


def test_a_seed_gives_the_same_storm_again() -> None:
    assert schedule(7, 10, KINDS) == schedule(7, 10, KINDS)
    assert schedule(7, 10, KINDS) != schedule(8, 10, KINDS)


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:4]])
def test_a_whole_storm_has_enough_of_every_kind(kinds: list[str]) -> None:
    slots = schedule(1, 10, kinds)
    counts = Counter(slot.kind for slot in slots)
    assert set(counts) == set(kinds)
    assert min(counts.values()) >= LEAST_OF_KIND
    assert len(slots) >= LEAST_IN_ALL
    assert [slot.at for slot in slots] == sorted(slot.at for slot in slots)
    assert slots[-1].at < 600


def test_a_short_storm_has_one_of_every_kind() -> None:
    assert Counter(slot.kind for slot in schedule(1, 0.1, KINDS)) == Counter(KINDS)


def test_a_fault_excuses_only_what_it_brings_about() -> None:
    incidents = Incidents()
    died, gone = errors.WorkerDied("died"), errors.Unavailable("gone")
    with incidents.fault("worker killed", "echo", WORKER_GONE) as fault:
        assert incidents.excuse("echo", died, fault.began) is fault
        assert incidents.excuse("echo", gone, fault.began) is None
        assert incidents.excuse("other", died, fault.began) is None
    assert fault.ended is not None
    # A run that began while its effects lasted is excused, one from after that is not.
    assert incidents.excuse("echo", died, fault.ended) is fault
    assert incidents.excuse("echo", died, fault.ended + 1e-6) is None


def test_only_faults_that_excuse_something_make_a_deployment_unavailable() -> None:
    incidents = Incidents()
    with incidents.fault("clock jumps", EVERYBODY, NOTHING) as fault:
        assert incidents.last_effect("echo", fault.began, fault.began + 5) is None
    with incidents.fault("worker killed", "echo", WORKER_GONE) as fault:
        assert incidents.last_effect("other", fault.began, fault.began + 5) is None
        # As long as it goes on, it is over at the end of what is asked for.
        assert incidents.last_effect("echo", fault.began, fault.began + 5) == fault.began + 5
