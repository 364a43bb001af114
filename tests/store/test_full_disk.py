"""A disk that is full or broken at any one call: refused or done, never half, and nothing lost."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.conftest import QUICK_PRELOAD
from tests.running_daemon import RunningDaemon, check_health
from tests.store.disk_script import Facts, adding, kept, refused, steps, told, writing
from tests.store.failing_disk import FailingDisk, copy_state

# How the calls fail: one and all after it, for want of space; one, in several ways.
MODES: dict[str, Callable[[FailingDisk, int], None]] = {
    "full": lambda disk, after: disk.fill(after),
    "full for one call": lambda disk, after: disk.fail_once(after, errno.ENOSPC),
    "broken": lambda disk, after: disk.fail_once(after, errno.EIO, torn=True),
}
# Every call fails in one of the modes; `make test-faults` tries each in all of them.
EVERY = 1 if os.environ.get("PIPELINED_TEST_FAULTS") == "all" else len(MODES)
STEADY = frozenset([("version", "steady", 1), ("version", "writing", 1)])


class Storm:
    """A daemon whose disk fails, and what it has acknowledged."""

    def __init__(self, folder: Path) -> None:
        state = folder / "state"
        self.disk = FailingDisk(state, folder / "control")
        self.daemon = RunningDaemon(
            folder, options=QUICK_PRELOAD, environment=self.disk.environment
        )
        self._folder = folder
        self._count = 0
        self.client = self.daemon.client()
        self.facts: Facts = STEADY
        # Runs that were accepted, by their ids, with their inputs.
        self.submitted: list[tuple[str, str]] = []
        self.client.deploy(adding("!"), "steady")
        self.client.deploy(writing(), "writing")
        self.check_alive()
        self.client.warm("writing")

    def check_alive(self) -> None:
        """What needs no disk works, and health says so."""
        assert self.client.run("steady", "here") == ["here!"]
        with grpc.insecure_channel(self.daemon.address) as channel:
            for service in ("", "deployments/steady"):
                status = check_health(channel, service, timeout=10).status
                assert status == health_pb2.HealthCheckResponse.SERVING

    def check_all(self) -> None:
        """All that was acknowledged is there, and nothing else."""
        self.check_alive()
        self.check_told(self.facts, self.facts)
        self.check_runs(self.submitted)
        submitted = [run.id for run in self.client.runs(limit=1000) if run.submitted]
        assert sorted(submitted) == sorted(run for run, _ in self.submitted)

    async def script(self, fail: Callable[[], None]) -> bool:
        """Make all calls once; those that are refused again, on a good disk.

        Returns:
            Whether anything was refused.
        """
        name = f"n{self._count}"
        self._count += 1
        was_refused = False
        fail()
        for step in steps(self.client, name, self._folder):
            after = step.after(self.facts)
            if refused(step.call):
                was_refused = True
                self.check_alive()
                self.check_told(self.facts, after)
                # In the state it is as before, or as it would be now; and the next daemon is sound.
                assert await self.kept() in (self.facts, after)
                self.disk.mend()
                assert not refused(step.call)
                self.check_told(after, after)
            self.facts = after
        if refused(lambda: self.submit(name)):
            was_refused = True
            self.disk.mend()
            assert not refused(lambda: self.submit(name))
        self.disk.mend()
        self.check_told(self.facts, self.facts)
        # Whatever became of its beginning and its end on the disk, it is executed and told.
        self.check_runs(self.submitted[-1:])
        return was_refused

    def submit(self, name: str) -> None:
        self.submitted.append((self.client.submit("steady", name).id, name))

    def check_runs(self, runs: Sequence[tuple[str, str]]) -> None:
        for run, name in runs:
            assert self.client.get_run(run).result(timeout=60) == [f"{name}!"]

    def check_told(self, facts: Facts, others: Facts) -> None:
        """These are the facts; a file that was refused may be there, whole."""
        sha256s = frozenset(sha for kind, sha, *_ in facts | others if kind == "file")
        found = told(self.client, sha256s)
        assert found == facts or (
            found == others and {kind for kind, *_ in found ^ facts} == {"file"}
        )

    async def kept(self) -> Facts:
        copy = self._folder / "copy"
        copy_state(self.daemon.state_dir, copy)
        try:
            return await kept(copy)
        finally:
            shutil.rmtree(copy)

    def close(self) -> None:
        self.disk.mend()
        self.client.close()
        self.daemon.close()


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    storm = Storm(tmp_path_factory.mktemp("storm"))
    yield storm
    storm.close()


@pytest.mark.parametrize("mode", MODES)
async def test_any_call_fails(storm: Storm, mode: str) -> None:
    fail = MODES[mode]
    before = storm.disk.seen
    assert not await storm.script(lambda: None)
    calls = storm.disk.seen - before
    refusals = 0
    for number in range(list(MODES).index(mode) % EVERY, calls, EVERY):
        refusals += await storm.script(functools.partial(fail, storm.disk, number))
    assert refusals > calls // EVERY // 2
    assert await storm.kept() == storm.facts
    # Neither what was begun nor what is not needed any more is left.
    left = {path.name for path in (storm.daemon.state_dir / "code").iterdir()}
    assert len(left) == len(STEADY)
    assert not list((storm.daemon.state_dir / "files" / "incoming").iterdir())


def test_what_was_acknowledged_outlives_a_stop_and_a_crash_on_a_full_disk(storm: Storm) -> None:
    storm.disk.fill()
    assert storm.daemon.stop() == 0
    storm.disk.mend()
    storm.daemon.start()
    storm.check_all()
    storm.disk.fill()
    assert refused(lambda: storm.client.deploy(adding("?"), "refused"))
    storm.daemon.kill()
    storm.disk.mend()
    storm.daemon.start()
    storm.check_all()


def test_a_disk_that_can_only_be_read_is_refused_at_the_start(storm: Storm) -> None:
    assert storm.daemon.stop() == 0
    storm.disk.fill(error=errno.EROFS)
    with pytest.raises(AssertionError, match="cannot be used: Read-only file system") as caught:
        storm.daemon.start()
    assert "Traceback" not in str(caught.value)
    storm.disk.mend()
    storm.daemon.start()
    storm.check_all()
