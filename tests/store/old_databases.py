"""State directories as daemons of every version of the database have left them, with data."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipelined.core.environments import Environment
from pipelined.core.references import Pointer
from pipelined.core.specification import Code, Specification
from pipelined.store.database import MIGRATIONS
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory

CONTENT = b"some code"
CODE = Code("CODE_FORMAT_CLOUDPICKLE", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
ONE = Specification("one", 3, "ab" * 32, b"\x00\xff", CODE, {"A": "ü", "B": ""}, 2, 1234.5)
TWO = Specification("two", 1, "cd" * 32, b"", CODE, {}, 1, 1234.5)
PROD = Pointer("one", "prod", 3, locked=True, created_at=1.5, updated_at=2.5)
TOOLS = Environment("tools", ("torch>=2",), 1.5, 2.5)

_DEPLOYMENT = (
    "name, version, digest, schema, code_format, code_size, code_sha256, environment, instances, "
    "created_at"
)
_ROWS = f"""
    ('one', 3, '{ONE.digest}', x'00ff', '{CODE.format}', {CODE.size}, '{CODE.sha256}',
        '{{"A": "ü", "B": ""}}', 2, 1234.5),
    ('two', 1, '{TWO.digest}', x'', '{CODE.format}', {CODE.size}, '{CODE.sha256}',
        '{{}}', 1, 1234.5)
"""
# What was first written by version n, as it wrote it, for n and all later ones.
_FIRST = f"""
    INSERT INTO deployments ({_DEPLOYMENT}) VALUES {_ROWS};
    INSERT INTO idempotency_keys (key, name, digest, created_at) VALUES
        ('key', 'one', '{ONE.digest}', 1234.5), ('other', 'two', '{TWO.digest}', 1234.5);
"""
_SECOND = f"""
    INSERT INTO names VALUES ('one', 4), ('two', 1);
    INSERT INTO versions ({_DEPLOYMENT}) VALUES {_ROWS};
    INSERT INTO idempotency_keys (key, name, digest, created_at, version) VALUES
        ('key', 'one', '{ONE.digest}', 1234.5, 3), ('other', 'two', '{TWO.digest}', 1234.5, 1);
    INSERT INTO pointers VALUES ('one', 'prod', 3, 1, 1.5, 2.5);
"""
_FOURTH = "INSERT INTO environments VALUES ('tools', '[\"torch>=2\"]', 1.5, 2.5);"


def write_state(folder: Path, version: int) -> None:
    """Make a state directory that a daemon of this version of the database has left."""
    (folder / "code").mkdir(parents=True)
    if version:
        (folder / "code" / CODE.sha256).write_bytes(CONTENT)
        with closing(sqlite3.connect(folder / "pipelined.db")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for script in (*MIGRATIONS[:version], *_written_by(version)):
                connection.executescript(script)
            connection.execute(f"PRAGMA user_version = {version}")


def _written_by(version: int) -> Sequence[str]:
    if version == 1:
        return [_FIRST]
    return [_SECOND, _FOURTH] if version >= 4 else [_SECOND]


@dataclass(frozen=True)
class Kept:
    """What a store has."""

    deployments: Sequence[Specification]
    last_versions: Sequence[tuple[str, int]]
    pointers: Sequence[Pointer]
    environments: Sequence[Environment]
    keys: Sequence[int | None]


def expected(version: int) -> Kept:
    """What this daemon has to find in such a directory."""
    if version == 0:
        return Kept([], [], [], [], [None, None])
    return Kept(
        [ONE, TWO],
        # The first one did not remember the numbers of what was deleted.
        [("one", 3 if version == 1 else 4), ("two", 1)],
        [PROD] if version >= 2 else [],
        [TOOLS] if version >= 4 else [],
        [3, 1],
    )


async def open_state(folder: Path) -> Kept:
    """Open it as a daemon does, and read everything; raises what the daemon would."""
    with StateDirectory(folder) as directory:
        store = await SqliteDeploymentStore.open(directory)
        try:
            deployments = await store.deployments()
            for each in deployments:
                assert store.code_path(each.code).read_bytes() == CONTENT
            return Kept(
                deployments,
                sorted((await store.last_versions()).items()),
                await store.pointers(),
                await store.environments().environments(),
                [await store.deployed("key", ONE), await store.deployed("other", TWO)],
            )
        finally:
            await store.close()
