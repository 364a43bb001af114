"""The store of files: what is kept, for how long, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelined.core.errors import (
    FileDigestMismatch,
    FileInUse,
    FileMissing,
    FilesFull,
    FileTooLarge,
    InvalidRequest,
    StorageFailed,
)
from pipelined.core.files import FileLimits, FileStatus, Received
from pipelined.store.files import Files

CONTENT = b"0123456789"
ABSENT = FileStatus(present=False, size=0, received=0)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def whole(content: bytes = CONTENT) -> FileStatus:
    return FileStatus(present=True, size=len(content), received=len(content))


def begun(received: int) -> FileStatus:
    return FileStatus(present=False, size=0, received=received)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise ConnectionAbortedError


class Opened:
    """A store that can be opened again, and whose clock can be set."""

    def __init__(self, folder: Path, limits: FileLimits) -> None:
        self.folder = folder / "files"
        self.limits = limits
        self.now = 1000.0
        self.reopen()

    def reopen(self) -> None:
        self.files = Files(self.folder, self.limits, lambda: self.now)

    async def add(self, content: bytes = CONTENT) -> str:
        received = await self.files.receive(chunks(content), digest(content), len(content))
        assert not received.existed
        return digest(content)

    async def end_early(self, content: bytes, after: int) -> str:
        with pytest.raises(InvalidRequest, match=f"ended at byte {after}"):
            await self.files.receive(chunks(content[:after]), digest(content), len(content))
        return digest(content)

    def on_disk(self) -> dict[str, int]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in paths}


@pytest.fixture
def store(tmp_path: Path) -> Opened:
    return Opened(tmp_path, FileLimits(file_bytes=20, store_bytes=40, ttl_seconds=100))


async def read(files: Files, sha256: str, offset: int = 0) -> bytes:
    return b"".join([chunk async for chunk in files.read(sha256, offset)])


async def test_a_content_comes_back_whole_or_from_an_offset(store: Opened) -> None:
    sha256 = await store.add()
    assert await read(store.files, sha256) == CONTENT
    assert await read(store.files, sha256, 7) == CONTENT[7:]
    assert await read(store.files, sha256, 10) == b""
    with pytest.raises(InvalidRequest, match="offset"):
        await read(store.files, sha256, 11)
    with pytest.raises(FileMissing, match=digest(b"other")):
        await read(store.files, digest(b"other"))


async def test_a_content_that_is_here_is_not_received_again(store: Opened) -> None:
    sha256 = await store.add()
    received = await store.files.receive(chunks(b"not looked at"), sha256, 10)
    assert received == Received(existed=True, written=0)
    with pytest.raises(InvalidRequest, match="size"):
        await store.files.receive(chunks(), sha256, 11)


async def test_an_empty_file_is_one(store: Opened) -> None:
    assert await read(store.files, await store.add(b"")) == b""
    assert store.files.status(digest(b"")) == whole(b"")


async def test_files_and_their_folders_are_the_owners_alone(store: Opened) -> None:
    await store.add()
    await store.end_early(b"abc", 1)
    for path in store.folder.rglob("*"):
        mode = path.stat().st_mode
        if path.is_dir() or path.parent.name == "incoming":
            assert mode & 0o077 == 0
        else:
            # Read by whoever is given its descriptor, a worker of another user for one.
            assert mode & 0o777 == 0o444


async def test_what_was_received_is_there_after_a_restart_and_is_gone_on_from(
    store: Opened,
) -> None:
    sha256 = await store.add()
    await store.end_early(b"abcdef", 4)
    store.reopen()
    assert store.files.status(sha256) == whole()
    assert store.files.status(digest(b"abcdef")) == begun(4)
    received = await store.files.receive(chunks(b"ef"), digest(b"abcdef"), 6, offset=4)
    assert received == Received(existed=False, written=2)
    assert await read(store.files, digest(b"abcdef")) == b"abcdef"


@pytest.mark.parametrize("offset", [0, 1, 3, 4])
async def test_bytes_that_are_here_already_are_skipped(store: Opened, offset: int) -> None:
    sha256 = await store.end_early(b"abcdef", 4)
    rest = [bytes([byte]) for byte in b"abcdef"[offset:]]
    received = await store.files.receive(chunks(*rest), sha256, 6, offset)
    assert received.written == 2
    assert await read(store.files, sha256) == b"abcdef"


async def test_an_upload_cannot_begin_after_what_is_here(store: Opened) -> None:
    sha256 = await store.end_early(b"abcdef", 4)
    with pytest.raises(InvalidRequest, match="offset"):
        await store.files.receive(chunks(b"f"), sha256, 6, offset=5)
    assert store.files.status(sha256) == begun(4)


@pytest.mark.parametrize("parts", [(b"012345678!",), (CONTENT, b"!"), (CONTENT + b"!",)])
async def test_a_wrong_content_is_not_kept(store: Opened, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(FileDigestMismatch):
        await store.files.receive(chunks(*parts), digest(CONTENT), 10)
    assert store.files.status(digest(CONTENT)) == ABSENT
    assert store.on_disk() == {}


async def test_uploads_of_one_content_at_once_write_it_once(store: Opened) -> None:
    first_has_begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:4]
        first_has_begun.set()
        await go_on.wait()
        yield CONTENT[4:]

    sha256 = digest(CONTENT)
    first = asyncio.create_task(store.files.receive(slow(), sha256, 10))
    await first_has_begun.wait()
    second = asyncio.create_task(store.files.receive(chunks(CONTENT), sha256, 10))
    with pytest.raises(FileInUse):
        await store.files.delete(sha256)
    assert store.files.status(sha256) == begun(4)
    go_on.set()
    assert await first == Received(existed=False, written=10)
    assert await second == Received(existed=True, written=0)


async def test_an_upload_whose_caller_left_is_gone_on_from(store: Opened) -> None:
    begun_, never = asyncio.Event(), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield CONTENT[:4]
        begun_.set()
        await never.wait()

    sha256 = digest(CONTENT)
    upload = asyncio.create_task(store.files.receive(hanging(), sha256, 10))
    await begun_.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert store.files.status(sha256) == begun(4)
    assert (await store.files.receive(chunks(CONTENT[4:]), sha256, 10, 4)).written == 6


async def test_a_file_beyond_the_limit_is_refused_before_it_is_received(store: Opened) -> None:
    with pytest.raises(FileTooLarge, match="20"):
        await store.files.receive(broken(), digest(bytes(21)), 21)
    await store.add(bytes(20))


async def test_the_least_recently_used_make_room(store: Opened) -> None:
    names = []
    for number in range(4):
        store.now += 1
        names.append(await store.add(bytes([number]) * 10))
    store.now += 1
    assert store.files.status(names[0]).present
    await store.add(b"x" * 15)
    assert [store.files.status(name).present for name in names] == [True, False, False, True]
    assert sum(store.on_disk().values()) == 35


async def test_what_is_used_is_not_removed_for_others(store: Opened) -> None:
    sha256 = await store.add(bytes(20))
    with store.files.hold(sha256) as stored:
        assert stored.path.read_bytes() == bytes(20)
        await store.add(b"x" * 15)
        with store.files.hold(digest(b"x" * 15)), pytest.raises(FilesFull, match="40") as caught:
            await store.add(b"y" * 10)
        assert (caught.value.size, caught.value.limit) == (10, 40)
        with pytest.raises(FileInUse):
            await store.files.delete(sha256)
        store.now += 1000
        await store.files.sweep()
        assert store.files.status(sha256).present
    await store.add(b"y" * 20)
    assert sum(store.on_disk().values()) <= 40


async def test_what_is_being_received_has_its_room_already(store: Opened) -> None:
    async def while_receiving() -> AsyncIterator[bytes]:
        with pytest.raises(FilesFull):
            await store.add(b"z" * 11)
        yield bytes(20)

    async def outer() -> AsyncIterator[bytes]:
        await store.files.receive(while_receiving(), digest(bytes(20)), 20)
        yield b"x" * 10

    await store.files.receive(outer(), digest(b"x" * 10), 10)


async def test_what_nothing_has_used_for_its_time_is_gone(store: Opened) -> None:
    sha256 = await store.add()
    partial = await store.end_early(b"abcdef", 4)
    store.now += 99
    # Asking is using.
    assert store.files.status(sha256).present
    store.now += 99
    assert store.files.status(sha256).present
    await store.files.sweep()
    assert store.files.status(partial) == ABSENT
    store.now += 101
    store.reopen()
    assert store.files.status(sha256) == ABSENT
    with pytest.raises(FileMissing), store.files.hold(sha256):
        pass
    # It can come back before it was swept.
    await store.add()
    store.now += 101
    await store.files.sweep()
    assert store.on_disk() == {}


async def test_deleting(store: Opened) -> None:
    sha256 = await store.add()
    partial = await store.end_early(b"abcdef", 4)
    await store.files.delete(sha256)
    await store.files.delete(partial)
    assert store.on_disk() == {}
    for name in (sha256, partial):
        with pytest.raises(FileMissing):
            await store.files.delete(name)


class Gate:
    """Holds up whatever threads of the loop are given from now on."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self._executor = ThreadPoolExecutor(1)
        loop.set_default_executor(self._executor)
        self.closed = asyncio.Event()

    async def chunks(self, content: bytes) -> AsyncIterator[bytes]:
        """A content, after which the gate is shut: its publication waits, and holds a lock."""
        yield content
        self._executor.submit(self._open.wait, 60)
        self.closed.set()

    async def release(self, *waiting: asyncio.Task[Any]) -> None:
        """Let the tasks come as far as they can, then open."""
        for _ in range(10 * len(waiting)):
            await asyncio.sleep(0)
        self._open.set()


