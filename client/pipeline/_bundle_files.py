"""The files of a folder as one archive, which is the same on every machine.

The archive is an uncompressed tar in the pax format: regular files only, sorted by name, without
owners and times. Of the modes only whether the owner may execute is kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pipeline import errors
from pipelined_api.limits import MAX_BUNDLE_BYTES, MAX_BUNDLE_ENTRIES

__all__ = ["IGNORE_FILE", "Archive", "archive", "unpack"]

IGNORE_FILE = ".pipelineignore"
# Hidden files and folders (.git, .venv) are left out anyway.
_DEFAULT_PATTERNS = ("__pycache__/", "*.pyc", "*.pyo", "*.egg-info/", "venv/")
_UNPACKING_CHUNK = 2**20


@dataclass(frozen=True)
class Archive:
    """An archive of a folder.

    Attributes:
        content: the tar archive.
        names: of its files, sorted, with slashes.

    """

    content: bytes = field(repr=False)
    names: tuple[str, ...]

    @property
    def sha256(self) -> bytes:
        """Of the content, 32 bytes."""
        return hashlib.sha256(self.content).digest()


def archive(folder: Path) -> Archive:
    """Archive the files of a folder, without those that are ignored.

    Ignored are hidden files and folders, ``__pycache__``, compiled Python, ``venv``, and what
    patterns in ``.pipelineignore`` match, one a line: ``*.ckpt`` anywhere, ``data/`` any folder of
    that name, ``/notes.txt`` and ``docs/*.pdf`` from the top, ``a/**/b`` at any depth. Links to
    files inside the folder are archived as what they lead to.

    Raises:
        errors.InvalidInput: there is no such folder, something in it cannot be read, leads out of
            it or is no file, or it has too many files or bytes.

    """
    root = folder.resolve()
    if not root.is_dir():
        raise errors.InvalidInput(f"there is no folder {str(folder)!r}", field="folder")
    try:
        patterns = [*map(_Pattern, _DEFAULT_PATTERNS), *_ignored(root)]
        found = sorted(_files(root, root, PurePosixPath(), patterns))
        return _written(found)
    except OSError as error:
        what = f"{error.filename!r} cannot be read: {error.strerror}"
        raise errors.InvalidInput(what, field="folder") from error


class _Pattern:
    def __init__(self, line: str) -> None:
        self._folders_only = line.endswith("/")
        stripped = line.rstrip("/")
        self._parts = stripped.lstrip("/").split("/")
        self._anywhere = "/" not in stripped

    def matches(self, path: PurePosixPath, is_folder: bool) -> bool:
        if self._folders_only and not is_folder:
            return False
        if self._anywhere:
            return fnmatchcase(path.name, self._parts[0])
        return _match(self._parts, list(path.parts))


def _match(pattern: list[str], parts: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_match(pattern[1:], parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _match(pattern[1:], parts[1:])


def _ignored(root: Path) -> Iterator[_Pattern]:
    path = root / IGNORE_FILE
    if not path.is_file():
        return
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise errors.InvalidInput(f"{IGNORE_FILE} is not UTF-8", field=IGNORE_FILE) from None
    for number, line in enumerate(text.splitlines(), 1):
        pattern = line.strip()
        if pattern.startswith("!"):
            raise errors.InvalidInput(
                f"{IGNORE_FILE}, line {number}: {pattern!r} takes a pattern back, which is not "
                "supported; list what is to be ignored",
                field=IGNORE_FILE,
            )
        if pattern.strip("/") and not pattern.startswith("#"):
            yield _Pattern(pattern)


def _files(
    root: Path, folder: Path, place: PurePosixPath, patterns: list[_Pattern]
) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        inner = place / path.name
        if path.name.startswith("."):
            continue
        is_folder = path.is_dir()
        if any(pattern.matches(inner, is_folder) for pattern in patterns):
            continue
        if path.is_symlink():
            target = path.resolve()
            if not target.is_relative_to(root):
                raise _refused(inner, f"is a link that leads out of the folder, to {str(target)!r}")
            if is_folder and folder.resolve().is_relative_to(target):
                raise _refused(inner, "is a link to a folder that it lies in")
        if is_folder:
            yield from _files(root, path, inner, patterns)
        elif path.is_file():
            yield _encodable(inner), path
        else:
            what = "is a broken link" if path.is_symlink() else "is neither a file nor a folder"
            raise _refused(inner, what)


def _encodable(path: PurePosixPath) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise _refused(path, "has a name that is not UTF-8") from None
    return str(path)


def _refused(path: PurePosixPath, why: str) -> errors.InvalidInput:
    return errors.InvalidInput(
        f"{str(path)!r} {why}; remove it or name it in {IGNORE_FILE}", field=str(path)
    )


def _written(files: list[tuple[str, Path]]) -> Archive:
    if len(files) > MAX_BUNDLE_ENTRIES:
        raise errors.InvalidInput(
            f"the folder has {len(files)} files, more than the limit of {MAX_BUNDLE_ENTRIES}; name "
            f"what the pipeline does not need in {IGNORE_FILE}",
            field="folder",
            bound=f"max_files={MAX_BUNDLE_ENTRIES}",
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if buffer.tell() + status.st_size > MAX_BUNDLE_BYTES:
                    raise _too_large(files)
                content = file.read()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            tar.addfile(entry, io.BytesIO(content))
    content = buffer.getvalue()
    if len(content) > MAX_BUNDLE_BYTES:
        raise _too_large(files)
    return Archive(content, tuple(name for name, _ in files))


def _too_large(files: list[tuple[str, Path]]) -> errors.InvalidInput:
    sizes = {name: path.stat().st_size for name, path in files}
    largest = max(sizes, key=lambda name: sizes[name])
    return errors.InvalidInput(
        f"the folder's files have {sum(sizes.values())} bytes, more than the limit of "
        f"{MAX_BUNDLE_BYTES}; the largest is {largest!r} with {sizes[largest]}. Name what the "
        f"pipeline does not need in {IGNORE_FILE}, and give weights as a File",
        field="folder",
        bound=f"max_bytes={MAX_BUNDLE_BYTES}",
    )


_UNSAFE = re.compile(r"[\x00\\]")


def unpack(content: bytes, folder: Path) -> None:
    """Write the files of an archive into an empty folder, and nothing outside it.

    Raises:
        errors.SerialisationError: it is damaged, or not such an archive as ``archive`` makes.
        OSError: a file cannot be written.

    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for number, entry in enumerate(tar):
                if number >= MAX_BUNDLE_ENTRIES:
                    raise _damaged(f"it has more than {MAX_BUNDLE_ENTRIES} files")
                _unpack_entry(tar, entry, folder)
    except tarfile.TarError as error:
        raise _damaged(str(error)) from error


def _unpack_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    parts = entry.name.split("/")
    if _UNSAFE.search(entry.name) or any(part in ("", ".", "..") for part in parts):
        raise _damaged(f"{entry.name!r} is no name of a file in it")
    # One with holes would be as large as it says, whatever is in the archive.
    if entry.issparse() or entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _damaged(f"{entry.name!r} is no regular file")
    path = folder.joinpath(*parts)
    source = tar.extractfile(entry)
    assert source is not None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o700 if entry.mode & stat.S_IXUSR else 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
    except (FileExistsError, NotADirectoryError):
        raise _damaged(f"{entry.name!r} is there twice") from None
    with os.fdopen(descriptor, "wb") as target:
        while chunk := source.read(_UNPACKING_CHUNK):
            target.write(chunk)


def _damaged(why: str) -> errors.SerialisationError:
    return errors.SerialisationError(f"the bundle cannot be unpacked: {why}", subject="bundle")
