"""More clients and more runs than the daemon takes."""

from __future__ import annotations

from pathlib import Path

from tests.crowd import crowd
from tests.running_daemon import RunningDaemon

CONNECTIONS, QUEUE, MORE = 200, 1800, 200
PAYLOAD_BYTES = 32 * 1024


async def test_what_is_too_much_is_refused_and_the_rest_answered(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        outcome = await crowd(
            client,
            daemon.pid,
            tmp_path,
            connections=CONNECTIONS,
            submits=QUEUE + MORE,
            queue=QUEUE,
            payload_bytes=PAYLOAD_BYTES,
        )
    assert outcome.submits.otherwise == outcome.calls.otherwise == []
    # One of them is executed, and does not wait.
    assert len(outcome.submits.run_ids) in (QUEUE, QUEUE + 1)
    assert len(outcome.submits.run_ids) + len(outcome.submits.refused) == QUEUE + MORE
    assert outcome.succeeded == len(outcome.submits.run_ids)
    # Each was told when to come again, and was answered then.
    assert len(outcome.calls.seconds) == CONNECTIONS
    assert all(seconds > 0 for seconds in outcome.submits.refused + outcome.calls.refused)
    # The requests that wait are not in memory; what is there of each run is smaller.
    assert outcome.memory["queued"] - outcome.memory["connected"] < QUEUE * PAYLOAD_BYTES
