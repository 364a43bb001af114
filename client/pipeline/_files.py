"""Contents of files in the daemon: uploaded once by their digest, downloaded when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pipeline._calls import STATE_CALL_SECONDS
from pipeline._transfers import FileStatus, Progress, Transfers
from pipeline._transport import drive
from pipelined_api.v1 import values_pb2

if TYPE_CHECKING:
    from pipeline.objects.directories import Directory
    from pipeline.objects.files import File

__all__ = ["AsyncFiles", "FileStatus", "Files"]


class Files:
    """The contents that a daemon keeps, by their hexadecimal SHA-256."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def stat(self, sha256: str, *, timeout: float | None = STATE_CALL_SECONDS) -> FileStatus:
        """Ask what the daemon has of a content; that counts as a use of it.

        Raises:
            errors.InvalidInput: this is no SHA-256.

        """
        return drive(self._transfers.stat(sha256, timeout=timeout))

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
        return drive(self._transfers.upload(_content(file), on_progress, timeout))

    def download(
        self,
        sha256: str,
        target: BinaryIO,
        *,
        on_progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write a content to an open file, and make sure that it is the right one.

        Args:
            sha256: of the content.
            target: an open file.
            on_progress: called with the bytes that have been written and all bytes.
            timeout: seconds for everything; None for no limit.

        Raises:
            errors.NotFound: the daemon does not have it, or not any more.
            errors.PipelineError: something else came.

        """
        drive(self._transfers.download(sha256, target, on_progress, timeout))

    def delete(self, sha256: str) -> None:
        """Remove a content from the daemon.

        Raises:
            errors.NotFound: it is not there.
            errors.PipelineError: a run or an upload uses it (reason ``"FILE_IN_USE"``).

        """
        drive(self._transfers.delete(sha256))

    def referred(self, wire: values_pb2.File) -> File:
        """Make a File of a wire value that refers to a content here."""
        from pipeline.objects.files import File

        remote = _Remote(self, wire.sha256.hex(), wire.size)
        return File.from_remote(remote, name=wire.name, media_type=wire.media_type)


class AsyncFiles:
    """The contents that a daemon keeps; as :class:`Files`, awaited."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    async def stat(self, sha256: str, *, timeout: float | None = STATE_CALL_SECONDS) -> FileStatus:
        """Ask what the daemon has of a content; see :meth:`Files.stat`."""
        return await self._transfers.stat(sha256, timeout=timeout)

    async def upload(
        self,
        file: File | Directory,
        *,
        on_progress: Progress | None = None,
        timeout: float | None = None,
    ) -> str:
        """Bring a content to the daemon; see :meth:`Files.upload`."""
        content = await self._transfers.work(lambda: _content(file))
        return await self._transfers.upload(content, on_progress, timeout)

    async def download(
        self,
        sha256: str,
        target: BinaryIO,
        *,
        on_progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write a content to an open file; see :meth:`Files.download`."""
        await self._transfers.download(sha256, target, on_progress, timeout)

    async def delete(self, sha256: str) -> None:
        """Remove a content from the daemon; see :meth:`Files.delete`."""
        await self._transfers.delete(sha256)


def _content(file: File | Directory) -> File:
    """Of a Directory that is one archive."""
    from pipeline import objects

    return file if isinstance(file, objects.File) else file.archive()


@dataclass(frozen=True)
class _Remote:
    """A content in the daemon (see ``pipeline.objects.files.Remote``)."""

    files: Files
    sha256: str
    size: int

    def fetch(self, target: BinaryIO) -> None:
        """Download it."""
        self.files.download(self.sha256, target)
