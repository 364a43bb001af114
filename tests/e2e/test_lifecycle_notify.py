"""What the service manager is told, and that health and watchdog fall silent with the scheduler."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from pipelined.observe.service_manager import ServiceManager
from tests.conftest import QUICK_PRELOAD
from tests.e2e.health import watch
from tests.e2e.test_crashes import counter
from tests.notify_socket import NotifySocket
from tests.running_daemon import STOP_SECONDS, RunningDaemon, check_health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Short, so that the test is; a second of patience is much for a transaction.
WATCHDOG_SECONDS = 4.0


def not_serving(message: dict[str, str]) -> bool:
    return message.get("STATUS", "").startswith("Not serving: ")


def test_a_service_manager_follows_the_life_of_the_daemon(tmp_path: Path) -> None:
    with NotifySocket() as told:
        environment = {
            "NOTIFY_SOCKET": told.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
        }
        daemon = RunningDaemon(tmp_path, options=QUICK_PRELOAD, environment=environment)
        try:
            starting = told.until(lambda message: "READY" in message)
            assert {"STATUS": "Recovering deployments"} in starting
            assert starting[-1]["STATUS"] == "Serving 0 deployments; 0 runs"
            assert not [each for each in starting[:-1] if "READY" in each]
            with daemon.client() as client:
                client.deploy(counter(), "told")
                # Nobody but the daemon itself speaks for it.
                assert client.run("told") == [1]
            told.until(lambda m: m.get("STATUS") == "Serving 1 deployments, 1 warm; 0 runs")
            told.until(lambda message: message == {"WATCHDOG": "1"})

            before = time.monotonic_ns() // 1000
            daemon.process.send_signal(signal.SIGHUP)
            [reloading] = told.until(lambda message: "RELOADING" in message)[-1:]
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            told.until(lambda message: message.get("READY") == "1")

            # Another process holds the database: no run that is to be remembered can be accepted.
            with (
                grpc.insecure_channel(daemon.address) as channel,
                watch(channel, "") as whole,
                watch(channel, "deployments/told") as one,
            ):
                assert (next(whole), next(one)) == (SERVING, SERVING)
                with closing(sqlite3.connect(daemon.state_dir / "pipelined.db")) as other:
                    other.execute("BEGIN IMMEDIATE")
                    told.until(not_serving)
                    assert (next(whole), next(one)) == (NOT_SERVING, NOT_SERVING)
                    assert check_health(channel).status == NOT_SERVING
                    # As long as the database has patience: longer than the watchdog has.
                    silent = told.until(lambda m: "database is locked" in m.get("STATUS", ""))
                    assert not [each for each in silent if "WATCHDOG" in each]
                    with daemon.client() as client:
                        assert client.info().not_serving_reason.startswith("storage: ")
                    other.rollback()
                told.until(lambda message: message == {"WATCHDOG": "1"})
                assert (next(whole), next(one)) == (SERVING, SERVING)

            daemon.process.send_signal(signal.SIGTERM)
            [stopping] = told.until(lambda message: "STOPPING" in message)[-1:]
            assert stopping["STATUS"].startswith("Draining: 0 runs")
            [extended] = told.until(lambda message: "EXTEND_TIMEOUT_USEC" in message)[-1:]
            assert int(extended["EXTEND_TIMEOUT_USEC"]) > 0
            assert daemon.process.wait(STOP_SECONDS) == 0
        finally:
            daemon.close()


def test_a_socket_may_be_a_path_and_may_be_gone(tmp_path: Path) -> None:
    with NotifySocket(tmp_path) as told:
        environment = {"NOTIFY_SOCKET": told.address, "WATCHDOG_USEC": "30000000"}
        with ServiceManager(environment) as manager:
            # Children are not to speak for the daemon.
            assert environment == {}
            assert manager.watchdog_seconds == 30
            manager.ready("two\nlines")
            assert told.until(bool) == [{"READY": "1", "STATUS": "two lines"}]
            manager.status("two\nlines")
            manager.status("another")
            assert told.until(bool) == [{"STATUS": "another"}]
            Path(told.address).unlink()
            manager.stopping("nobody hears this")


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    other = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getppid())}
    ours = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    nonsense = {"WATCHDOG_USEC": "soon"}
    for environment, seconds in ((other, None), (ours, 1.0), (nonsense, None), ({}, None)):
        with ServiceManager(environment) as manager:
            assert manager.watchdog_seconds == seconds
            # Nobody wants to know: that is no error.
            manager.alive()


def test_a_manager_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        with ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "full")}) as manager:
            # One that does not read holds up nobody.
            for number in range(10_000):
                manager.status(str(number))
