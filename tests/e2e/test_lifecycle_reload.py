"""SIGHUP: settings are read again, a broken file changes nothing, a closed terminal stops it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from pipeline import File, errors
from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import STOP_SECONDS, RunningDaemon, check_health

COMMON = '[log]\nformat = "json"\n[nursery]\npreload = ["numpy"]\n'


class Configured:
    """A daemon and its configuration file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "pipelined.toml"
        self._file.write_text(COMMON + '[files]\nmax_size = "1MB"\n')
        self.daemon = RunningDaemon(folder, options=[f"--config={self._file}"])

    def reload(self, text: str) -> dict[str, Any]:
        """Write the file anew; returns what the daemon logs of that."""
        before = len(self._of_settings())
        self._file.write_text(text)
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self._of_settings()) > before)
        return self._of_settings()[-1]

    def _of_settings(self) -> list[dict[str, Any]]:
        return [event for event in self.reloads() if event.get("what") in (None, "settings")]

    def reloads(self) -> list[dict[str, Any]]:
        """What it has logged of all of them."""
        # A line that is being written is none yet.
        lines = self.daemon.log().rpartition("\n")[0].splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if event["event"] in ("reloaded", "not reloaded")]


def test_settings_are_read_again(tmp_path: Path) -> None:
    configured = Configured(tmp_path)
    daemon = configured.daemon
    eleven = File.from_bytes(bytes(11), name="eleven")
    try:
        with daemon.client() as client:
            smaller = (
                '[files]\nmax_size = 10\n[nursery]\npreload = ["json"]\n[log]\nformat = "json"'
            )
            logged = configured.reload(smaller)
            assert logged["event"] == "reloaded"
            assert logged["changed"] == ["nursery.preload", "files.max_size"]
            assert logged["applied"] == ["files.max_size"]
            assert logged["needs_restart"] == ["nursery.preload"]
            with pytest.raises(errors.InvalidInput, match="10"):
                client.files.upload(eleven)

            # What is wrong is said, and nothing else happens.
            logged = configured.reload("[files]\nmax_size = 'much'\n[run]\n")
            assert (logged["event"], logged["level"]) == ("not reloaded", "error")
            assert "files.max_size: 'much'" in logged["reason"]
            assert "run is not known" in logged["reason"]
            with pytest.raises(errors.InvalidInput, match="10"):
                client.files.upload(eleven)

            # So it is with tokens, and with them alone.
            tokens = daemon.state_dir / "tokens"
            tokens.write_text("none")
            tokens.chmod(0o600)
            assert configured.reload(smaller)["event"] == "reloaded"
            [broken] = [each for each in configured.reloads() if each.get("what") == "tokens"]
            assert (broken["event"], broken["level"]) == ("not reloaded", "error")
            tokens.unlink()

            # What waited for a restart is as it was: it does not count as changed.
            logged = configured.reload(
                COMMON + '[files]\nttl = "1h"\n[daemon]\ndrain = 7\n'
                '[deployments]\nversions_kept = 3\n[runs]\nttl = "5m"\n'
            )
            changed = ["daemon.drain", "files.max_size", "files.ttl", "deployments.versions_kept"]
            assert logged["changed"] == [*changed, "runs.ttl"]
            assert set(logged["applied"]) == {*changed, "runs.ttl"}
            assert logged["needs_restart"] == []
            client.files.upload(eleven)
        daemon.stop()
        assert '"seconds": 7.0, "event": "draining"' in daemon.log()
    finally:
        daemon.close()


# Makes its standard input the controlling terminal of its own session.
UNDER_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_terminal_that_is_closed_stops_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    address = f"unix:{tmp_path / 's'}"
    command = [str(Path(sys.executable).with_name("pipelined")), "serve", f"--address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", UNDER_TERMINAL]
            + [*command, f"--state-dir={tmp_path / 'state'}", *QUICK_PRELOAD],
            stdin=theirs,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(theirs)
    try:
        with grpc.insecure_channel(address) as channel:
            check_health(channel, timeout=STOP_SECONDS)
        os.close(ours)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "draining" in (tmp_path / "log").read_text()
