"""What the store keeps of bundles, and of what was stored before there were any."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pipelined.store.database import MIGRATIONS
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory
from tests.store.old_databases import CODE
from tests.store.old_databases import ONE as SPECIFICATION

BUNDLE = replace(
    SPECIFICATION,
    name="bundle",
    code=replace(
        CODE, format="CODE_FORMAT_BUNDLE", target="app:graph", topology=("node 0: ü", "output 0")
    ),
)


async def test_a_bundle_is_kept_beside_what_an_older_daemon_had(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as directory:
        with closing(sqlite3.connect(directory.database)) as connection:
            connection.executescript(MIGRATIONS[0])
            connection.execute(
                "INSERT INTO deployments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    SPECIFICATION.name,
                    SPECIFICATION.version,
                    SPECIFICATION.digest,
                    SPECIFICATION.schema,
                    CODE.format,
                    CODE.size,
                    CODE.sha256,
                    '{"A": "ü", "B": ""}',
                    SPECIFICATION.options.max_instances,
                    SPECIFICATION.created_at,
                ),
            )
            connection.execute("PRAGMA user_version = 1")
            connection.commit()
        store = await SqliteDeploymentStore.open(directory)
        await store.add(BUNDLE, "")
        await store.close()
        store = await SqliteDeploymentStore.open(directory)
        assert await store.deployments() == [BUNDLE, SPECIFICATION]
        await store.close()
