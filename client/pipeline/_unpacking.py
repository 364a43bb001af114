"""Archives into folders: zip and tar, also compressed with gzip; plain files and folders only."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InvalidInput
from pipelined_api.limits import MAX_DIRECTORY_ENTRIES
from pipelined_api.wire_values import path_fault

__all__ = ["unpack"]

_CHUNK_BYTES = 1 << 20
# What the two libraries say of a damaged archive. The other OSErrors are the disk's.
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    # Damaged in what is compressed, by the way that it is.
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    # Cut short.
    EOFError,
    # A zip that is compressed in a way that Python lacks.
    NotImplementedError,
)


def unpack(archive: Path, folder: Path, name: str, limit: int) -> None:
    """Unpack an archive into an empty folder.

    Args:
        archive: where it is.
        folder: what its paths are relative to.
        name: what to call it in messages.
        limit: bytes that its files may have together.

    Raises:
        InvalidInput: it is no archive, is damaged, has a path that leads out, a link or a special
            file, or more than the bounds.

    """
    target = _Target(folder, name, limit)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except _UNREADABLE as bad:
        raise target.fault(f"cannot be unpacked: {bad}") from bad
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as bad:
        raise target.fault(f"has a path twice, or one that leads through a file: {bad}") from bad


class _Target:
    """A folder that is filled within bounds."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        self._folder = folder
        self._name = name
        self._limit = limit
        self._bytes = 0
        self._entries = 0

    def fault(self, text: str, bound: str | None = None) -> InvalidInput:
        return InvalidInput(f"the archive {self._name!r} {text}", field="archive", bound=bound)

    def path(self, path: str) -> Path | None:
        """Return where an entry goes; None for the folder itself."""
        self._entries += 1
        if self._entries > MAX_DIRECTORY_ENTRIES:
            bound = f"max_entries={MAX_DIRECTORY_ENTRIES}"
            raise self.fault(f"has more than {MAX_DIRECTORY_ENTRIES} entries", bound)
        plain = path.removeprefix("./").rstrip("/")
        if plain in ("", "."):
            return None
        if fault := path_fault(plain):
            raise self.fault(f"has a path that is refused: {path[:200]!r} {fault}")
        return self._folder / plain

    def write(self, path: Path, source: BinaryIO, mode: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as copy:
            while chunk := source.read(_CHUNK_BYTES):
                self._bytes += len(chunk)
                if self._bytes > self._limit:
                    bound = f"max_bytes={self._limit}"
                    raise self.fault(f"has more than {self._limit} bytes", bound)
                copy.write(chunk)
            os.fchmod(copy.fileno(), 0o555 if mode & stat.S_IXUSR else 0o444)


def _unpack_zip(archive: Path, target: _Target) -> None:
    with zipfile.ZipFile(archive) as entries:
        for entry in entries.infolist():
            mode = entry.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.fault(f"has a link or a special file: {entry.filename!r}")
            if entry.flag_bits & 1:
                raise target.fault(f"is encrypted: {entry.filename!r}")
            path = target.path(entry.filename)
            if path is None:
                continue
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with entries.open(entry) as source:
                target.write(path, source, mode)  # type: ignore[arg-type]  # it reads bytes


def _unpack_tar(archive: Path, target: _Target) -> None:
    with _tar(archive) as entries:
        for entry in entries:
            path = target.path(entry.name)
            if not entry.isdir() and not entry.isreg():
                raise target.fault(f"has a link or a special file: {entry.name!r}")
            if path is None:
                continue
            if entry.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            source = entries.extractfile(entry)
            assert source is not None
            target.write(path, source, entry.mode)  # type: ignore[arg-type]  # it reads bytes


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    if zipped:
        with tarfile.open(archive, "r:gz") as entries:
            yield entries
    else:
        with tarfile.open(archive, "r:") as entries:
            yield entries
