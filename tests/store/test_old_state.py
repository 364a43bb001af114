"""Databases of every earlier version are brought forward; of that, nothing is ever lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipelined.store.database import VERSION, StateTooNew
from tests.store.failing_disk import FailingDisk, contents, copy_state
from tests.store.old_databases import expected, open_state, write_state

ROOT = Path(__file__).parents[2]
# `make test-faults` fails each call in each way; here they take turns.
EVERY = 1 if os.environ.get("PIPELINED_TEST_FAULTS") == "all" else 3


def content_of(database: Path) -> list[str]:
    """All but secrets, of which no copy is kept."""
    with closing(sqlite3.connect(database)) as connection:
        return [line for line in connection.iterdump() if 'INTO "secrets"' not in line]


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_every_version_is_brought_forward_and_copied_before(
    tmp_path: Path, version: int
) -> None:
    write_state(tmp_path, version)
    before = content_of(tmp_path / "pipelined.db")
    assert await open_state(tmp_path) == expected(version)
    with closing(sqlite3.connect(tmp_path / "pipelined.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    copies = [name for name in contents(tmp_path) if name.startswith("pipelined.db.v")]
    assert copies == [f"pipelined.db.v{version}"] * (version < VERSION)
    for copy in copies:
        assert content_of(tmp_path / copy) == before
    assert await open_state(tmp_path) == expected(version)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_what_a_killed_daemon_of_every_version_had_in_its_log_comes_too(
    tmp_path: Path, version: int
) -> None:
    write_state(tmp_path / "before", version)
    with closing(sqlite3.connect(tmp_path / "before" / "pipelined.db")) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        table = "deployments" if version == 1 else "versions"
        connection.execute(f"UPDATE {table} SET schema = x'07' WHERE name = 'two'")
        connection.commit()
        copy_state(tmp_path / "before", tmp_path / "state")
    found = await open_state(tmp_path / "state")
    assert [each.schema for each in found.deployments] == [b"\x00\xff", b"\x07"]
    if version < VERSION:
        copy = content_of(tmp_path / "state" / f"pipelined.db.v{version}")
        assert any("'two'" in line and "X'07'" in line for line in copy)


async def test_of_a_newer_version_nothing_is_touched(tmp_path: Path) -> None:
    write_state(tmp_path, VERSION)
    with closing(sqlite3.connect(tmp_path / "pipelined.db")) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("CREATE TABLE future (a)")
    before = contents(tmp_path)
    with pytest.raises(StateTooNew, match=f"has version {VERSION + 1}"):
        await open_state(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("version", range(VERSION + 1))
def test_a_start_on_a_disk_that_fails_loses_nothing(tmp_path: Path, version: int) -> None:
    disk = FailingDisk(tmp_path, tmp_path.with_name(f"{tmp_path.name}-control"))
    module = "tests.store.failing_starts"
    done = subprocess.run(
        [sys.executable, "-m", module, tmp_path, disk.control, str(version), str(EVERY)],
        env={**os.environ, **disk.environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    refused, all_of_them = map(int, done.stdout.split())
    assert refused > all_of_them // 2
    shutil.rmtree(tmp_path)
