"""Contents that the daemon keeps, to be named in later runs."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from pipeline.cloud._connection import connected
from pipeline.objects import Directory, File

__all__ = ["RemoteDirectory", "RemoteFile", "create_remote_directory", "upload_file"]


class RemoteFile(File):
    """A File that is in the daemon, and may be an input of any number of runs there."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """What ``File(remote_id=…)`` takes, also in another process."""
        return self.remote_id


class RemoteDirectory(Directory):
    """A Directory that is in the daemon, and may be an input of any number of runs there."""

    __slots__ = ("_id",)

    def __init__(self, remote_id: str, *, name: str) -> None:
        super().__init__(remote_id=remote_id, name=name)
        self._id = remote_id

    @property
    def id(self) -> str:
        """What ``Directory(remote_id=…)`` takes, also in another process."""
        return self._id


def upload_file(file_path: str | PathLike[str]) -> RemoteFile:
    """Upload a file, unless the daemon has its content.

    The daemon keeps it for a time after its last use (``pipelined serve --file-ttl``).

    Args:
        file_path: an existing file.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        errors.InvalidInput: it is larger than the daemon takes.
        errors.Overloaded: the daemon has no room for it.

    """
    file = File(path=file_path)
    return RemoteFile(remote_id=connected().files.upload(file), name=file.name)


def create_remote_directory(local_path: str | PathLike[str]) -> RemoteDirectory:
    """Upload a folder; see ``upload_file``.

    Args:
        local_path: an existing folder.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.

    """
    directory = Directory(path=Path(local_path))
    return RemoteDirectory(connected().files.upload(directory), name=directory.name)
