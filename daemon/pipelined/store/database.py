"""Opening the database, and bringing an older one forward."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import aiosqlite

from pipelined.store.directory import StateDirectoryError

# MIGRATIONS[n] brings a database of version n to version n + 1. Never change one that was released.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE deployments (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        digest TEXT NOT NULL,
        schema BLOB NOT NULL,
        code_format TEXT NOT NULL,
        code_size INTEGER NOT NULL,
        code_sha256 TEXT NOT NULL,
        environment TEXT NOT NULL,
        instances INTEGER NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE idempotency_keys (
        key TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    """,
    # Versions are kept, and have pointers. A name remembers its highest version, deleted or not.
    """
    CREATE TABLE names (
        name TEXT PRIMARY KEY,
        last_version INTEGER NOT NULL
    ) STRICT;
    INSERT INTO names SELECT name, version FROM deployments;
    CREATE TABLE versions (
        name TEXT NOT NULL REFERENCES names (name),
        version INTEGER NOT NULL,
        digest TEXT NOT NULL,
        schema BLOB NOT NULL,
        code_format TEXT NOT NULL,
        code_size INTEGER NOT NULL,
        code_sha256 TEXT NOT NULL,
        environment TEXT NOT NULL,
        instances INTEGER NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT;
    INSERT INTO versions SELECT name, version, digest, schema, code_format, code_size, code_sha256,
        environment, instances, created_at FROM deployments;
    CREATE TABLE pointers (
        name TEXT NOT NULL,
        tag TEXT NOT NULL,
        version INTEGER NOT NULL,
        locked INTEGER NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (name, tag),
        FOREIGN KEY (name, version) REFERENCES versions (name, version)
    ) STRICT;
    ALTER TABLE idempotency_keys ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
    UPDATE idempotency_keys SET version =
        (SELECT version FROM deployments WHERE deployments.name = idempotency_keys.name);
    DROP TABLE deployments;
    """,
    # Of bundles: the variable with the graph, and what was announced of it, a JSON list of lines.
    """
    ALTER TABLE versions ADD COLUMN code_target TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN code_topology TEXT NOT NULL DEFAULT '[]';
    """,
    # Requirements that were recorded under a name, a JSON list.
    """
    CREATE TABLE environments (
        name TEXT PRIMARY KEY,
        requirements TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT;
    """,
    # Options, a JSON object of what is no default; and secrets, which leave with their version.
    """
    ALTER TABLE versions ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
    UPDATE versions SET options =
        json_object('min_instances', instances, 'max_instances', instances) WHERE instances > 1;
    ALTER TABLE versions DROP COLUMN instances;
    CREATE TABLE secrets (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        variable TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (name, version, variable),
        FOREIGN KEY (name, version) REFERENCES versions (name, version)
    ) STRICT;
    """,
)
VERSION = len(MIGRATIONS)


class StateTooNew(StateDirectoryError):
    """The database was written by a later version of the daemon."""


class StateCorrupt(StateDirectoryError):
    """The database is damaged, or is no database of ours."""


async def open_database(path: Path) -> aiosqlite.Connection:
    """Open the database, making or migrating it if need be.

    A database that is refused is left as it was.

    Raises:
        StateTooNew: Its version is above VERSION.
        StateCorrupt: It is damaged.
        StateDirectoryError: It cannot be opened or written.
    """
    try:
        await asyncio.to_thread(_prepare, path)
        connection = await aiosqlite.connect(path)
        try:
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.execute("PRAGMA busy_timeout = 5000")
            await connection.execute("PRAGMA foreign_keys = ON")
            # What is deleted is overwritten: there are secrets in it.
            await connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            # Its thread would keep the process alive.
            await connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise StateDirectoryError(f"database {str(path)!r} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StateCorrupt(
            f"database {str(path)!r} is damaged ({error}); it was left as it is. Move it away to "
            "start with an empty one"
        ) from error
    return connection


def _prepare(path: Path) -> None:
    existed = path.exists() and path.stat().st_size > 0
    if existed:
        # Looked at read-only first: a database that is refused must not change, not even its mode.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            version = _version(reader)
            if version > VERSION:
                raise StateTooNew(
                    f"database {str(path)!r} has version {version}, but this daemon knows versions "
                    f"up to {VERSION}; it was left as it is. Use the newer pipelined that wrote it"
                )
            result = reader.execute("PRAGMA quick_check(1)").fetchone()[0]
            if result != "ok":
                raise sqlite3.DatabaseError(result)
        if version == VERSION:
            return
        _copy(path, path.with_name(f"{path.name}.v{version}"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for number in range(_version(connection), VERSION):
            for statement in MIGRATIONS[number].split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _copy(source: Path, target: Path) -> None:
    """Keep the database as it was before a migration."""
    # Nobody else may read it: it has the environments of deployments, too.
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
        before.backup(after)
        # Secrets go with their deployment, and nobody would think of the copy.
        if after.execute("SELECT 1 FROM sqlite_master WHERE name = 'secrets'").fetchone():
            after.execute("PRAGMA secure_delete = ON")
            after.execute("DELETE FROM secrets")
            after.commit()
