"""The file of tokens: read by the daemon, written by ``pipelined token``.

A JSON object ``{"version": 1, "tokens": [{"id", "role", "sha256", "created", "expires", "revoked",
"note"}]}``; times are RFC 3339 in UTC, or null. It is replaced as a whole, so that a reader sees
one state or the next, and whoever writes holds the lock of ``NAME.lock`` beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import structlog

from pipelined.core.access import InvalidRole, parse_role
from pipelined.core.tokens import InvalidToken, Token, Tokens
from pipelined.store.directory import StateDirectoryError

NAME = "tokens"
VERSION = 1
MODE = 0o600
MAX_BYTES = 16 << 20
# What tells one state of the file from another: time, number and size of its inode.
Stamp = tuple[int, int, int]
log = structlog.get_logger()


class TokenFileError(StateDirectoryError):
    """The file of tokens cannot be used; the text names it and says why."""


class TokenFile:
    """One file of tokens.

    Args:
        path: Where it is. It need not be there: no token is valid then.
        private: Whether it is refused where others than its owner can read it. Not for systemd's
            credentials, whose folder nobody else can enter.
    """

    def __init__(self, path: Path, *, private: bool = True) -> None:
        self.path = path
        self._private = private

    def stamp(self) -> Stamp | None:
        """What changes when the file does; None if it is not there."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def read(self) -> Tokens:
        """Return what is in it.

        Raises:
            TokenFileError: It cannot be read, others can read it, or it is no file of tokens.
        """
        try:
            # Not waiting for who may write into what is no file.
            with open(self.path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise TokenFileError(f"the file of tokens {str(self.path)!r} is no file")
                if self._private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    mode = stat.S_IMODE(status.st_mode)
                    raise TokenFileError(
                        f"the file of tokens {str(self.path)!r} has mode {mode:04o}: others than "
                        f"its owner can use it; `chmod 600` it"
                    )
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Tokens()
        except OSError as error:
            raise TokenFileError(
                f"the file of tokens {str(self.path)!r} cannot be read: {error.strerror}"
            ) from None
        try:
            if len(content) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            return Tokens(_parsed(content))
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            # Neither a JSON error nor a key has anything of the secrets, which are not in the file.
            raise TokenFileError(
                f"the file of tokens {str(self.path)!r} is damaged: {error}"
            ) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        except OSError as error:
            raise TokenFileError(
                f"the file of tokens {str(self.path)!r} cannot be written: {error.strerror}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def change(self, change: Callable[[list[Token]], list[Token]]) -> None:
        """Replace the tokens by others, with no other change in between, durably.

        Raises:
            TokenFileError: The file cannot be read or written. It is as it was then.
        """
        with self._locked():
            records = change(self.read().records())
            content = json.dumps(
                {"version": VERSION, "tokens": [_object(record) for record in records]}, indent=1
            )
            try:
                self._replace(content.encode() + b"\n")
            except OSError as error:
                raise TokenFileError(
                    f"the file of tokens {str(self.path)!r} cannot be written: {error.strerror}"
                ) from None

    def _replace(self, content: bytes) -> None:
        # mkstemp's files are for their owner alone.
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                # The daemon may have another user than root, who has made a token for it.
                if self.path.exists():
                    status = self.path.stat()
                    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(file.fileno(), status.st_uid, status.st_gid)
                elif (folder := self.path.parent.stat()).st_uid != os.geteuid():
                    os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        folder_descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder_descriptor)
        finally:
            os.close(folder_descriptor)


class WatchedTokens:
    """The tokens of a file, as they are now. Belongs to one event loop.

    Args:
        file: Read at once.
        on_change: Gets the tokens before and after each change.

    Raises:
        TokenFileError: It cannot be read.
    """

    def __init__(self, file: TokenFile, on_change: Callable[[Tokens, Tokens], None]) -> None:
        self._file = file
        self._on_change = on_change
        self._stamp = file.stamp()
        self.current = file.read()

    def reload(self) -> None:
        """Read the file again.

        Raises:
            TokenFileError: It cannot be read; the tokens that were read before stay valid.
        """
        # Asked before the file is read: what comes in between is noticed the next time.
        self._stamp = self._file.stamp()
        before, self.current = self.current, self._file.read()
        if before.records() != self.current.records():
            self._on_change(before, self.current)

    async def keep_fresh(self, interval_seconds: float = 1.0) -> None:
        """Read the file again whenever it has changed, until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            if await asyncio.to_thread(self._file.stamp) != self._stamp:
                try:
                    self.reload()
                except TokenFileError as error:
                    log.error("the tokens are those from before", reason=str(error))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _parsed(content: bytes) -> list[Token]:
    document = json.loads(content)
    if document["version"] != VERSION:
        raise ValueError(f"it has version {document['version']!r}, and not {VERSION}")
    try:
        return [
            Token(
                id=str(entry["id"]),
                role=parse_role(entry["role"]),
                sha256=str(entry["sha256"]),
                created=_seconds(entry["created"]) or 0.0,
                expires=_seconds(entry["expires"]),
                revoked=_seconds(entry["revoked"]),
                note=str(entry["note"]),
            )
            for entry in document["tokens"]
        ]
    except (InvalidRole, InvalidToken) as error:
        raise ValueError(str(error)) from None
    except KeyError as error:
        raise ValueError(f"an entry has no {error}") from None


def _object(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "role": token.role.label,
        "sha256": token.sha256,
        "created": _time(token.created),
        "expires": _time(token.expires),
        "revoked": _time(token.revoked),
        "note": token.note,
    }


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
