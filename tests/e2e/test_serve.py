"""The command `pipelined serve`: starting, refusing to start, and what the process may contain."""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from pipeline import Client
from pipelined_api.v1 import daemon_pb2, daemon_pb2_grpc
from tests.running_daemon import RunningDaemon, check_health

PIPELINED = str(Path(sys.executable).with_name("pipelined"))


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to refuse."""
    return subprocess.run(
        [PIPELINED, "serve", *options], capture_output=True, text=True, timeout=60, check=False
    )


def assert_refused(result: subprocess.CompletedProcess[str], *texts: str) -> None:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("pipelined: ")]
    for text in texts:
        assert text in line


def test_serving_does_not_wait_for_the_imports(tmp_path: Path) -> None:
    # A module whose import does not end as long as the file is not there.
    release = tmp_path / "release"
    (tmp_path / "endless_import.py").write_text(
        f"import pathlib\nwhile not pathlib.Path({str(release)!r}).exists(): pass\n"
    )
    site = tmp_path / "site"
    site.mkdir()
    environment = {"PYTHONPATH": str(tmp_path)}
    daemon = RunningDaemon(tmp_path, options=["--preload=endless_import"], environment=environment)
    try:
        with grpc.insecure_channel(daemon.address) as channel:
            info = daemon_pb2_grpc.DaemonStub(channel).Info(daemon_pb2.InfoRequest())
            assert info.nursery.state == daemon_pb2.Nursery.STATE_PRELOADING
            health = check_health(channel)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        release.touch()
    finally:
        daemon.close()


def test_the_daemon_maps_no_torch_and_no_cuda(daemon: RunningDaemon) -> None:
    maps = Path(f"/proc/{daemon.pid}/maps").read_text()
    assert "python" in maps
    for library in ("libtorch", "libcuda", "numpy"):
        assert library not in maps
    script = (
        "import sys, pipelined.app, pipelined.cli;"
        "print([m for m in ('torch', 'cloudpickle', 'numpy', 'pipeline') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_health_of_deployments_and_reflection(daemon: RunningDaemon) -> None:
    from tests.e2e.test_lifecycle import double, single

    with daemon.client() as client, grpc.insecure_channel(daemon.address) as channel:
        name = health_pb2.HealthCheckRequest(service="deployments/healthy")
        with pytest.raises(grpc.RpcError) as caught:
            check_health(channel, name.service)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        follow = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        watch, other = follow(name), follow(name)
        status = health_pb2.HealthCheckResponse
        assert next(watch).status == status.SERVICE_UNKNOWN
        assert next(other).status == status.SERVICE_UNKNOWN
        other.cancel()
        client.deploy(single(double), "healthy")
        assert next(watch).status == status.SERVING
        assert check_health(channel, name.service).status == status.SERVING
        client.delete("healthy")
        assert next(watch).status == status.SERVICE_UNKNOWN
        watch.cancel()

        for version in ("v1", "v1alpha"):
            method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            call = channel.stream_stream(
                method,
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            [response] = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            services = {service.name for service in response.list_services_response.service}
            assert {"pipelined.v1.Deployments", "pipelined.v1.Runs", "pipelined.v1.Daemon"} <= (
                services
            )
            request = reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="pipelined.v1.Runs"
            )
            [response] = call(iter([request]))
            assert response.file_descriptor_response.file_descriptor_proto


def test_address_in_use_by_a_live_daemon(daemon: RunningDaemon, tmp_path: Path) -> None:
    result = serve(f"--address={daemon.address}", f"--state-dir={tmp_path}")
    assert_refused(result, "alive", daemon.address)
    with daemon.client() as client:
        client.list()


def test_state_directory_in_use_by_a_live_daemon(daemon: RunningDaemon, tmp_path: Path) -> None:
    result = serve(f"--address=unix:{tmp_path}/s", f"--state-dir={daemon.state_dir}")
    assert_refused(result, "another daemon", str(daemon.state_dir))


def test_socket_of_a_program_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        assert_refused(serve(f"--address=unix:{path}", f"--state-dir={tmp_path}/state"), "alive")
    assert path.is_socket()


def test_stale_socket_is_removed_and_a_file_is_not(own_daemon: RunningDaemon) -> None:
    own_daemon.kill()
    assert own_daemon.socket_path.is_socket()
    own_daemon.start()
    own_daemon.stop()
    assert not own_daemon.socket_path.exists()
    own_daemon.socket_path.write_text("precious")
    result = serve(f"--address={own_daemon.address}", f"--state-dir={own_daemon.state_dir}")
    assert_refused(result, "not a socket")
    assert own_daemon.socket_path.read_text() == "precious"


@pytest.mark.parametrize("address", ["nowhere", "unix:", "host:port", "unix:/" + "x" * 200])
def test_address_that_is_none(tmp_path: Path, address: str) -> None:
    result = serve(f"--address={address}", f"--state-dir={tmp_path}")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    # Not even root can make a folder there.
    result = serve(f"--address=unix:{tmp_path}/s", "--state-dir=/proc/pipelined")
    assert_refused(result, "/proc/pipelined")
    (tmp_path / "file").write_text("")
    result = serve(f"--address=unix:{tmp_path}/s", f"--state-dir={tmp_path}/file")
    assert_refused(result, f"{tmp_path}/file")


def test_state_from_a_newer_version_is_left_alone(own_daemon: RunningDaemon) -> None:
    own_daemon.stop()
    database = own_daemon.state_dir / "pipelined.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    before = database.read_bytes()
    options = (f"--address={own_daemon.address}", f"--state-dir={own_daemon.state_dir}")
    assert_refused(serve(*options), "1000", "pipelined.db")
    assert database.read_bytes() == before


def test_damaged_state_is_left_alone(own_daemon: RunningDaemon) -> None:
    own_daemon.stop()
    database = own_daemon.state_dir / "pipelined.db"
    content = b"not a database at all" * 1000
    database.write_bytes(content)
    options = (f"--address={own_daemon.address}", f"--state-dir={own_daemon.state_dir}")
    assert_refused(serve(*options), "damaged", "pipelined.db")
    assert database.read_bytes() == content
    # Moved away, the daemon starts with an empty one.
    shutil.move(database, database.with_suffix(".damaged"))
    own_daemon.start()


def test_what_is_not_ours_is_left_in_the_state_directory(own_daemon: RunningDaemon) -> None:
    assert own_daemon.stop() == 0
    strange = own_daemon.state_dir / "code" / "a folder"
    strange.mkdir()
    own_daemon.start()
    assert strange.exists()
    assert own_daemon.stop() == 0


def test_state_that_cannot_be_tidied_up_is_an_error(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "code" / ".incoming-folder").mkdir(parents=True)
    result = serve(f"--address=unix:{tmp_path / 's'}", f"--state-dir={state}")
    assert_refused(result, "could not remove unused code")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_cleanly(own_daemon: RunningDaemon, number: signal.Signals) -> None:
    process = own_daemon.process
    process.send_signal(number)
    assert process.wait(60) == 0
    assert not own_daemon.socket_path.exists()
    own_daemon.start()


def test_client_without_a_daemon_says_so(tmp_path: Path) -> None:
    from pipeline import errors

    with (
        Client(f"unix:{tmp_path}/nobody") as client,
        pytest.raises(errors.Unavailable, match="nobody"),
    ):
        client.list()
