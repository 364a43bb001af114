"""``make fuzz-rpc SECONDS=…``: a daemon, and for so long whatever can be sent to it.

Prints its seed, and how often each method answered what. Fails with the call that found something.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_bad_input import scaling
from tests.hostile.rpc_fuzzing import DEPLOYMENT, Fuzzer, messages, methods
from tests.running_daemon import RunningDaemon

EXAMPLES = 200


def round_of(fuzzer: Fuzzer, number: int) -> None:
    """Some calls of every kind."""
    known = methods()

    @seed(number)
    @given(data=st.data(), path=st.sampled_from(sorted(known)))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def run(data: st.DataObject, path: str) -> None:
        fuzzer.call(path, data.draw(messages(known[path])))

    run()


def main(seconds: float, first: int) -> int:
    """Fuzz for so long; return the exit code."""
    end = time.monotonic() + seconds
    print(f"seed {first}")
    with tempfile.TemporaryDirectory() as folder:
        daemon = RunningDaemon(Path(folder), options=QUICK_PRELOAD)
        with daemon.client() as client:
            client.deploy(scaling(), DEPLOYMENT)
        with grpc.insecure_channel(daemon.address) as channel:
            fuzzer = Fuzzer(channel)
            number = first
            while time.monotonic() < end:
                round_of(fuzzer, number)
                number += 1
        found = [line for line in daemon.log().splitlines() if "internal_error" in line]
        daemon.close()
    for (path, code), count in sorted(fuzzer.counts.items()):
        print(f"{count:8}  {code:20}  {path}")
    print(f"{sum(fuzzer.counts.values())} calls, {len(found)} errors of the daemon's own")
    return 1 if found else 0


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    sys.exit(main(float(sys.argv[1]), chosen))
