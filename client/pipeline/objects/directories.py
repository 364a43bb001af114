"""Folders as values: what a pipeline reads and what it gives back."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from pipeline import _fetching, _scratch
from pipeline._graph import pickled
from pipeline.errors import SerialisationError
from pipeline.objects.files import File, one_source
from pipelined_api.limits import MAX_DIRECTORY_ENTRIES
from pipelined_api.wire_values import is_plain_name, path_fault

__all__ = ["Directory", "Entry"]


class Entry(NamedTuple):
    """One file of a Directory, or one folder in it that is empty.

    Attributes:
        path: relative, with ``/`` between names.
        executable: whether the file may be executed.
        file: its content, under the last name of ``path``; None for an empty folder.

    """

    path: str
    executable: bool
    file: File | None


class Directory:
    """A folder that can be an input, an output, or part of a graph, as a :class:`File` can.

    Each of its files is sent by its own content: one that the daemon has is not sent again when
    others beside it change. Empty folders are kept, and whether a file may be executed; owners,
    times and other permissions are not. A link inside is followed if it stays inside.

    Iterating gives the relative names of its files, in order; ``directory[name]`` is a File. Two
    Directories are equal if the same things are in them, whatever their own names.

    Args:
        path: an existing folder. It is read when the Directory is sent or looked into.
        url: an http or https address of a zip or tar file (see :class:`File`), which is unpacked.
        remote_id: what ``client.files.upload`` returned for such a file or for a Directory.
        name: what it is called, without any folder; otherwise as the path or the URL says.
        sha256: hexadecimal, which the archive at ``url`` has to have.
        allow_out_of_context_creation: accepted for programs that name it.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        TypeError: not exactly one of ``path``, ``url`` and ``remote_id`` is given.
        ValueError: the name, the URL or a digest is none.

    """

    __slots__ = ("__weakref__", "_archive", "_entries", "_lock", "_path", "name")

    name: str
    _path: Path | None
    _entries: tuple[Entry, ...] | None
    _archive: File | None

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
        one_source("Directory", path, url, remote_id)
        self._set_up(name or "directory")
        if path is None:
            self._archive = File(url=url, remote_id=remote_id, sha256=sha256)
            self.name = name or self._archive.name.partition(".")[0] or "directory"
            return
        self._path = Path(path).absolute()
        if not self._path.is_dir():
            self._path.stat()
            raise NotADirectoryError(f"{self._path} is not a folder")
        self.name = name or self._path.resolve().name or "directory"

    @classmethod
    def from_files(
        cls, entries: Iterable[Entry | tuple[str, bool, File | None]], *, name: str
    ) -> Directory:
        """Make a Directory of paths that have been checked, and Files; for clients and workers."""
        self = cls.__new__(cls)
        self._set_up(name)
        self._entries = tuple(sorted(Entry(*entry) for entry in entries))
        return self

    @classmethod
    def from_archive(cls, archive: File, *, name: str) -> Directory:
        """Make a Directory of what is in a zip or tar file."""
        self = cls.__new__(cls)
        self._set_up(name)
        self._archive = archive
        return self

    def _set_up(self, name: str) -> None:
        if not is_plain_name(name):
            raise ValueError(f"{name!r} is not the plain name of a folder")
        self.name = name
        self._path = None
        self._entries = None
        self._archive = None
        self._lock = threading.Lock()

    @property
    def archive_file(self) -> File | None:
        """The archive whose content this is, if it was made of one."""
        return self._archive

    @property
    def path(self) -> Path:
        """Where the folder is.

        One that came over the wire, or is an archive, is made in a temporary folder first, which
        lasts as long as this object. Its files are not to be written.

        Raises:
            errors.PipelineError: a content cannot be had, or the archive is refused.

        """
        with self._lock:
            if self._path is None:
                folder = _scratch.make_folder("pipeline-directory-")
                weakref.finalize(self, _remove, folder, os.getpid())
                path = Path(folder) / self.name
                try:
                    path.mkdir()
                    self._fill(path)
                except BaseException:
                    shutil.rmtree(path, ignore_errors=True)
                    raise
                self._path = path
            return self._path

    def _fill(self, path: Path) -> None:
        if self._archive is not None:
            from pipeline import _unpacking

            limit = _fetching.max_bytes()
            _unpacking.unpack(self._archive.path, path, self._archive.name, limit)
            return
        for entry in self._entries or ():
            place = path / entry.path
            if entry.file is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            entry.file.place(place, executable=entry.executable)

    def entries(self) -> tuple[Entry, ...]:
        """Return what is in it, in order of the paths.

        Raises:
            errors.SerialisationError: there is a link that leads outside, a special file, a name
                that cannot be sent, or more than 10,000 entries.

        """
        if self._entries is not None:
            return self._entries
        found = sorted(_scan(self.path))
        for entry in found:
            if entry.file is not None:
                # A temporary folder goes with the Directory.
                entry.file.kept_by(self)
        return tuple(found)

    def __iter__(self) -> Iterator[str]:
        return (entry.path for entry in self.entries() if entry.file is not None)

    def __getitem__(self, relative: str) -> File:
        for entry in self.entries():
            if entry.path == relative and entry.file is not None:
                return entry.file
        raise KeyError(relative)

    def open(self, relative: str) -> BinaryIO:
        """Open a file in it for reading, in binary.

        Raises:
            FileNotFoundError: there is none at this relative path.

        """
        try:
            return self[relative].open()
        except KeyError:
            raise FileNotFoundError(f"no file {relative!r} in {self!r}") from None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Copy the folder to ``path``; into it, under the Directory's name, if that is a folder.

        Missing parent folders are made. It is there whole or not at all.

        Returns:
            The path of the folder that was made.

        Raises:
            FileExistsError: there is something already.

        """
        target = Path(path)
        if target.is_dir():
            target = target / self.name
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".pipeline-", dir=target.parent))
        try:
            whole = temporary / "whole"
            whole.mkdir()
            for entry in self.entries():
                place = whole / entry.path
                if entry.file is None:
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                entry.file.save(place)
                if entry.executable:
                    place.chmod(place.stat().st_mode | 0o111)
            whole.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def archive(self) -> File:
        """Put it into one tar file, such as to upload it and run with its ``remote_id``.

        The same content makes the same archive.
        """
        if self._archive is not None:
            return self._archive
        import tarfile

        folder = _scratch.make_folder("pipeline-archive-")
        path = Path(folder) / f"{self.name}.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for entry in self.entries():
                member = tarfile.TarInfo(entry.path)
                member.mode = 0o755 if entry.executable or entry.file is None else 0o644
                if entry.file is None:
                    member.type = tarfile.DIRTYPE
                    archive.addfile(member)
                    continue
                with entry.file.open() as content:
                    member.size = entry.file.size
                    archive.addfile(member, content)
        result = File(path)
        weakref.finalize(result, _remove, folder, os.getpid())
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Directory):
            return NotImplemented
        if self is other:
            return True
        if (
            self._archive is not None
            and other._archive is not None
            and self._archive == other._archive
        ):
            return True
        ours, theirs = self.entries(), other.entries()
        return [entry[:2] for entry in ours] == [entry[:2] for entry in theirs] and all(
            mine.file == other_.file for mine, other_ in zip(ours, theirs, strict=True)
        )

    def __hash__(self) -> int:
        # Of what never changes; reading all of it would cost more than a bucket.
        return hash(Directory)

    def __repr__(self) -> str:
        return f"Directory({self.name!r})"

    def __copy__(self) -> Directory:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Directory:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        if self._archive is not None:
            return pickled.directory_archive, (self.name, self._archive)
        return pickled.directory, (self.name, [tuple(entry) for entry in self.entries()])


