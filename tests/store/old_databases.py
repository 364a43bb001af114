"""State directories as daemons of every version of the database have left them, with data."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pipelined.core.environments import Environment
from pipelined.core.options import Options
from pipelined.core.ports import StoredRun
from pipelined.core.references import Pointer
from pipelined.core.specification import Code, Specification
from pipelined.store.database import MIGRATIONS
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory
from pipelined.store.runs import SqliteRunStore

CONTENT = b"some code"
CODE = Code("CODE_FORMAT_CLOUDPICKLE", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
ONE = Specification(
    name="one",
    version=3,
    digest="ab" * 32,
    schema=b"\x00\xff",
    code=CODE,
    environment={"A": "ü", "B": ""},
    options=Options(2, 2),
    created_at=1234.5,
)
TWO = replace(ONE, name="two", version=1, digest="cd" * 32, schema=b"", environment={})
TWO = replace(TWO, options=Options())
PROD = Pointer("one", "prod", 3, locked=True, created_at=1.5, updated_at=2.5)
QUEUED = StoredRun("r1", "one", 3, 1, 5.0, files=[], request_bytes=7)
TOOLS = Environment("tools", ("torch>=2",), 1.5, 2.5)

_COLUMNS = "name, version, digest, schema, code_format, code_size, code_sha256, environment"
_ONE = (
    f"'one', 3, '{ONE.digest}', x'00ff', '{CODE.format}', {CODE.size}, '{CODE.sha256}', "
    """'{"A": "ü", "B": ""}'"""
)
_TWO = f"'two', 1, '{TWO.digest}', x'', '{CODE.format}', {CODE.size}, '{CODE.sha256}', '{{}}'"
_KEYS = "INSERT INTO idempotency_keys (key, name, digest, created_at"
# What is in a database of version n, in the words of that version, unless a later one has others.
_WRITTEN: tuple[tuple[int, str, str], ...] = (
    (
        1,
        "deployments",
        f"""INSERT INTO deployments ({_COLUMNS}, instances, created_at)
            VALUES ({_ONE}, 2, 1234.5), ({_TWO}, 1, 1234.5)""",
    ),
    (
        1,
        "keys",
        f"""{_KEYS}) VALUES
            ('key', 'one', '{ONE.digest}', 1234.5), ('other', 'two', '{TWO.digest}', 1234.5)""",
    ),
    (2, "names", "INSERT INTO names VALUES ('one', 4), ('two', 1)"),
    (
        2,
        "deployments",
        f"""INSERT INTO versions ({_COLUMNS}, instances, created_at)
            VALUES ({_ONE}, 2, 1234.5), ({_TWO}, 1, 1234.5)""",
    ),
    (
        2,
        "keys",
        f"""{_KEYS}, version) VALUES
            ('key', 'one', '{ONE.digest}', 1234.5, 3), ('other', 'two', '{TWO.digest}', 1234.5, 1)
        """,
    ),
    (2, "pointers", "INSERT INTO pointers VALUES ('one', 'prod', 3, 1, 1.5, 2.5)"),
    (4, "environments", "INSERT INTO environments VALUES ('tools', '[\"torch>=2\"]', 1.5, 2.5)"),
    (
        5,
        "deployments",
        f"""INSERT INTO versions ({_COLUMNS}, options, created_at) VALUES
            ({_ONE}, '{{"min_instances": 2, "max_instances": 2}}', 1234.5),
            ({_TWO}, '{{}}', 1234.5)""",
    ),
    (5, "secrets", "INSERT INTO secrets VALUES ('one', 3, 'TOKEN', 'pssst')"),
    (6, "owners", f"INSERT INTO file_owners VALUES ('{CODE.sha256}', 'somebody')"),
    (7, "uses", "INSERT INTO last_uses VALUES ('one', 3, 99.5)"),
    (
        8,
        "runs",
        """INSERT INTO runs (id, owner, deployment, version, state, delivery, priority, key, digest,
            files, request_bytes, created_at)
            VALUES ('r1', '', 'one', 3, 1, 1, 0, '', '', '[]', 7, 5)""",
    ),
    (8, "requests", "INSERT INTO run_requests VALUES ('r1', x'01020304050607')"),
)


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


def _written_by(version: int) -> Collection[str]:
    """In the order of their first versions: rows come after those that they refer to."""
    found = {what: statement for since, what, statement in _WRITTEN if since <= version}
    # Versions belong to names.
    return sorted(found.values(), key=lambda statement: "INTO names" not in statement)


@dataclass(frozen=True)
class Kept:
    """What a store has."""

    deployments: Sequence[Specification]
    last_versions: Sequence[tuple[str, int]]
    pointers: Sequence[Pointer]
    environments: Sequence[Environment]
    keys: Sequence[int | None]
    owners: Sequence[tuple[str, str]]
    uses: Mapping[tuple[str, int], float]
    runs: Sequence[StoredRun]


def expected(version: int) -> Kept:
    """What this daemon has to find in such a directory."""
    if version == 0:
        return Kept([], [], [], [], [None, None], [], {}, [])
    secrets = {"TOKEN": "pssst"} if version >= 5 else {}
    return Kept(
        [replace(ONE, secrets=secrets), TWO],
        # The first one did not remember the numbers of what was deleted.
        [("one", 3 if version == 1 else 4), ("two", 1)],
        [PROD] if version >= 2 else [],
        [TOOLS] if version >= 4 else [],
        [3, 1],
        [(CODE.sha256, "somebody")] if version >= 6 else [],
        {("one", 3): 99.5} if version >= 7 else {},
        [QUEUED] if version >= 8 else [],
    )


async def open_state(folder: Path) -> Kept:
    """Open it as a daemon does, and read everything; raises what the daemon would."""
    with StateDirectory(folder) as directory:
        store = await SqliteDeploymentStore.open(directory)
        runs = None
        try:
            runs = SqliteRunStore(directory.database)
            deployments = await store.deployments()
            for each in deployments:
                assert store.code_path(each.code).read_bytes() == CONTENT
            return Kept(
                deployments,
                sorted((await store.last_versions()).items()),
                await store.pointers(),
                await store.environments().environments(),
                [await store.deployed("key", ONE), await store.deployed("other", TWO)],
                await store.file_owners().owners(),
                await store.last_uses(),
                await runs.runs(),
            )
        finally:
            if runs is not None:
                await runs.close()
            await store.close()