async def test_a_content_that_is_being_removed_can_come_back(store: Opened) -> None:
    partial = await store.end_early(b"abcdef", 4)
    gate = Gate()
    publishing = asyncio.create_task(store.files.receive(gate.chunks(CONTENT), digest(CONTENT), 10))
    await gate.closed.wait()
    removing = asyncio.create_task(store.files.delete(partial))
    receiving = asyncio.create_task(store.files.receive(chunks(b"abcdef"), partial, 6))
    await gate.release(removing, receiving)
    await asyncio.gather(publishing, removing)
    assert await receiving == Received(existed=False, written=6)
    assert await read(store.files, partial) == b"abcdef"


async def test_what_is_being_removed_goes_though_the_caller_leaves(store: Opened) -> None:
    sha256 = await store.add(b"abcdef")
    gate = Gate()
    publishing = asyncio.create_task(store.files.receive(gate.chunks(CONTENT), digest(CONTENT), 10))
    await gate.closed.wait()
    removing = asyncio.create_task(store.files.delete(sha256))
    await asyncio.sleep(0)
    removing.cancel()
    await gate.release(removing)
    await publishing
    with pytest.raises(asyncio.CancelledError):
        await removing
    store.reopen()
    assert store.files.status(sha256) == ABSENT


async def test_of_an_upload_that_brings_nothing_nothing_stays(store: Opened) -> None:
    await store.end_early(b"abc", 0)
    assert store.on_disk() == {}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Have the system refuse to write more, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_takes_no_more_is_told_and_nothing_stays(store: Opened) -> None:
    with largest_file(5), pytest.raises(StorageFailed, match="store the file: File too large"):
        await store.add()
    assert store.on_disk() == {}
    assert store.files.status(digest(CONTENT)) == ABSENT
    await store.add()


async def test_an_open_file_is_kept_if_it_is_what_it_is_said_to_be(
    store: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "output"
    path.write_bytes(CONTENT)
    with path.open("rb") as output:
        await store.files.keep(output.fileno(), digest(CONTENT), 10)
        assert await read(store.files, digest(CONTENT)) == CONTENT
        for sha256, size in ((digest(b"x" * 10), 10), (digest(CONTENT), 9)):
            with pytest.raises(FileDigestMismatch):
                await store.files.keep(output.fileno(), sha256, size)
    reading, writing = os.pipe()
    try:
        with pytest.raises(FileDigestMismatch):
            await store.files.keep(reading, digest(b""), 0)
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_file_of_a_time_to_come_is_not_kept_before_newer_ones(store: Opened) -> None:
    store.now = 5000.0
    ahead = await store.add()
    # The time of day is set back while the daemon is down.
    store.now = 1000.0
    store.reopen()
    store.now = 1001.0
    newer = await store.add(b"20 bytes: the newer!")
    store.now = 1002.0
    newest = await store.add(b"20 bytes: the newest")
    assert store.files.status(ahead) == ABSENT
    assert await read(store.files, newer) == b"20 bytes: the newer!"
    assert await read(store.files, newest) == b"20 bytes: the newest"
