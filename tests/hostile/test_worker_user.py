"""Workers that run as another user than the daemon."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Client, File, Pipeline, Variable
from pipelined.nursery.worker_user import WorkerUserError, find_worker_user
from tests.e2e.test_bad_input import scaling
from tests.hostile import user_code
from tests.hostile.test_pickles import sizes
from tests.running_daemon import RunningDaemon

ROOT = Path(__file__).parents[2]
USER = "nobody"
DENIED = "PermissionError: Permission denied"


def interpreter() -> str:
    """A Python of this version that any user can run; empty if there is none."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/python{version}"):
        path = Path(candidate).resolve()
        if path.exists() and all(each.stat().st_mode & 0o001 for each in (path, *path.parents)):
            return candidate
    return ""


def why_not() -> str:
    """Why workers cannot be started as another user here; empty if they can."""
    try:
        find_worker_user(USER)
    except WorkerUserError as error:
        return str(error)
    return "" if interpreter() else f"{USER} can run no Python of this version"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    if reason := why_not():
        pytest.skip(reason)
    sources = [str(ROOT / name) for name in ("client", "daemon", "proto")]
    packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    running = RunningDaemon(
        tmp_path_factory.mktemp("u"),
        options=("--preload=numpy", f"--worker-user={USER}"),
        # That of the tests is for their own user alone.
        environment={"TMPDIR": "/tmp", "PYTHONPATH": os.pathsep.join([*sources, *packages])},
        program=(interpreter(), "-c", "from pipelined.cli import main; main()"),
    )
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as connected:
        yield connected


def test_code_runs_as_that_user(client: Client) -> None:
    assert client.info().worker_user == USER
    user_code.deploy(client, "elsewhere")
    entry = pwd.getpwnam(USER)
    code = "import os; result = (os.getresuid(), os.getresgid(), os.environ['HOME'])"
    expected = ((entry.pw_uid,) * 3, (entry.pw_gid,) * 3, entry.pw_dir)
    assert user_code.told(client, "elsewhere", code) == str(expected)
    status = "result = [l for l in open('/proc/self/status') if l.startswith('Cap')]"
    found = user_code.told(client, "elsewhere", status)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}:\\t{0:016x}" in found
    client.delete("elsewhere")


def test_it_reaches_nothing_of_the_daemon(client: Client, daemon: RunningDaemon) -> None:
    user_code.deploy(client, "far")
    state = daemon.state_dir.resolve()
    for path in (state / "pipelined.db", state / "audit.log", f"/proc/{daemon.pid}/environ"):
        assert user_code.told(client, "far", f"open({str(path)!r})") == DENIED
    listing = f"import os; os.listdir({str(state)!r})"
    assert user_code.told(client, "far", listing) == DENIED
    kill = f"import os; os.kill({daemon.pid}, 0)"
    assert user_code.told(client, "far", kill) == "PermissionError: Operation not permitted"
    connect = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(daemon.socket_path)!r})"
    )
    assert user_code.told(client, "far", connect) == DENIED
    client.delete("far")


def test_files_reach_it_and_its_folders_go(client: Client, daemon: RunningDaemon) -> None:
    client.deploy(scaling(), "scaling")
    assert client.run("scaling", 2.0, 3) == [6.0]
    large = bytes(3 << 20)
    with Pipeline() as builder:
        builder.output(sizes(Variable(bytes), Variable(str), Variable(File)))
    client.deploy(builder.get_pipeline(), "sizes")
    assert client.run("sizes", b"x", "y", File.from_bytes(large, name="large")) == [
        [1, 1, len(large)]
    ]
    entry = pwd.getpwnam(USER)
    mine = [
        path for path in Path("/tmp").glob("pipelined-worker-*") if _owner(path) == entry.pw_uid
    ]
    assert mine
    client.delete("sizes")
    client.delete("scaling")
    daemon.restart()
    assert [path for path in mine if path.exists()] == []


def _owner(path: Path) -> int:
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return -1


@pytest.mark.parametrize(
    ("name", "why"), [("no-such-user", "no such user"), ("root", "root"), (None, "own user")]
)
def test_users_that_are_none_are_refused(tmp_path: Path, name: str | None, why: str) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    command = [
        str(Path(sys.executable).with_name("pipelined")),
        "serve",
        f"--address=unix:{tmp_path}/s",
        f"--state-dir={tmp_path}/state",
        f"--worker-user={name or own}",
    ]
    environment = os.environ | {"PIPELINED_CONFIG": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert why in done.stderr or (own == "root" and "it is root" in done.stderr)
    assert "Traceback" not in done.stderr
