"""What the system and the database say, as errors of the domain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pipelined.core.errors import StorageFailed


@contextmanager
def storage(operation: str) -> Iterator[None]:
    """Turn what goes wrong inside into a StorageFailed without paths."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(operation, error.strerror or type(error).__name__) from error
    except (sqlite3.Error, UnicodeError) as error:
        raise StorageFailed(operation, str(error)) from error


@contextmanager
def decoding(operation: str) -> Iterator[None]:
    """Turn what the content of a row makes impossible into a StorageFailed."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise StorageFailed(operation, "the database is damaged: a row makes no sense") from error
