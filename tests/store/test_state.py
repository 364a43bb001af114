"""What is kept in the state directory, and what happens when it cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipelined.core.errors import CodeDigestMismatch, StorageFailed
from pipelined.core.options import Options
from pipelined.core.references import Pointer
from pipelined.store.database import MIGRATIONS, VERSION, StateCorrupt, StateTooNew, _copy
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory, StateDirectoryError
from tests.store.old_databases import CODE, CONTENT
from tests.store.old_databases import ONE as SPECIFICATION


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteDeploymentStore]:
    with StateDirectory(tmp_path / "state") as directory:
        store = await SqliteDeploymentStore.open(directory)
        yield store
        await store.close()


async def test_what_was_added_is_there_when_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with StateDirectory(path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        await store.store_code(chunks(CONTENT[:4], b"", CONTENT[4:]), CODE)
        await store.add(SPECIFICATION, "key")
        await store.close()
    with StateDirectory(path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        assert await store.deployments() == [SPECIFICATION]
        assert store.code_path(CODE).read_bytes() == CONTENT
        assert await store.deployed("key", SPECIFICATION) == 3
        assert await store.deployed("other", SPECIFICATION) is None
        assert await store.deployed("", SPECIFICATION) is None
        assert await store.deployed("key", replace(SPECIFICATION, digest="cd" * 32)) is None
        await store.close()


async def test_state_is_the_owners_alone(store: SqliteDeploymentStore, tmp_path: Path) -> None:
    assert (tmp_path / "state" / "code").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state" / "pipelined.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("parts", [(), (CONTENT[:-1],), (CONTENT, b"!"), (b"some c0de",)])
async def test_damaged_code_is_not_kept(
    store: SqliteDeploymentStore, parts: tuple[bytes, ...]
) -> None:
    with pytest.raises(CodeDigestMismatch):
        await store.store_code(chunks(*parts), CODE)
    assert list(store.code_path(CODE).parent.iterdir()) == []


async def test_code_is_removed_with_the_last_that_refers_to_it(
    store: SqliteDeploymentStore,
) -> None:
    await store.store_code(chunks(CONTENT), CODE)
    await store.prune_code()
    # Received, and about to be referred to.
    assert store.code_path(CODE).exists()
    await store.add(SPECIFICATION, "")
    await store.add(replace(SPECIFICATION, name="two"), "")
    await store.remove("one")
    await store.prune_code()
    assert store.code_path(CODE).exists()
    await store.remove("two")
    await store.prune_code()
    # Removed, but its runs may not have ended yet.
    assert store.code_path(CODE).exists()
    await store.release_code(CODE)
    assert not store.code_path(CODE).exists()


async def test_what_a_crash_left_half_received_is_removed(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        left = directory.code / ".incoming-abc"
        left.write_bytes(b"half")
        store = await SqliteDeploymentStore.open(directory)
        assert not left.exists()
        await store.close()


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    with StateDirectory(tmp_path), pytest.raises(StateDirectoryError, match="in use"):
        StateDirectory(tmp_path)
    StateDirectory(tmp_path).close()


async def test_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        with closing(sqlite3.connect(directory.database)) as connection:
            connection.execute("CREATE TABLE future (a)")
            connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        before = directory.database.read_bytes()
        with pytest.raises(StateTooNew, match=str(VERSION + 1)):
            await SqliteDeploymentStore.open(directory)
        assert directory.database.read_bytes() == before


@pytest.mark.parametrize("damage", ["garbage", "page"])
async def test_damaged_database_is_refused_and_untouched(tmp_path: Path, damage: str) -> None:
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        await store.add(SPECIFICATION, "")
        await store.close()
        with closing(sqlite3.connect(directory.database)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = 'versions'"
            [page] = connection.execute(query).fetchone()
        content = bytearray(directory.database.read_bytes())
        start = 0 if damage == "garbage" else 4096 * (page - 1)
        content[start : start + 4096] = b"\xa5" * 4096
        directory.database.write_bytes(content)
        with pytest.raises(StateCorrupt, match="damaged"):
            await SqliteDeploymentStore.open(directory)
        assert directory.database.read_bytes() == content


# What a daemon of the first version of the database left: two names, and keys of both.
FIRST_DATABASE = f"""
    {MIGRATIONS[0]}
    INSERT INTO deployments VALUES ('one', 3, '{"ab" * 32}', x'00ff', 'CODE_FORMAT_CLOUDPICKLE',
        {CODE.size}, '{CODE.sha256}', '{{"A": "ü", "B": ""}}', 2, 1234.5);
    INSERT INTO deployments VALUES ('two', 1, '{"cd" * 32}', x'', 'CODE_FORMAT_CLOUDPICKLE',
        {CODE.size}, '{CODE.sha256}', '{{}}', 1, 1234.5);
    INSERT INTO idempotency_keys VALUES ('key', 'one', '{"ab" * 32}', 1234.5);
    INSERT INTO idempotency_keys VALUES ('other', 'two', '{"cd" * 32}', 1234.5);
    PRAGMA user_version = 1;
