"""Contents of files, each in a file named for its SHA-256; see core's FileStore.

Layout of the folder: ``AB/ABCD…`` (a whole content, read-only; AB are the first digits of its
digest) and ``incoming/ABCD…`` (what has been received of one). A file's modification time is that
of its last use. There is no other record: what a crash leaves is what there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from pipelined.core.clock import steady_clock
from pipelined.core.errors import (
    FileDigestMismatch,
    FileInUse,
    FileMissing,
    FilesFull,
    FileTooLarge,
    InvalidRequest,
    StorageFailed,
)
from pipelined.core.files import FileLimits, FileStatus, Received, StoredFile
from pipelined.store.code import in_thread, to_end
from pipelined.store.directory import StateDirectoryError
from pipelined.store.failures import storage
from pipelined.store.partial_file import CHUNK_BYTES, PartialFile

INCOMING = "incoming"
_SHA256 = re.compile("[0-9a-f]{64}")
# What is not used any more goes at the latest so long after its time, in seconds.
_SWEEP_SECONDS = 60.0


@dataclass(slots=True)
class _Entry:
    size: int
    used: float


class Files:
    """Implements core's FileStore. Belongs to one event loop; no file is ever in memory.

    Args:
        folder: Where the files are; made if it is not there.
        limits: What may be kept.
        clock: Seconds since the epoch; does not go back. None for one of its own.

    Raises:
        StateDirectoryError: The folder cannot be used.
    """

    def __init__(
        self, folder: Path, limits: FileLimits, clock: Callable[[], float] | None = None
    ) -> None:
        self._folder = folder
        self._limits = limits
        # The time of day may be set back, and what is newest must not be taken for the oldest then.
        self._clock = steady_clock() if clock is None else clock
        self._held: Counter[str] = Counter()
        # Bytes that contents which are being received will have.
        self._reserved: dict[str, int] = {}
        # Of those, what has arrived.
        self._active: dict[str, PartialFile] = {}
        # Whoever receives a content holds the lock of its digest.
        self._receiving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # What is being removed: it may come back, but not before it is gone.
        self._going: dict[str, asyncio.Task[None]] = {}
        try:
            (folder / INCOMING).mkdir(mode=0o700, parents=True, exist_ok=True)
            now = self._clock()
            self._whole = dict(_found((path for path in folder.glob("??/*")), now))
            self._partial = dict(_found((folder / INCOMING).iterdir(), now))
        except OSError as error:
            raise StateDirectoryError(
                f"the folder {str(folder)!r} for files cannot be used: {error.strerror}"
            ) from error

    @property
    def stored_bytes(self) -> int:
        """What is here, with what has arrived of contents that are being received."""
        kept = sum(e.size for entries in (self._whole, self._partial) for e in entries.values())
        return kept + sum(partial.size for partial in self._active.values())

    def limit(self, limits: FileLimits) -> None:
        """Keep what these allow from now on; what is there goes with the next sweep or upload."""
        self._limits = limits

    async def receive(
        self, chunks: AsyncIterator[bytes], sha256: str, size: int, offset: int = 0
    ) -> Received:
        """See FileStore."""
        if size > self._limits.file_bytes:
            raise FileTooLarge(size, self._limits.file_bytes)
        lock = self._receiving.setdefault(sha256, asyncio.Lock())
        async with lock:
            if (entry := self._find(sha256)) is not None:
                if entry.size != size:
                    raise InvalidRequest(
                        "size", f"{size} is not that of the content of this sha256"
                    )
                self._use(self._path(sha256), entry)
                return Received(existed=True, written=0)
            with storage("store the file"):
                return await self._receive(chunks, sha256, size, offset)

    async def _receive(
        self, chunks: AsyncIterator[bytes], sha256: str, size: int, offset: int
    ) -> Received:
        if (going := self._going.get(sha256)) is not None:
            await asyncio.wait({going})
        await self._reserve(sha256, size)
        partial = self._active[sha256] = PartialFile(self._incoming(sha256))
        try:
            await in_thread(partial.open)
            before = partial.size
            if offset > before:
                raise InvalidRequest(
                    "offset", f"{offset} is after the {before} bytes that are here"
                )
            await _write(partial, chunks, sha256, size, offset)
            if partial.hexdigest() != sha256:
                raise FileDigestMismatch(sha256, "it has another SHA-256")
            await self._publish(partial, sha256)
            return Received(existed=False, written=size - before)
        except (OSError, FileDigestMismatch):
            # No space, or no use: it would only take the place of others.
            with contextlib.suppress(OSError):
                await in_thread(partial.discard)
            partial.size = 0
            raise
        finally:
            partial.close()
            del self._reserved[sha256], self._active[sha256]
            if sha256 not in self._whole:
                if partial.size:
                    self._partial[sha256] = _Entry(partial.size, self._clock())
                else:
                    with contextlib.suppress(OSError):
                        partial.discard()

    async def _publish(self, partial: PartialFile, sha256: str) -> None:
        path = self._path(sha256)
        try:
            await in_thread(partial.publish, path)
        finally:
            # Also if the caller left meanwhile.
            if path.exists():
                self._whole[sha256] = entry = _Entry(partial.size, 0.0)
                self._use(path, entry)

    async def keep(self, descriptor: int, sha256: str, size: int, run_id: str = "") -> None:
        """See OutputKeeper."""
        with storage("read an output"):
            status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise FileDigestMismatch(sha256, "it has changed since it was given back")
        try:
            await self.receive(_chunks(descriptor, 0), sha256, size)
        except InvalidRequest as error:
            raise FileDigestMismatch(sha256, error.description) from None

    def status(self, sha256: str) -> FileStatus:
        """See FileStore."""
        if (entry := self._find(sha256)) is not None:
            self._use(self._path(sha256), entry)
            return FileStatus(present=True, size=entry.size, received=entry.size)
        partial = self._partial.get(sha256)
        if partial is not None:
            self._use(self._incoming(sha256), partial)
        arrived = partial or self._active.get(sha256)
        if arrived is not None:
            return FileStatus(present=False, size=0, received=arrived.size)
        return FileStatus(present=False, size=0, received=0)

    @contextlib.contextmanager
    def hold(
        self, sha256: str, name: str = "", *, expired_too: bool = False
    ) -> Iterator[StoredFile]:
        """See FileStore."""
        entry = self._whole.get(sha256) if expired_too else self._find(sha256)
        if entry is None:
            raise FileMissing(sha256, name)
        self._held[sha256] += 1
        self._use(self._path(sha256), entry)
        try:
            yield StoredFile(sha256, self._path(sha256), entry.size)
        finally:
            self._use(self._path(sha256), entry)
            self._held[sha256] -= 1
            if not self._held[sha256]:
                del self._held[sha256]

    async def read(self, sha256: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """See FileStore."""
        with self.hold(sha256) as stored, storage("read the file"):
            if offset > stored.size:
                raise InvalidRequest("offset", f"{offset} is after the end, {stored.size}")
            descriptor = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                async for chunk in _chunks(descriptor, offset):
                    yield chunk
            finally:
                os.close(descriptor)

    async def delete(self, sha256: str) -> None:
        """See FileStore."""
        lock = self._receiving.get(sha256)
        if self._held[sha256] or (lock is not None and lock.locked()):
            raise FileInUse(sha256)
        if self._find(sha256) is None and sha256 not in self._partial:
            raise FileMissing(sha256)
        await self._remove([sha256])

    async def sweep(self) -> None:
        """Remove what nothing has used for longer than it is kept.

        Raises:
            StorageFailed: Something cannot be removed.
        """
        oldest = self._clock() - self._limits.ttl_seconds
        await self._remove([name for name, used, _ in self._unused() if used < oldest])

    def is_here(self, sha256: str) -> bool:
        """Whether anything of a content is here; no use of it."""
        return any(sha256 in known for known in (self._whole, self._partial, self._reserved))

    async def keep_swept(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            with contextlib.suppress(StorageFailed):
                await self.sweep()
            await asyncio.sleep(min(self._limits.ttl_seconds / 2 + 1, _SWEEP_SECONDS))

    def _find(self, sha256: str) -> _Entry | None:
        entry = self._whole.get(sha256)
        if entry is None or self._held[sha256]:
            return entry
        expired = entry.used < self._clock() - self._limits.ttl_seconds
        return None if expired else entry

    def _use(self, path: Path, entry: _Entry) -> None:
        entry.used = self._clock()
        # It may have been removed by hand; whoever opens it finds out.
        with contextlib.suppress(OSError):
            os.utime(path, (entry.used, entry.used))

    def _unused(self) -> list[tuple[str, float, int]]:
        """Digest, last use and bytes of what may be removed, the least recently used first."""
        found: Counter[str] = Counter()
        used: dict[str, float] = {}
        for entries in (self._whole, self._partial):
            for name, entry in entries.items():
                if not self._held[name] and name not in self._reserved:
                    found[name] += entry.size
                    used[name] = max(entry.used, used.get(name, 0.0))
        return sorted(((n, used[n], size) for n, size in found.items()), key=lambda item: item[1])

    async def _reserve(self, sha256: str, size: int) -> None:
        """Make room for a content, of which nothing counts as kept from here on."""
        limit = self._limits.store_bytes
        partial = self._partial.pop(sha256, None)
        if sha256 in self._whole:
            # Expired, and not removed yet.
            await self._remove([sha256])
        self._reserved[sha256] = size
        try:
            taken = sum(self._reserved.values())
            for entries in (self._whole, self._partial):
                taken += sum(entry.size for entry in entries.values())
            removed = []
            for name, _, freed in self._unused() if taken > limit else ():
                if taken <= limit:
                    break
                removed.append(name)
                taken -= freed
            if taken > limit:
                raise FilesFull(size, limit)
            await self._remove(removed)
        except BaseException:
            del self._reserved[sha256]
            if partial is not None:
                self._partial[sha256] = partial
            raise

    async def _remove(self, names: list[str]) -> None:
        paths: list[Path] = []
        for name in names:
            if self._whole.pop(name, None) is not None:
                paths.append(self._path(name))
            if self._partial.pop(name, None) is not None:
                paths.append(self._incoming(name))
        if not paths:
            return
        # Nobody knows of them any more, so they go to the last one, also if the caller leaves.
        going = asyncio.create_task(self._unlink(paths), name="remove files")
        for name in names:
            self._going[name] = going
        await to_end(going)

    async def _unlink(self, paths: list[Path]) -> None:
        try:
            with storage("remove a file"):
                await in_thread(_unlink, paths)
        finally:
            for path in paths:
                self._going.pop(path.name, None)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _incoming(self, sha256: str) -> Path:
        return self._folder / INCOMING / sha256


async def _write(
    partial: PartialFile, chunks: AsyncIterator[bytes], sha256: str, size: int, offset: int
) -> None:
    """Append what of the chunks is not there yet."""
    at = offset
    async for chunk in chunks:
        at += len(chunk)
        if at > size or partial.size > size:
            raise FileDigestMismatch(sha256, f"it has more than the announced {size} bytes")
        if at > partial.size:
            # Not `len(chunk) - …`: all of the chunk may be new.
            new = at - partial.size
            await in_thread(partial.write, memoryview(chunk)[len(chunk) - new :])
    if partial.size != size:
        raise InvalidRequest("data", f"ended at byte {partial.size} of the announced {size}")


async def _chunks(descriptor: int, offset: int) -> AsyncIterator[bytes]:
    while chunk := await in_thread(os.pread, descriptor, CHUNK_BYTES, offset):
        offset += len(chunk)
        yield chunk


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _found(paths: Iterator[Path], now: float) -> Iterator[tuple[str, _Entry]]:
    for path in paths:
        if _SHA256.fullmatch(path.name):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                # Of a time to come, if the time of day was set back since.
                yield path.name, _Entry(status.st_size, min(status.st_mtime, now))