def _scan(root: Path) -> Iterator[Entry]:
    """Yield what is in a folder."""
    inside = root.resolve()
    count = 0
    # Folders to look into, with those above them, so that links do not go round in circles.
    waiting: list[tuple[PurePosixPath, frozenset[Path]]] = [(PurePosixPath(), frozenset((inside,)))]
    while waiting:
        relative, above = waiting.pop()
        empty = True
        for found in sorted(os.scandir(root / relative), key=lambda each: each.name):
            empty = False
            path = relative / found.name
            real, mode = _followed(root, inside, path)
            if stat.S_ISDIR(mode):
                if real in above:
                    raise _refused(root, path, "is a link to a folder that it is in")
                waiting.append((path, above | {real}))
                continue
            if not stat.S_ISREG(mode):
                raise _refused(root, path, "is a special file")
            count = _counted(root, count)
            yield Entry(_checked(root, path), bool(mode & stat.S_IXUSR), File(root / path))
        if empty and relative.parts:
            count = _counted(root, count)
            yield Entry(_checked(root, relative), False, None)


def _followed(root: Path, inside: Path, path: PurePosixPath) -> tuple[Path, int]:
    """Return where a path really is, and its mode."""
    status = (root / path).lstat()
    if not stat.S_ISLNK(status.st_mode):
        return inside / path, status.st_mode
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(inside):
        raise _refused(root, path, "is a link that leads outside")
    with suppress(FileNotFoundError):
        return real, real.lstat().st_mode
    raise _refused(root, path, "is a link to what is not there")


def _checked(root: Path, path: PurePosixPath) -> str:
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(root, path, "has a name that is no text") from None
    if fault := path_fault(text):
        raise _refused(root, path, fault)
    return text


def _counted(root: Path, count: int) -> int:
    if count >= MAX_DIRECTORY_ENTRIES:
        raise SerialisationError(
            f"the folder {str(root)!r} has more than {MAX_DIRECTORY_ENTRIES} entries "
            f"(max_entries={MAX_DIRECTORY_ENTRIES})",
            subject=root.name,
        )
    return count + 1


def _refused(root: Path, path: PurePosixPath, fault: str) -> SerialisationError:
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    return SerialisationError(f"{shown!r} in the folder {str(root)!r} {fault}", subject=shown)


def _remove(folder: str, owner: int) -> None:
    # A forked child inherits the finalizer, but not the folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
