"""User code in a worker reaches neither the daemon's files nor its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelined.core.access import Role
from pipelined.worker import landlock
from tests.conftest import QUICK_PRELOAD
from tests.hostile import user_code
from tests.hostile.guarded import Guarded
from tests.running_daemon import RunningDaemon

ABI = landlock.abi()
pytestmark = pytest.mark.skipif(
    ABI < landlock.LEAST_ABI, reason=f"this kernel has Landlock {ABI or 'not at all'}"
)
DENIED = "PermissionError: Permission denied"
# A worker is forked, or started by exec if its environment says so: both have to be confined.
WAYS = {"forked": {}, "executed": {"HF_HUB_OFFLINE": "1"}}


@pytest.fixture(scope="module", params=WAYS)
def name(request: pytest.FixtureRequest, guarded: Guarded) -> Iterator[str]:
    """A deployment that does whatever it is told."""
    way: str = request.param
    deployment = f"confined-{way}"
    with guarded.client(Role.DEPLOY) as client:
        user_code.deploy(client, deployment, WAYS[way])
        yield deployment
        client.delete(deployment)


def told(guarded: Guarded, name: str, code: str) -> str:
    with guarded.client(Role.RUN) as client:
        return user_code.told(client, name, code)


def secrets_of(guarded: Guarded) -> list[Path]:
    state = guarded.daemon.state_dir
    found = [state / "pipelined.db", state / "audit.log", guarded.issuer.file.path]
    found += [next((state / "code").iterdir())]
    assert all(path.is_file() for path in found)
    return found


def test_it_cannot_read_or_write_what_the_daemon_keeps(guarded: Guarded, name: str) -> None:
    for path in secrets_of(guarded):
        for mode in ("rb", "ab", "r+b"):
            assert told(guarded, name, f"open({str(path)!r}, {mode!r})") == DENIED
        real = path.resolve()
        for code in (f"os.unlink({str(real)!r})", f"os.truncate({str(real)!r}, 0)"):
            assert told(guarded, name, f"import os; {code}") == DENIED
        # By another name, and in another process.
        link = f"import os; os.link({str(real)!r}, '/tmp/sec-link')"
        assert told(guarded, name, link).startswith(("PermissionError", "OSError: Invalid cross"))
        around = f"/proc/self/root{real}"
        assert told(guarded, name, f"open({around!r})") == DENIED
        cat = f"import subprocess as s; result = s.run(['cat', {str(real)!r}], stderr=-1).stderr"
        assert "Permission denied" in told(guarded, name, cat)
        assert path.stat().st_size > 0


def test_it_cannot_add_to_the_state_or_move_it(guarded: Guarded, name: str) -> None:
    state = guarded.daemon.state_dir.resolve()
    for code in (
        f"open('{state}/tokens', 'w')",
        f"os.mkdir('{state}/new')",
        f"os.rename('{state}', '{state}-moved')",
        f"os.rename('{state}/code', '{state}/moved')",
        f"os.symlink('/etc/passwd', '{state}/link')",
    ):
        assert told(guarded, name, f"import os; {code}").startswith(
            ("PermissionError", "OSError: Invalid cross")
        ), code
    assert {"code", "pipelined.db"} <= {path.name for path in state.iterdir()}


@pytest.mark.parametrize("whose", ["daemon", "nursery"])
def test_it_cannot_look_into_the_daemon_nor_trace_it(
    guarded: Guarded, name: str, whose: str
) -> None:
    with guarded.client(Role.ADMIN) as client:
        info = client.info()
    pid = info.pid if whose == "daemon" else info.nursery.pid
    for what in ("environ", "mem", "maps"):
        assert told(guarded, name, f"open('/proc/{pid}/{what}', 'rb').read(1)") == DENIED
    # Root may list their numbers.
    fds = f"""
import os
result = []
for number in range(64):
    try:
        result.append(os.readlink("/proc/{pid}/fd/%d" % number))
    except (FileNotFoundError, PermissionError):
        pass
"""
    assert told(guarded, name, fds) == "[]"
    assert told(guarded, name, f"open('/proc/{pid}/root/etc/hostname')") == DENIED
    # PTRACE_SEIZE: stops nothing if it succeeds.
    trace = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
done = libc.ptrace(0x4206, {pid}, None, None)
result = (done, os.strerror(ctypes.get_errno()))
"""
    assert told(guarded, name, trace) == str((-1, os.strerror(1)))


