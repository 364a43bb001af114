"""The unit, as it is installed, under a real systemd."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_crashes import wait_until
from tests.packaging import booting
from tests.packaging.booting import CHECKOUT, BootedSystem

PIPELINED = str(Path(sys.executable).with_name("pipelined"))
PATHS = ":".join(str(CHECKOUT / folder) for folder in ("client", "daemon", "proto"))
SOCKET = "unix:/run/pipelined/pipelined.sock"
DROP_IN = f"""[Service]
Environment=PYTHONPATH={PATHS}
StandardError=append:/run/pipelined.log
"""
# The checkout may be there; an installed one is not.
NO_PRIVATE_TMP = "PrivateTmp=no\nReadWritePaths=/tmp /var/tmp\n"
DEPLOY = """
from pipeline import Client, Pipeline, pipe

@pipe
def who() -> int:
    import os
    return os.getuid()

with Pipeline() as builder:
    builder.output(who())
with Client() as client:
    client.deploy(builder.get_pipeline(), "who")
    print(client.run("who"))
"""
RUN_AGAIN = """
from pipeline import Client

with Client() as client:
    print(client.run("who"))
"""


@pytest.fixture
def booted() -> Iterator[BootedSystem]:
    if reason := booting.reason_not_to():
        pytest.skip(reason)
    machine = BootedSystem()
    yield machine
    machine.close()


def test_the_installed_unit_lives_under_systemd(booted: BootedSystem) -> None:
    python = ("env", f"PYTHONPATH={PATHS}", f"PIPELINED_ADDRESS={SOCKET}", sys.executable)
    booted.run(*python, PIPELINED, "systemd", "install", "--system")
    booted.run("systemd-sysusers", "/etc/sysusers.d/pipelined.conf")
    booted.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/pipelined.conf")
    booted.write(
        "/etc/pipelined/pipelined.toml", '[nursery]\npreload = ["numpy"]\n[log]\nformat = "json"\n'
    )
    tokens = json.dumps({"version": 1, "tokens": []})
    booted.write("/etc/pipelined/credentials/tokens", tokens)
    drop_in = DROP_IN + NO_PRIVATE_TMP * CHECKOUT.is_relative_to("/tmp")
    booted.write("/etc/systemd/system/pipelined.service.d/test.conf", drop_in)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "start", "pipelined")

    # It has said that it is ready: now it serves, as its own user.
    user = int(booted.run("id", "--user", "pipelined"))
    assert user != 0
    assert json.loads(booted.run(*python, "-c", DEPLOY)) == [user]
    assert json.loads(booted.run("stat", "--format=%a", "/run/pipelined/pipelined.sock")) == 660
    shown = booted.show("pipelined", "StatusText", "User", "WatchdogUSec", "MainPID")
    assert shown["StatusText"].startswith("Serving ")
    assert shown["User"] == "pipelined"
    # A handed credential is one that only the daemon's user can read.
    folder = f"/proc/{shown['MainPID']}/root/run/credentials/pipelined.service"
    environment = booted.run("cat", f"/proc/{shown['MainPID']}/environ").split("\0")
    assert "CREDENTIALS_DIRECTORY=/run/credentials/pipelined.service" in environment
    assert booted.run("cat", f"{folder}/pipelined_tokens") == tokens
    # Its children do not speak for it, nor does it leave them what is none of theirs.
    children = booted.run("pgrep", "--parent", shown["MainPID"]).split()
    for child in children:
        assert "NOTIFY_SOCKET" not in booted.run("cat", f"/proc/{child}/environ")

    booted.write(
        "/etc/pipelined/pipelined.toml",
        '[nursery]\npreload = ["numpy"]\n[log]\nformat = "json"\n[daemon]\ndrain = 3\n',
    )
    booted.run("systemctl", "reload", "pipelined")
    wait_until(lambda: '"reloaded"' in booted.run("cat", "/run/pipelined.log"))
    assert booted.show("pipelined", "ActiveState") == {"ActiveState": "active"}

    # Killed, it is started again, with what was deployed.
    booted.run("kill", "-KILL", shown["MainPID"])
    wait_until(lambda: booted.show("pipelined", "NRestarts")["NRestarts"] == "1")
    wait_until(lambda: booted.show("pipelined", "ActiveState")["ActiveState"] == "active")
    assert json.loads(booted.run(*python, "-c", RUN_AGAIN)) == [user]

    booted.run("systemctl", "stop", "pipelined")
    shown = booted.show("pipelined", "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    log = booted.run("cat", "/run/pipelined.log")
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "stopped"
