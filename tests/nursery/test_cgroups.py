"""Control groups of workers: the daemon's subtree, and when there is none to manage."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pipelined.core.errors import Excess
from pipelined.nursery.cgroups import Cgroup, Cgroups, NotDelegated
from pipelined.nursery.host_memory import HostMemory

MOUNT = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"


def machine(root: Path, *, controllers: str = "cpu memory", others: str = "") -> Path:
    """A file system as a service with a delegated group sees it; returns the group."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/system.slice/pipelined.service\n")
    (root / "proc/self/mountinfo").write_text(f"{MOUNT}\n")
    group = root / "sys/fs/cgroup/system.slice/pipelined.service"
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text(f"{controllers}\n")
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n{others}")
    (group / "cgroup.subtree_control").write_text("")
    return group


def test_the_daemon_moves_into_a_leaf_and_hands_memory_on(tmp_path: Path) -> None:
    group = machine(tmp_path)
    groups = Cgroups(tmp_path)
    assert (group / "cgroup.subtree_control").read_text() == "+memory"
    assert (group / "daemon/cgroup.procs").read_text() == str(os.getpid())
    worker = groups.make("worker-1")
    assert worker is not None
    worker.add(4711)
    worker.limit_memory(2**30)
    assert (worker.path / "cgroup.procs").read_text() == "4711"
    assert (worker.path / "memory.max").read_text() == str(2**30)
    assert (worker.path / "memory.oom.group").read_text() == "1"
    assert worker.path.parent == group
    assert groups.make("worker-1") is None


@pytest.mark.parametrize(
    ("events", "excess"),
    [
        ("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n", Excess.MEMORY),
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 1\n", Excess.HOST_MEMORY),
        ("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n", None),
        (None, None),
    ],
)
def test_what_a_group_was_killed_for(
    tmp_path: Path, events: str | None, excess: Excess | None
) -> None:
    group = Cgroup(tmp_path / "worker")
    if events is not None:
        (group.path / "memory.events").write_text(events)
    assert group.killed_for() is excess


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"controllers": "hugetlb"}, "memory controller is not available"),
        ({"others": "1\n"}, "other processes"),
    ],
)
def test_a_group_that_is_not_the_daemons_is_left_alone(
    tmp_path: Path, options: dict[str, str], reason: str
) -> None:
    group = machine(tmp_path, **options)
    with pytest.raises(NotDelegated, match=reason):
        Cgroups(tmp_path)
    assert not (group / "daemon").exists()


def test_a_machine_without_them_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotDelegated, match="cannot be read"):
        Cgroups(tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/x\n")
    (tmp_path / "proc/self/mountinfo").write_text("41 31 0:38 / /x rw - cgroup cgroup rw,memory\n")
    with pytest.raises(NotDelegated, match="version 2"):
        Cgroups(tmp_path)


def mounted() -> Path | None:
    """Where control groups of version 2 are, if this process may make some."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2" and os.access(fields[4], os.W_OK):
            return Path(fields[4])
    return None


@pytest.mark.skipif(mounted() is None, reason="no control groups (version 2) may be made here")
def test_removing_a_group_kills_what_is_in_it() -> None:
    place = mounted()
    assert place is not None
    group = Cgroup(place / f"pipelined-test-{uuid.uuid4().hex}")
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        group.add(process.pid)
        assert (group.path / "cgroup.procs").read_text() == f"{process.pid}\n"
        # In a thread it would be reaped at the same time.
        (group.path / "cgroup.kill").write_text("1")
        assert process.wait() == -9
    group.remove()
    assert not group.path.exists()


@pytest.mark.parametrize("where", ["memory/x/memory.oom_control", "x/memory.events", ""])
async def test_the_systems_kills_are_counted(tmp_path: Path, where: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    controllers = "memory" if where.startswith("memory") else ""
    (tmp_path / "proc/self/cgroup").write_text(f"9:pids:/y\n4:{controllers}:/x\n")
    counter = tmp_path / (f"sys/fs/cgroup/{where}" if where else "proc/vmstat")
    counter.parent.mkdir(parents=True, exist_ok=True)
    counter.write_text("nr_free_pages 7\noom_kill 3\n")
    memory = HostMemory(tmp_path)
    assert not memory.ran_out()
    counter.write_text("nr_free_pages 7\noom_kill 4\n")
    assert memory.ran_out()
    memory.close()
