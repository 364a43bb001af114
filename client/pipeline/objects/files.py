"""Files as values: what a pipeline reads and what it gives back."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline._graph import pickled
from pipelined_api.wire_values import is_plain_name

__all__ = ["File", "Remote"]

_CHUNK_BYTES = 1 << 20


class Remote(Protocol):
    """A content that is elsewhere."""

    @property
    def size(self) -> int:
        """Bytes in it."""

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of it."""

    def fetch(self, target: BinaryIO) -> None:
        """Write the content, and make sure that it is the right one."""


class File:
    """A file that can be an input, an output, or part of a graph.

    One that a daemon gave back, if it is large, is downloaded when its content is asked for, and as
    long as the client that got it is open; what fails then raises a
    :class:`pipeline.errors.PipelineError`.

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

    __slots__ = (
        ("__weakref__", "_content", "_lock", "_path", "_remote", "_sha256", "media_type", "name")
    )  # fmt: skip

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
        self = cls.__new__(cls)
        self._path = None
        self._content = bytes(content)
        self._set_up(_plain(name), media_type)
        return self

    @classmethod
    def from_stored(cls, path: Path, *, name: str, media_type: str, sha256: str) -> File:
        """Make a File of one that never changes and whose digest is known; for workers.

        Raises:
            ValueError: the name has a folder in it, or is none.

        """
        self = cls.__new__(cls)
        self._path = path
        self._content = None
        self._set_up(_plain(name), media_type)
        self._sha256 = sha256
        return self

    @classmethod
    def from_remote(cls, remote: Remote, *, name: str, media_type: str) -> File:
        """Make a File whose content is fetched when it is asked for; for clients.

        Raises:
            ValueError: the name has a folder in it, or is none.

        """
        self = cls.__new__(cls)
        self._path = None
        self._content = None
        self._set_up(_plain(name), media_type)
        self._remote = remote
        self._sha256 = remote.sha256
        return self

    def _set_up(self, name: str, media_type: str) -> None:
        self._remote: Remote | None = None
        self._sha256 = ""
        self.name = name
        self.media_type = media_type or mimetypes.guess_type(name)[0] or ""
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """Where the file is.

        One that came over the wire is written to a temporary folder first, which lasts as long as
        this object. In a worker the path of a large input is a link to a content that cannot be
        written; it lasts as long as the run.
        """
        with self._lock:
            if self._path is None:
                folder = tempfile.mkdtemp(prefix="pipeline-file-")
                weakref.finalize(self, _remove, folder, os.getpid())
                path = Path(folder) / self.name
                with path.open("xb") as stream:
                    self._write_to(stream)
                self._path = path
            return self._path

    def _write_to(self, target: BinaryIO) -> None:
        """Write the content, from wherever it is."""
        if self._content is not None:
            target.write(self._content)
        elif self._path is not None:
            with self._path.open("rb") as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
        else:
            assert self._remote is not None
            self._remote.fetch(target)

    @property
    def size(self) -> int:
        """Bytes in the content."""
        if self._content is not None:
            return len(self._content)
        if self._remote is not None:
            return self._remote.size
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content as it is now."""
        if self._sha256:
            return self._sha256
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

        Missing parent folders are made. What is at ``path`` is replaced once the copy is whole.

        Returns:
            The path of the file that was written.

        """
        target = Path(path)
        if target.is_dir():
            target = target / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._path is not None and target.exists() and target.samefile(self._path):
            return target
        if target.exists() and not target.is_file():
            # Such as a pipe, which cannot be replaced.
            with target.open("wb") as copy:
                self._write_to(copy)
            return target
        # The file that a link names is replaced, and not the link.
        real = Path(os.path.realpath(target))
        temporary = real.with_name(f".{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as copy:
                self._write_to(copy)
            temporary.replace(real)
        finally:
            temporary.unlink(missing_ok=True)
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


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is not the plain name of a file")
    return name


def _remove(folder: str, owner: int) -> None:
    # A forked child inherits the finalizer, but not the folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
