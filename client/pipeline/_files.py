"""Contents of files in the daemon: uploaded once by their digest, downloaded when they are read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from pipeline import errors
from pipeline._transport import STATE_CALL_SECONDS, Transport, retrying
from pipelined_api.limits import FILE_CHUNK_BYTES
from pipelined_api.v1 import files_pb2, values_pb2

if TYPE_CHECKING:
    from pipeline.objects.directories import Directory
    from pipeline.objects.files import File

__all__ = ["FileStatus", "Files", "Uploads"]

Progress = Callable[[int, int], None]
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


class Files:
    """The contents that a daemon keeps, by their hexadecimal SHA-256."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def stat(self, sha256: str, *, timeout: float | None = STATE_CALL_SECONDS) -> FileStatus:
        """Ask what the daemon has of a content; that counts as a use of it.

        Raises:
            errors.InvalidInput: this is no SHA-256.

        """
        request = files_pb2.FilesStatRequest(sha256=_digest(sha256))
        response = retrying(
            lambda: self._transport.unary(self._transport.files.Stat, request, timeout)
        )
        return FileStatus(response.present, response.size, response.received_bytes)

    def upload(
        self,
        file: File | Directory,
        *,
        on_progress: Progress | None = None,
        timeout: float | None = None,
    ) -> str:
        """Bring a content to the daemon, unless it is there; goes on after what broke off.

        Args:
            file: what to upload; a Directory as one archive, for ``Directory(remote_id=…)``.
            on_progress: called with the bytes that have been sent and all bytes, from another
                thread.
            timeout: seconds for everything; None for no limit.

        Returns:
            Its hexadecimal SHA-256.

        Raises:
            errors.InvalidInput: it is larger than the daemon takes; names the bound.
            errors.Overloaded: the daemon has no room for it.

        """
        from pipeline import objects

        if not isinstance(file, objects.File):
            file = file.archive()
        sha256 = file.sha256
        self.send(file, sha256, on_progress, _deadline(timeout))
        return sha256

    def send(
        self, file: File, sha256: str, on_progress: Progress | None, deadline: float | None
    ) -> None:
        """Upload a File whose digest is known; ``deadline`` as time.monotonic() has it."""
        failures, furthest = 0, -1
        while True:
            status = self.stat(sha256, timeout=_left(deadline, STATE_CALL_SECONDS))
            if status.present:
                return
            if status.received > furthest:
                failures, furthest = 0, status.received
            parts = _parts(file, sha256, min(status.received, file.size), on_progress)
            try:
                self._transport.upload(self._transport.files.Upload, parts, _left(deadline))
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

    def download(self, sha256: str, target: BinaryIO, *, timeout: float | None = None) -> None:
        """Write a content to an open file, and make sure that it is the right one.

        Raises:
            errors.NotFound: the daemon does not have it, or not any more.
            errors.PipelineError: something else came.

        """
        request = files_pb2.DownloadRequest(sha256=_digest(sha256))
        deadline = _deadline(timeout)
        digest = hashlib.sha256()
        failures = 0
        while True:
            answers = self._transport.stream(
                self._transport.files.Download, request, _left(deadline)
            )
            try:
                for answer in answers:
                    digest.update(answer.data)
                    target.write(answer.data)
                    request.offset += len(answer.data)
                    failures = 0
                break
            except errors.Unavailable as error:
                failures += 1
                if error.reason or failures >= _ATTEMPTS:
                    raise
                # Waits for the daemon to be there again.
                self.stat(sha256, timeout=_left(deadline, STATE_CALL_SECONDS))
            finally:
                answers.close()
        if digest.hexdigest() != sha256.lower():
            raise errors.PipelineError(f"the file with sha256 {sha256} arrived damaged")

    def delete(self, sha256: str) -> None:
        """Remove a content from the daemon.

        Raises:
            errors.NotFound: it is not there.
            errors.PipelineError: a run or an upload uses it (reason ``"FILE_IN_USE"``).

        """
        request = files_pb2.FilesDeleteRequest(sha256=_digest(sha256))
        self._transport.unary(self._transport.files.Delete, request, STATE_CALL_SECONDS)

    def referred(self, wire: values_pb2.File) -> File:
        """Make a File of a wire value that refers to a content here."""
        from pipeline.objects.files import File

        remote = _Remote(self, wire.sha256.hex(), wire.size)
        return File.from_remote(remote, name=wire.name, media_type=wire.media_type)


@dataclass(frozen=True)
class _Remote:
    """A content in the daemon (see ``pipeline.objects.files.Remote``)."""

    files: Files
    sha256: str
    size: int

    def fetch(self, target: BinaryIO) -> None:
        """Download it."""
        self.files.download(self.sha256, target)


class Uploads:
    """The Files of one run that have to be in the daemon before it."""

    def __init__(self, files: Files, on_upload: Callable[[File, int, int], None] | None) -> None:
        self._files = files
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

    def run(self, call: Callable[[float | None], Result], deadline: float | None) -> Result:
        """Upload, then call with the seconds that are left; once more if a content went meanwhile.

        The second call does no harm: the daemon refused the first one before it began.

        Raises:
            errors.Overloaded: the daemon has no room for all of them at once, as far as one can see
                from here.

        """
        self._send(deadline)
        try:
            return call(_left(deadline))
        except errors.NotFound as error:
            if error.reason != "FILE_NOT_FOUND" or not self._wanted:
                raise
        self._send(deadline)
        try:
            return call(_left(deadline))
        except errors.NotFound as error:
            if error.reason != "FILE_NOT_FOUND":
                raise
            raise errors.Overloaded(
                "files of this run were gone again before it began: the daemon seems to have no "
                f"room for all of them at once ({error.message})",
                reason=error.reason,
                metadata=error.metadata,
            ) from None

    def _send(self, deadline: float | None) -> None:
        for sha256, file in self._wanted.items():
            self._files.send(file, sha256, self._progress(file), deadline)

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


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None, most: float | None = None) -> float | None:
    """Seconds until the deadline, at most so many."""
    if deadline is None:
        return most
    left = deadline - time.monotonic()
    return left if most is None else min(left, most)