@pytest.mark.skipif(not landlock.scopes_signals(ABI), reason=f"Landlock {ABI} scopes no signals")
def test_it_cannot_signal_the_daemon(guarded: Guarded, name: str) -> None:
    with guarded.client(Role.ADMIN) as client:
        info = client.info()
    for pid in (info.pid, info.nursery.pid):
        kill = f"import os; os.kill({pid}, 0)"
        assert told(guarded, name, kill) == "PermissionError: Operation not permitted"
    # But the processes that it has started itself.
    own = "import subprocess as s; p = s.Popen(['sleep', '60']); p.kill(); result = p.wait()"
    assert told(guarded, name, own) == "-9"


def test_it_gains_no_privileges(guarded: Guarded, name: str) -> None:
    status = told(guarded, name, "result = open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["NoNewPrivs"] == "1"
    # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_MODULE.
    for capability in (19, 21, 16):
        assert not int(fields["CapEff"], 16) >> capability & 1
        assert not int(fields["CapBnd"], 16) >> capability & 1


def test_its_environment_tells_nothing(guarded: Guarded, name: str) -> None:
    state = str(guarded.daemon.state_dir.resolve())
    # As it is now, and as the process got it.
    for code in (
        "import os; result = dict(os.environ)",
        "result = open('/proc/self/environ').read()",
    ):
        found = told(guarded, name, code)
        assert "PATH" in found
        # Whose workers they are, for who has to find orphans; a hash.
        assert "PIPELINED_" not in found.replace("PIPELINED_WORKERS_OF", "")
        assert state not in found
        assert "CREDENTIALS_DIRECTORY" not in found


def test_it_still_has_what_models_need(guarded: Guarded, name: str, tmp_path: Path) -> None:
    code = f"""
import os, pathlib, socket, tempfile
with tempfile.TemporaryDirectory() as folder:
    a, b = pathlib.Path(folder, "a"), pathlib.Path(folder, "b", "c")
    a.write_text("kept")
    b.parent.mkdir()
    a.rename(b)
    os.symlink(b, a)
    assert a.read_text() == "kept"
os.close(os.memfd_create("m"))
os.listdir("/"), os.listdir(os.path.expanduser("~"))
open("/proc/self/maps").read()
pathlib.Path("/dev/shm/pipelined-confined").write_text("")
os.unlink("/dev/shm/pipelined-confined")
result = pathlib.Path({str(tmp_path)!r}, "new").write_text("weights")
"""
    assert told(guarded, name, code) == "7"
    assert (tmp_path / "new").read_text() == "weights"


def test_who_is_refused_a_new_file_is_told_why(guarded: Guarded, name: str) -> None:
    state = guarded.daemon.state_dir.resolve()
    for path in (state.parent / "new", state / "pipelined.db"):
        code = f"""
from pipelined.worker import failures
try:
    open({str(path)!r}, "w")
except PermissionError as error:
    result = failures.describe(error).message
"""
        assert "keep the state directory elsewhere" in told(guarded, name, code)
    other = """
from pipelined.worker import failures
result = failures.describe(PermissionError(13, "Permission denied", "/no/such/folder/new")).message
"""
    assert "state directory" not in told(guarded, name, other)


def test_caches_can_be_made_in_a_new_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    state = home / ".local" / "state" / "pipelined"
    state.mkdir(parents=True)
    (tmp_path_factory.getbasetemp() / "home-state").mkdir()
    folder = tmp_path_factory.getbasetemp() / "home-state"
    (folder / "state").symlink_to(state)
    variables = {name: "" for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    daemon = RunningDaemon(
        folder, options=QUICK_PRELOAD, environment={**variables, "HOME": str(home)}
    )
    try:
        with daemon.client() as client:
            user_code.deploy(client, "at-home")
            for path in (".cache/huggingface/hub", ".config/matplotlib", ".local/share/fonts"):
                code = f"import os; os.makedirs(os.path.expanduser('~/{path}'))"
                assert user_code.told(client, "at-home", code) == "None"
            for path in (".cache", ".config", ".local/share"):
                assert (home / path).stat().st_mode & 0o777 == 0o700
            # What it is for still holds.
            stolen = f"open({str(state / 'pipelined.db')!r}, 'rb')"
            assert user_code.told(client, "at-home", stolen) == DENIED
    finally:
        daemon.close()


def test_code_that_variables_load_is_confined_too(guarded: Guarded, tmp_path: Path) -> None:
    # Python imports it before anything of ours is.
    (tmp_path / "sitecustomize.py").write_text(f"""
try:
    found = open({str(guarded.issuer.file.path)!r}).read()
except BaseException as error:
    found = repr(error)
open({str(tmp_path / "found")!r}, "w").write(found)
""")
    with guarded.client(Role.DEPLOY) as client:
        user_code.deploy(client, "by-variables", {"PYTHONPATH": str(tmp_path)})
        client.warm("by-variables")
        client.delete("by-variables")
    assert (tmp_path / "found").read_text() == "PermissionError(13, 'Permission denied')"
