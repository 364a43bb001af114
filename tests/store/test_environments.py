"""Environments in the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipelined.core.environments import Environment
from pipelined.core.errors import StorageFailed
from pipelined.store.database import MIGRATIONS
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory

ONE = Environment("one", ("torch>=2", 'numpy; python_version > "3"'), 1.5, 2.5)
NONE_REQUIRED = Environment("none", (), 3.5, 3.5)


async def test_they_are_there_when_opened_again(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        environments = store.environments()
        for each in (Environment("one", ("torch",), 1.5, 1.5), NONE_REQUIRED, ONE):
            await environments.set(each)
        await store.close()
        store = await SqliteDeploymentStore.open(directory)
        environments = store.environments()
        assert await environments.environments() == [NONE_REQUIRED, ONE]
        await environments.remove("none")
        assert await environments.environments() == [ONE]
        await store.close()


async def test_a_database_without_them_is_brought_forward(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        before = next(n for n, each in enumerate(MIGRATIONS) if "TABLE environments" in each)
        with closing(sqlite3.connect(directory.database)) as connection:
            for migration in MIGRATIONS[:before]:
                connection.executescript(migration)
            connection.execute(f"PRAGMA user_version = {before}")
        store = await SqliteDeploymentStore.open(directory)
        assert await store.environments().environments() == []
        await store.environments().set(ONE)
        assert await store.environments().environments() == [ONE]
        await store.close()


async def test_what_cannot_be_stored_is_told(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        store = await SqliteDeploymentStore.open(directory)
        with closing(sqlite3.connect(directory.database)) as connection:
            connection.execute("DROP TABLE environments")
            connection.commit()
        with pytest.raises(StorageFailed, match="store the environment"):
            await store.environments().set(ONE)
        await store.close()