"""


async def test_deployments_of_the_first_database_become_versions(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        with closing(sqlite3.connect(directory.database)) as connection:
            connection.executescript(FIRST_DATABASE)
        (directory.code / CODE.sha256).write_bytes(CONTENT)
        store = await SqliteDeploymentStore.open(directory)
        one, two = await store.deployments()
        assert one == SPECIFICATION
        assert (two.name, two.version) == ("two", 1)
        assert await store.last_versions() == {"one": 3, "two": 1}
        assert await store.pointers() == []
        assert await store.deployed("key", one) == 3
        assert await store.deployed("other", two) == 1
        assert store.code_path(CODE).read_bytes() == CONTENT
        await store.add(replace(SPECIFICATION, version=4), "")
        assert [found.version for found in await store.deployments()] == [3, 4, 1]
        await store.close()


async def test_versions_and_pointers_are_there_when_opened_again(tmp_path: Path) -> None:
    pointer = Pointer("one", "prod", 3, locked=True, created_at=1.5, updated_at=2.5)
    other = replace(pointer, tag="dev", locked=False)
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        for version in (3, 4, 5):
            await store.add(replace(SPECIFICATION, version=version), f"key-{version}")
        await store.remember("late", replace(SPECIFICATION, version=5))
        await store.set_pointer(replace(pointer, version=4))
        await store.set_pointer(pointer)
        await store.set_pointer(other)
        await store.remove_pointer(other)
        await store.remove_version("one", 5)
        await store.close()
        store = await SqliteDeploymentStore.open(directory)
        assert [found.version for found in await store.deployments()] == [3, 4]
        # A number is not given again, although its version is gone; its keys are known.
        assert await store.last_versions() == {"one": 5}
        assert await store.deployed("key-4", SPECIFICATION) == 4
        assert await store.deployed("key-5", SPECIFICATION) == 5
        assert await store.deployed("late", SPECIFICATION) == 5
        assert await store.pointers() == [pointer]
        # Core does not ask for this; a pointer to nothing is refused all the same.
        with pytest.raises(StorageFailed):
            await store.remove_version("one", 3)
        await store.remove("one")
        assert await store.deployments() == []
        assert await store.last_versions() == {}
        assert await store.pointers() == []
        assert await store.deployed("key-4", SPECIFICATION) is None
        await store.close()


async def test_code_that_versions_share_goes_with_the_last(store: SqliteDeploymentStore) -> None:
    for version in (1, 2):
        await store.store_code(chunks(CONTENT), CODE)
        await store.add(replace(SPECIFICATION, version=version), "")
    await store.remove_version("one", 1)
    await store.release_code(CODE)
    assert store.code_path(CODE).exists()
    await store.remove("one")
    await store.release_code(CODE)
    assert not store.code_path(CODE).exists()


def mode_of(path: str) -> int:
    return Path(path).stat().st_mode


async def test_older_database_is_brought_forward_after_a_copy(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        with closing(sqlite3.connect(directory.database)) as connection:
            connection.execute("CREATE TABLE before_the_first_version (a)")
            connection.commit()
        store = await SqliteDeploymentStore.open(directory)
        await store.add(SPECIFICATION, "")
        assert await store.deployments() == [SPECIFICATION]
        await store.close()
        with closing(sqlite3.connect(directory.database)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        copy = f"{directory.database}.v0"
        # It has what the database has, the environments of deployments, too.
        assert mode_of(copy) & 0o077 == 0
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [
                ("before_the_first_version",)
            ]


async def test_secrets_and_options_are_kept_and_leave_with_their_version(tmp_path: Path) -> None:
    options = Options(1, 4, 2, ("0", "GPU-1"), 2**30, 1.5, 100, 0, 3)
    secret = replace(SPECIFICATION, options=options, secrets={"TOKEN": "pssst-4711"})
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        await store.add(secret, "")
        await store.add(replace(secret, version=4, options=Options(gpus=0)), "")
        await store.close()
        store = await SqliteDeploymentStore.open(directory)
        first, second = await store.deployments()
        assert (first, second.options) == (secret, Options(gpus=0))
        assert "pssst" not in repr(first)
        await store.remove_version("one", 4)
        await store.remove("one")
        await store.close()
        with closing(sqlite3.connect(directory.database)) as connection:
            # What the log of the database still had of it.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"pssst" not in directory.database.read_bytes()


async def test_the_copy_before_a_migration_has_no_secrets(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        await store.add(replace(SPECIFICATION, secrets={"TOKEN": "pssst-4711"}), "")
        await store.close()
        copy = tmp_path / "copy"
        _copy(directory.database, copy)
        assert b"pssst" not in copy.read_bytes()
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT name, version FROM versions").fetchall() == [
                ("one", 3)
            ]
