"""Transfers of files' contents, on a channel of either kind; ``_files`` has their faces."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from pipeline import errors
from pipeline._calls import STATE_CALL_SECONDS, Calls, deadline_in, seconds_left
from pipelined_api.limits import FILE_CHUNK_BYTES
from pipelined_api.v1 import files_pb2

if TYPE_CHECKING:
    from pipeline.objects.files import File

__all__ = ["FileStatus", "OnUpload", "Progress", "Transfers", "Uploads"]

Progress = Callable[[int, int], None]
OnUpload = Callable[["File", int, int], None]
Result = TypeVar("Result")
# Attempts in a row that may bring nothing before a transfer is given up.
_ATTEMPTS = 3


@dataclass(frozen=True)
class FileStatus:
    """What the daemon has of a content.

    Attributes:
        present: all of it.
        size: bytes in the whole content; 0 if it is not present.
        received: bytes that the daemon has.

    """

    present: bool
    size: int
    received: int


class Transfers:
    """The calls of the Files service."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def work(self, call: Callable[[], Result]) -> Result:
        """Do what takes long; see ``Transport.work``."""
        return await self._calls.transport.work(call)

    async def stat(self, sha256: str, *, timeout: float | None = STATE_CALL_SECONDS) -> FileStatus:
        """See ``Files.stat``."""
        request = files_pb2.FilesStatRequest(sha256=_digest(sha256))
        stat = self._calls.transport.stubs.files.Stat
        response = await self._calls.retrying(lambda: self._calls.unary(stat, request, timeout))
        return FileStatus(response.present, response.size, response.received_bytes)

    async def upload(self, file: File, on_progress: Progress | None, timeout: float | None) -> str:
        """See ``Files.upload``."""
        sha256 = await self._calls.transport.work(lambda: file.sha256)
        await self.send(file, sha256, on_progress, deadline_in(timeout))
        return sha256

    async def send(
        self, file: File, sha256: str, on_progress: Progress | None, deadline: float | None
    ) -> None:
        """Upload a File whose digest is known; ``deadline`` as time.monotonic() has it."""
        failures, furthest = 0, -1
        while True:
            status = await self.stat(sha256, timeout=seconds_left(deadline, STATE_CALL_SECONDS))
            if status.present:
                return
            if status.received > furthest:
                failures, furthest = 0, status.received
            parts = _parts(file, sha256, min(status.received, file.size), on_progress)
            try:
                await self._calls.upload(
                    self._calls.transport.stubs.files.Upload, parts, seconds_left(deadline)
                )
                return
            except errors.PipelineError as error:
                failures += 1
                broken = isinstance(error, errors.Unavailable) and not error.reason
                # What was there before may have been bad, and is not there any more.
                bad_begin = status.received > 0 and (
                    error.reason == "FILE_DIGEST_MISMATCH"
                    or (isinstance(error, errors.InvalidInput) and error.field == "offset")
                )
                if failures >= _ATTEMPTS or not (broken or bad_begin):
                    raise

    async def download(
        self,
        sha256: str,
        target: BinaryIO,
        on_progress: Progress | None,
        timeout: float | None,
    ) -> None:
        """See ``Files.download``."""
        request = files_pb2.DownloadRequest(sha256=_digest(sha256))
        deadline = deadline_in(timeout)
        size = 0
        if on_progress is not None:
            size = (await self.stat(sha256, timeout=seconds_left(deadline))).size
        digest = hashlib.sha256()
        failures = 0
        while True:
            answers = self._calls.stream(
                self._calls.transport.stubs.files.Download, request, seconds_left(deadline)
            )
            try:
                async for answer in answers:
                    digest.update(answer.data)
                    target.write(answer.data)
                    request.offset += len(answer.data)
                    if on_progress is not None:
                        on_progress(request.offset, size)
                    failures = 0
                break
            except errors.Unavailable as error:
                failures += 1
                if error.reason or failures >= _ATTEMPTS:
                    raise
                # Waits for the daemon to be there again.
                await self.stat(sha256, timeout=seconds_left(deadline, STATE_CALL_SECONDS))
            finally:
                await answers.aclose()
        if digest.hexdigest() != sha256.lower():
            raise errors.PipelineError(f"the file with sha256 {sha256} arrived damaged")

    async def delete(self, sha256: str) -> None:
        """See ``Files.delete``."""
        request = files_pb2.FilesDeleteRequest(sha256=_digest(sha256))
        delete = self._calls.transport.stubs.files.Delete
        await self._calls.unary(delete, request, STATE_CALL_SECONDS)


class Uploads:
    """The Files of one run that have to be in the daemon before it."""

    def __init__(self, transfers: Transfers, on_upload: OnUpload | None) -> None:
        self._transfers = transfers
        self._on_upload = on_upload
        self._wanted: dict[str, File] = {}

    def add(self, file: File) -> str:
        """Take note of a File; return its hexadecimal SHA-256.

        Raises:
            errors.SerialisationError: it cannot be read.

        """
        try:
            sha256 = file.sha256
        except OSError as error:
            raise errors.SerialisationError(f"{file!r} cannot be read: {error}") from error
        self._wanted[sha256] = file
        return sha256

    async def run(
        self, call: Callable[[float | None], Awaitable[Result]], deadline: float | None
    ) -> Result:
        """Upload, then call with the seconds that are left; once more if a content went meanwhile.

        The second call does no harm: the daemon refused the first one before it began.

        Raises:
            errors.Overloaded: the daemon has no room for all of them at once, as far as one can see
                from here.

        """
        await self._send(deadline)
        try:
            return await call(seconds_left(deadline))
        except errors.NotFound as error:
            if error.reason != "FILE_NOT_FOUND" or not self._wanted:
                raise
        await self._send(deadline)
        try:
            return await call(seconds_left(deadline))
        except errors.NotFound as error:
            if error.reason != "FILE_NOT_FOUND":
                raise
            raise errors.Overloaded(
                "files of this run were gone again before it began: the daemon seems to have no "
                f"room for all of them at once ({error.message})",
                reason=error.reason,
                metadata=error.metadata,
            ) from None

    async def _send(self, deadline: float | None) -> None:
        for sha256, file in self._wanted.items():
            await self._transfers.send(file, sha256, self._progress(file), deadline)

    def _progress(self, file: File) -> Progress | None:
        on_upload = self._on_upload
        return None if on_upload is None else lambda sent, size: on_upload(file, sent, size)


def _parts(
    file: File, sha256: str, offset: int, on_progress: Progress | None
) -> Iterator[files_pb2.UploadRequest]:
    size = file.size
    yield files_pb2.UploadRequest(
        header=files_pb2.UploadHeader(
            sha256=bytes.fromhex(sha256),
            size=size,
            name=file.name,
            media_type=file.media_type,
            offset=offset,
        )
    )
    with file.open() as stream:
        stream.seek(offset)
        while chunk := stream.read(FILE_CHUNK_BYTES):
            yield files_pb2.UploadRequest(data=chunk)
            offset += len(chunk)
            if on_progress is not None:
                on_progress(offset, size)


def _digest(sha256: str) -> bytes:
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise errors.InvalidInput(
            f"{sha256!r} is not a SHA-256: 64 hexadecimal digits", field="sha256"
        )
    return digest
