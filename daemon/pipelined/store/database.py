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
    # Whose uploaded files, and those that runs gave back, are.
    """
    CREATE TABLE file_owners (
        sha256 TEXT NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (sha256, owner)
    ) STRICT, WITHOUT ROWID;
    """,
    # When each version was used last, for warming it again after a restart.
    """
    CREATE TABLE last_uses (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        used_at REAL NOT NULL,
        PRIMARY KEY (name, version),
        FOREIGN KEY (name, version) REFERENCES versions (name, version) ON DELETE CASCADE
    ) STRICT;
    """,
    # Submitted runs: what they were asked to do until they end, and what they gave back after that.
    # States and deliveries are the numbers of the wire; the files a JSON list of digests.
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        deployment TEXT NOT NULL,
        version INTEGER NOT NULL,
        state INTEGER NOT NULL,
        delivery INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        key TEXT NOT NULL,
        digest TEXT NOT NULL,
        timeout REAL,
        files TEXT NOT NULL,
        request_bytes INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        execution_seconds REAL NOT NULL DEFAULT 0,
        status BLOB NOT NULL DEFAULT x'',
        response_bytes INTEGER
    ) STRICT;
    CREATE TABLE run_requests (
        id TEXT PRIMARY KEY,
        request BLOB NOT NULL
    ) STRICT;
    CREATE TABLE run_responses (
        id TEXT PRIMARY KEY,
        response BLOB NOT NULL
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
            # Rather refused now than with the first change.
            await connection.execute("BEGIN IMMEDIATE")
            await connection.rollback()
        except BaseException:
            # Its thread would keep the process alive.
            await connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise StateDirectoryError(f"database {str(path)!r} cannot be used: {error}") from error
    except OSError as error:
        raise StateDirectoryError(
            f"database {str(path)!r} cannot be used: {error.strerror}"
        ) from error
    except (sqlite3.DatabaseError, UnicodeError) as error:
        # What SQLite says may quote what it found, which need not be text.
        raise StateCorrupt(
            f"database {str(path)!r} is damaged ({error}); it was left as it is. Move it away, "
            "with the folder code beside it, to start with nothing"
        ) from error
    return connection


def is_there(path: Path) -> bool:
    """Whether there is a database already.

    A first start that was cut off may have left an empty file, but no write-ahead log.
    """
    return _has_content(path) or _has_content(_log_of(path))


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _prepare(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise StateDirectoryError(f"database {str(path)!r} cannot be used: it is not a file")
    if is_there(path):
        if not _has_content(path):
            # SQLite would take it for a new one, and remove the log.
            raise sqlite3.DatabaseError("it is empty, but its write-ahead log is not")
        # Looked at read-only first: a database that is refused must not change, not even its mode.
        # Without a log no files are made beside it either; nobody else has it open.
        mode = "mode=ro" if _has_content(_log_of(path)) else "mode=ro&immutable=1"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as reader:
            version = _version(reader)
            if version > VERSION:
                raise StateTooNew(
                    f"database {str(path)!r} has version {version}, but this daemon knows versions "
                    f"up to {VERSION}; it was left as it is. Use the newer pipelined that wrote it"
                )
            _check(reader, version)
        if version == VERSION:
            return
        _copy(path, path.with_name(f"{path.name}.v{version}"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        _migrate(connection, _version(connection), VERSION)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, version: int) -> None:
    """Raise a DatabaseError if this is damaged, or is no database of ours."""
    result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if result != "ok":
        raise sqlite3.DatabaseError(" ".join(result.split()))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        _migrate(model, 0, version)
        missing = _tables(model) - _tables(connection)
    if missing:
        raise sqlite3.DatabaseError(f"it lacks the table {min(missing)!r}")
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise sqlite3.DatabaseError("a row refers to one that is missing")


def _migrate(connection: sqlite3.Connection, before: int, after: int) -> None:
    for number in range(before, after):
        for statement in MIGRATIONS[number].split(";"):
            connection.execute(statement)


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in rows}


def _version(connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version < 0:
        raise sqlite3.DatabaseError(f"version {version} is none")
    return version


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
