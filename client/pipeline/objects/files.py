"""Files as values: what a pipeline reads and what it gives back."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import BinaryIO

from pipeline._graph import pickled

__all__ = ["File"]

_CHUNK_BYTES = 1 << 20


class File:
    """A file that can be an input, an output, or part of a graph.

    Inside a ``with Pipeline()`` a File becomes part of the graph: its content travels with the
    code, and nodes that run on startup may take it. Elsewhere it is a value. Two Files are equal if
    their names and contents are.

    Args:
        path: an existing file. It is read when the File is sent, not before.
        allow_out_of_context_creation: accepted for programs that name it; a File may be made
            anywhere.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.

    """

    __slots__ = ("__weakref__", "_content", "_lock", "_path", "media_type", "name")

    name: str
    media_type: str

    def __init__(
        self, path: str | os.PathLike[str], *, allow_out_of_context_creation: bool = True
    ) -> None:
        self._path: Path | None = Path(path).absolute()
        if not self._path.is_file():
            self._path.stat()
            raise IsADirectoryError(f"{self._path} is not a file")
        self._content: bytes | None = None
        self._set_up(self._path.name, "")

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str, media_type: str = "") -> File:
        """Make a File of ``content``, which stays in memory until its ``path`` is asked for.

        Args:
            content: what is in it.
            name: its name, without any folder.
            media_type: an IANA media type; guessed from the name if empty.

        Raises:
            ValueError: the name has a folder in it, or is none.

        """
        if not name or name in (".", "..") or any(bad in name for bad in "/\\\0"):
            raise ValueError(f"{name!r} is not the plain name of a file")
        self = cls.__new__(cls)
        self._path = None
        self._content = bytes(content)
        self._set_up(name, media_type)
        return self

    def _set_up(self, name: str, media_type: str) -> None:
        self.name = name
        self.media_type = media_type or mimetypes.guess_type(name)[0] or ""
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """Where the file is.

        One that came over the wire is written to a temporary folder first, which lasts as long as
        this object.
        """
        with self._lock:
            if self._path is None:
                assert self._content is not None
                folder = tempfile.mkdtemp(prefix="pipeline-file-")
                weakref.finalize(self, _remove, folder, os.getpid())
                path = Path(folder) / self.name
                path.write_bytes(self._content)
                self._path = path
            return self._path

    @property
    def size(self) -> int:
        """Bytes in the content."""
        if self._content is not None:
            return len(self._content)
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content as it is now."""
        digest = hashlib.sha256()
        with self.open() as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def read(self) -> bytes:
        """Return the whole content."""
        return self._content if self._content is not None else self.path.read_bytes()

    def open(self) -> BinaryIO:
        """Open the content for reading, in binary."""
        if self._content is not None:
            return io.BytesIO(self._content)
        return self.path.open("rb")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Copy the content to ``path``; into it, under the File's name, if that is a folder.

        Missing parent folders are made.

        Returns:
            The path of the file that was written.

        """
        target = Path(path)
        if target.is_dir():
            target = target / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._content is None and target.exists() and target.samefile(self.path):
            return target
        with self.open() as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
        return target

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        if self is other:
            return True
        return self.name == other.name and self.size == other.size and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"File({self.name!r})"

    def __copy__(self) -> File:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> File:
        # A File never changes; its content on disk is not this object's.
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return pickled.file, (self.name, self.media_type, self.read())


def _remove(folder: str, owner: int) -> None:
    # A forked child inherits the finalizer, but not the folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
