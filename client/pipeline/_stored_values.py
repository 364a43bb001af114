"""Files, folders and contents too large for a message, as wire values: the part of ``_values``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline import _fetching
from pipeline.errors import PipelineError, SerialisationError
from pipelined_api.limits import MAX_CROWDED_INLINE_BYTES, MAX_INLINE_FILE_BYTES
from pipelined_api.v1 import values_pb2
from pipelined_api.wire_values import SchemaViolation

if TYPE_CHECKING:
    from mmap import mmap

    from pipeline.objects.directories import Directory
    from pipeline.objects.files import File

Stored = Callable[["File"], str]
"""Takes care of a File that is too large for a message; returns its hexadecimal SHA-256. Tensors
and bytes that are too large come as Files, too."""
Opened = Callable[[values_pb2.File], "File"]
"""Makes a File of a wire value that refers to its content."""


def store(data: memoryview, name: str, subject: str, stored: Stored) -> values_pb2.StoredContent:
    """Have a content taken as a File; return what refers to it."""
    from pipeline.objects.files import File

    return values_pb2.StoredContent(
        sha256=_taken(File.from_buffer(data, name=name), subject, stored), size=data.nbytes
    )


def _taken(file: File, subject: str, stored: Stored) -> bytes:
    try:
        return bytes.fromhex(stored(file))
    except SerialisationError as error:
        raise SerialisationError(f"{subject}: {error}", subject=subject) from error


def encode_file(file: File, subject: str, wire: values_pb2.File, stored: Stored | None) -> None:
    """Write a File into its wire value; see ``_values.encode``."""
    wire.name = file.name
    wire.media_type = file.media_type
    if file.url and not _fetching.is_restricted():
        wire.url = file.url
        if file.has_digest:
            wire.sha256 = bytes.fromhex(file.sha256)
        return
    if file.remote_id:
        if stored is None:
            raise SerialisationError(
                f"{subject}: {file!r} is in a daemon; it can only be an input of a run there",
                subject=subject,
            )
        wire.sha256 = bytes.fromhex(file.remote_id)
        wire.stored = True
        return
    try:
        if stored is not None and (size := file.size) > MAX_INLINE_FILE_BYTES:
            wire.size = size
            wire.sha256 = _taken(file, subject, stored)
            wire.stored = True
            return
        content = file.read()
    except OSError as error:
        raise SerialisationError(
            f"{subject}: {file!r} cannot be read: {error}", subject=subject
        ) from error
    wire.size = len(content)
    wire.sha256 = hashlib.sha256(content).digest()
    wire.data = content


def encode_directory(
    directory: Directory, subject: str, wire: values_pb2.Directory, stored: Stored | None
) -> None:
    """Write a Directory into its wire value; see ``_values.encode``."""
    wire.name = directory.name
    archive = directory.archive_file
    if archive is not None and not _fetching.is_restricted():
        encode_file(archive, f"{subject}.archive", wire.archive, stored)
        return
    try:
        entries = directory.entries()
    except SerialisationError as error:
        raise SerialisationError(f"{subject}: {error}", subject=subject) from error
    except OSError as error:
        raise SerialisationError(
            f"{subject}: {directory!r} cannot be read: {error}", subject=subject
        ) from error
    for entry in entries:
        part = wire.entries.add(path=entry.path, executable=entry.executable)
        if entry.file is not None:
            encode_file(entry.file, f"{subject}[{entry.path!r}]", part.file, stored)


def thin_out_file(file: values_pb2.File, subject: str, stored: Stored) -> None:
    """Have a large content go beside the message; see ``_values.thin_out``."""
    if len(file.data) > MAX_CROWDED_INLINE_BYTES:
        store(memoryview(file.data), file.name, subject, stored)
        file.stored = True


def mapped(file: values_pb2.File, subject: str, stored: Opened | None) -> mmap:
    """Return memory of a content that is not in the value."""
    content = decode_file(file, subject, stored).map()
    if len(content) != file.size:
        raise SchemaViolation(subject, f"has {len(content)} bytes and not {file.size}")
    return content


def decode_file(wire: values_pb2.File, subject: str, stored: Opened | None) -> File:
    """Make a File of its wire value; see ``_values.decode``."""
    from pipeline.objects.files import File

    if wire.url:
        try:
            _fetching.check(wire.url)
        except PipelineError as error:
            raise SchemaViolation(subject, error.message) from None
        sha256 = wire.sha256.hex() or None
        file = File(url=wire.url, name=wire.name, sha256=sha256)
        file.media_type = wire.media_type
        return file
    if wire.stored:
        if stored is None:
            raise SchemaViolation(subject, "refers to a content that is elsewhere")
        return stored(wire)
    return File.from_bytes(wire.data, name=wire.name, media_type=wire.media_type)


def decode_directory(wire: values_pb2.Directory, subject: str, stored: Opened | None) -> Directory:
    """Make a Directory of its wire value; see ``_values.decode``."""
    from pipeline.objects.directories import Directory, Entry

    if wire.HasField("archive"):
        archive = decode_file(wire.archive, f"{subject}.archive", stored)
        return Directory.from_archive(archive, name=wire.name)
    entries = []
    for part in wire.entries:
        file = None
        if part.HasField("file"):
            file = decode_file(part.file, f"{subject}[{part.path!r}]", stored)
        entries.append(Entry(part.path, part.executable, file))
    return Directory.from_files(entries, name=wire.name)
