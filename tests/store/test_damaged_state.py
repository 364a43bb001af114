"""Databases that are damaged, or are none: refused in plain words, and left as they are."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelined.core.errors import StorageFailed
from pipelined.store.database import VERSION, StateCorrupt
from pipelined.store.directory import StateDirectoryError
from tests.store.failing_disk import contents, copy_state
from tests.store.old_databases import expected, open_state, write_state

PAGE = 4096
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "header": lambda data: b"\xa5" * 100 + data[100:],
    "first page": lambda data: b"\xa5" * PAGE + data[PAGE:],
    "all but the header": lambda data: data[:100] + b"\xa5" * (len(data) - 100),
    "last pages": lambda data: data[: 2 * PAGE] + b"\xa5" * (len(data) - 2 * PAGE),
    "cut within a page": lambda data: data[: 3 * PAGE + 77],
    "cut after a page": lambda data: data[: 2 * PAGE],
    "cut within the header": lambda data: data[:50],
    "text": lambda _: b"not a database at all\n" * 1000,
    "zeros": lambda data: bytes(len(data)),
    "gzip": lambda data: b"\x1f\x8b\x08\x00" + data[4:],
}


async def refuse(state: Path, words: str, kind: type[Exception] = StateCorrupt) -> None:
    """The start is refused, also again, and nothing changes."""
    before = contents(state)
    for _ in range(2):
        with pytest.raises(kind, match=words):
            await open_state(state)
        assert contents(state) == before


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_database_is_refused_and_untouched(tmp_path: Path, damage: str) -> None:
    write_state(tmp_path, VERSION)
    database = tmp_path / "pipelined.db"
    database.write_bytes(DAMAGES[damage](database.read_bytes()))
    await refuse(tmp_path, "is damaged .*; it was left as it is")


async def test_an_empty_database_beside_its_log_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path / "before", VERSION)
    with closing(sqlite3.connect(tmp_path / "before" / "pipelined.db")) as connection:
        connection.execute("DELETE FROM environments")
        connection.commit()
        copy_state(tmp_path / "before", tmp_path / "state")
    database = tmp_path / "state" / "pipelined.db"
    database.write_bytes(b"")
    await refuse(tmp_path / "state", "empty, but its write-ahead log is not")
    database.unlink()
    await refuse(tmp_path / "state", "empty, but its write-ahead log is not")


async def test_without_its_database_code_is_not_taken_for_unused(tmp_path: Path) -> None:
    write_state(tmp_path, VERSION)
    database = tmp_path / "pipelined.db"
    moved = database.rename(tmp_path / "moved.db")
    await refuse(tmp_path, "there is no database .* but there is code", StateDirectoryError)
    database.write_bytes(b"")
    await refuse(tmp_path, "there is no database .* but there is code", StateDirectoryError)
    moved.rename(database)
    assert await open_state(tmp_path) == expected(VERSION)


async def test_an_empty_database_of_a_first_start_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "pipelined.db").touch()
    assert await open_state(tmp_path) == expected(0)


async def test_a_folder_in_the_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "pipelined.db").mkdir()
    await refuse(tmp_path, "cannot be used: it is not a file", StateDirectoryError)


async def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "pipelined.db")) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    await refuse(tmp_path, "it lacks the table")


async def test_a_pointer_to_a_version_that_is_not_there(tmp_path: Path) -> None:
    write_state(tmp_path, VERSION)
    with closing(sqlite3.connect(tmp_path / "pipelined.db")) as connection:
        connection.execute("DELETE FROM secrets")
        connection.execute("DELETE FROM versions WHERE name = 'one'")
        connection.commit()
    await refuse(tmp_path, "a row refers to one that is missing")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET environment = 'torn {'",
        "UPDATE versions SET code_topology = '7'",
        "UPDATE versions SET options = '[]'",
        "UPDATE versions SET options = '{\"instances\": 1}'",
        "UPDATE environments SET requirements = 'null'",
        "UPDATE versions SET digest = CAST(x'fffe' AS TEXT)",
    ],
)
async def test_rows_that_make_no_sense(tmp_path: Path, statement: str) -> None:
    write_state(tmp_path, VERSION)
    with closing(sqlite3.connect(tmp_path / "pipelined.db")) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(StorageFailed, match="could not read the"):
        await open_state(tmp_path)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a daemon that was killed: one half is in the log, in three transactions."""
    folder = tmp_path_factory.mktemp("killed")
    write_state(folder / "before", VERSION)
    with closing(sqlite3.connect(folder / "before" / "pipelined.db")) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        for count in (7, 8, 9):
            connection.execute("UPDATE versions SET created_at = ? WHERE name = 'two'", (count,))
            connection.commit()
        copy_state(folder / "before", folder / "state")
    return folder / "state"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), file=st.sampled_from(["pipelined.db", "pipelined.db-wal"]))
async def test_bytes_that_changed_anywhere(
    tmp_path: Path, killed: Path, file: str, data: st.DataObject
) -> None:
    state = tmp_path / "state"
    shutil.rmtree(state, ignore_errors=True)
    copy_state(killed, state)
    content = bytearray((state / file).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=64))
    content[at : at + len(noise)] = noise
    (state / file).write_bytes(content)
    try:
        found = await open_state(state)
    except (StateDirectoryError, StorageFailed):
        return
    if file == "pipelined.db-wal":
        # Its checksums end it where the damage is: what was there after some transaction.
        times = [each.created_at for each in found.deployments]
        assert times in [[1234.5, last] for last in (1234.5, 7, 8, 9)]
