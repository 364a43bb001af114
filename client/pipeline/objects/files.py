"""Files as values: what a pipeline reads and what it gives back."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mimetypes
import mmap
import os
import re
import secrets
import shutil
import tempfile
import threading
import typing
import weakref
from pathlib import Path
from typing import BinaryIO

from pipeline import _fetching, _scratch
from pipeline._graph import pickled
from pipeline.errors import SerialisationError
from pipeline.objects._sources import AtUrl, BufferReader, InDaemon, Remote
from pipelined_api.wire_values import is_plain_name

__all__ = ["File", "Remote", "one_source"]

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile("[0-9a-fA-F]{64}")


class File:
    """A file that can be an input, an output, or part of a graph.

    One that a daemon gave back, if it is large, is downloaded when its content is asked for, and as
    long as the client that got it is open; what fails then raises a
    :class:`pipeline.errors.PipelineError`.

    Inside a ``with Pipeline()`` a File becomes part of the graph: its content travels with the
    code, and nodes that run on startup may take it. Elsewhere it is a value. Two Files are equal if
    their names and contents are.

    One that is at a URL is fetched where its content is asked for: by the worker, if that is a
    pipe, from the hosts that the operator of the daemon allows. One that is in the daemon has no
    content here; it can only be an input of a run there.

    Args:
        path: an existing file. It is read when the File is sent, not before.
        url: an http or https address.
        remote_id: what ``client.files.upload`` returned: the hexadecimal SHA-256 of a content that
            the daemon has.
        name: what it is called, without any folder; otherwise as the path or the URL says.
        sha256: hexadecimal, which what is at ``url`` has to have.
        allow_out_of_context_creation: accepted for programs that name it; a File may be made
            anywhere.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        TypeError: not exactly one of ``path``, ``url`` and ``remote_id`` is given.
        ValueError: the name has a folder in it, the URL is none that can be fetched, or a digest
            has not 64 hexadecimal digits.

    """

    __slots__ = (
        ("__weakref__", "_content", "_folder", "_lock", "_path", "_remote", "_remote_id", "_sha256")
        + ("_unchanging", "_url", "media_type", "name")
    )  # fmt: skip

    name: str
    media_type: str
    _path: Path | None
    _content: bytes | memoryview | None
    _remote: Remote | None

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        remote_id: str | None = None,
        name: str | None = None,
        sha256: str | None = None,
        allow_out_of_context_creation: bool = True,
    ) -> None:
        one_source("File", path, url, remote_id)
        if sha256 is not None and url is None:
            raise TypeError("sha256 goes with url: what else a File holds says it by itself")
        self._path = None
        self._content = None
        if path is not None:
            self._path = Path(path).absolute()
            if not self._path.is_file():
                self._path.stat()
                raise IsADirectoryError(f"{self._path} is not a file")
            self._set_up(_plain(name or self._path.name), "")
            return
        if url is not None:
            # Raises what is a ValueError.
            found = _fetching.name_of(url)
            self._set_up(_plain(name or found), "")
            self._url = url
            self._sha256 = "" if sha256 is None else _digest(sha256)
            self._remote = AtUrl(url, self._sha256)
            return
        digest = _digest(remote_id or "")
        self._set_up(_plain(name or f"file-{digest[:12]}"), "")
        self._remote_id = self._sha256 = digest
        self._remote = InDaemon(digest)

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
    def from_buffer(cls, content: memoryview, *, name: str) -> File:
        """Make a File of memory that does not change and is not copied; for large values."""
        self = cls.__new__(cls)
        self._path = None
        self._content = content.cast("B")
        self._set_up(_plain(name), "application/octet-stream")
        self._sha256 = hashlib.sha256(self._content).hexdigest()
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
        self._unchanging = True
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
        self._remote = None
        self._sha256 = ""
        self._url = ""
        # What keeps the folder that the path is in.
        self._folder: object = None
        self._unchanging = False
        self._remote_id = ""
        self.name = name
        self.media_type = media_type or mimetypes.guess_type(name)[0] or ""
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where its content is fetched from; empty for other Files."""
        return self._url

    @property
    def remote_id(self) -> str:
        """By what the daemon knows it; empty unless it was made so."""
        return self._remote_id

    @property
    def has_digest(self) -> bool:
        """Whether the SHA-256 is known without reading the content."""
        return bool(self._sha256)

    @property
    def path(self) -> Path:
        """Where the file is.

        One that came over the wire is written to a temporary folder first, which lasts as long as
        this object. In a worker the path of a large input is a link to a content that is not to be
        written; it lasts as long as the run.
        """
        with self._lock:
            if self._path is None:
                folder = _scratch.make_folder("pipeline-file-")
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
        if self._remote is not None and self._remote.size is not None:
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
        return bytes(self._content) if self._content is not None else self.path.read_bytes()

    def open(self) -> BinaryIO:
        """Open the content for reading, in binary."""
        if isinstance(self._content, memoryview):
            return typing.cast("BinaryIO", BufferReader(self._content))
        if self._content is not None:
            return io.BytesIO(self._content)
        return self.path.open("rb")

    def open_descriptor(self) -> int:
        """Open the content for reading, as a file descriptor, which the caller closes."""
        if self._content is None and (self._path is not None or self._url):
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # What is in memory goes to a file without a name, which takes no memory of a process.
        with tempfile.TemporaryFile() as stream:
            self._write_to(typing.cast("BinaryIO", stream))
            stream.flush()
            return os.open(f"/proc/self/fd/{stream.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def map(self) -> mmap.mmap:
        """Map the content, which is not empty, into memory of this process that may be written."""
        descriptor = self.open_descriptor()
        try:
            return mmap.mmap(
                descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        finally:
            os.close(descriptor)

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

    def kept_by(self, folder: object) -> File:
        """Have this File keep alive what owns the folder that it is in; returns itself."""
        self._folder = folder
        return self

    def place(self, target: Path, *, executable: bool = False) -> None:
        """Put the content at a path where nothing is, not to be written: a link if it can be."""
        if self._unchanging and self._path is not None and not executable:
            # Permissions belong to the content, not to one of its names: others have it too.
            with contextlib.suppress(OSError):
                os.link(self._path, target, follow_symlinks=False)
                return
        with target.open("xb") as copy:
            self._write_to(copy)
            os.fchmod(copy.fileno(), 0o555 if executable else 0o444)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        if self is other:
            return True
        if self.name != other.name:
            return False
        if self._url or other._url:
            # Without fetching what is surely the same.
            same = (self._url, self._sha256) == (other._url, other._sha256)
            return same or self.sha256 == other.sha256
        if self._remote_id or other._remote_id:
            return self.sha256 == other.sha256
        return self.size == other.size and self.sha256 == other.sha256

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
        if self._url:
            return pickled.file_at_url, (self.name, self.media_type, self._url, self._sha256)
        if self._remote_id:
            raise SerialisationError(
                f"{self!r} is in a daemon, and cannot be part of a graph: give it as an input",
                subject=repr(self),
            )
        return pickled.file, (self.name, self.media_type, self.read())


def one_source(what: str, *sources: object) -> None:
    """Make sure that a File or a Directory is made of one thing."""
    if sum(source is not None for source in sources) != 1:
        raise TypeError(f"a {what} is made of exactly one of path, url and remote_id")


def _digest(sha256: str) -> str:
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is not a SHA-256: 64 hexadecimal digits")
    return sha256.lower()


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is not the plain name of a file")
    return name


def _remove(folder: str, owner: int) -> None:
    # A forked child inherits the finalizer, but not the folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
