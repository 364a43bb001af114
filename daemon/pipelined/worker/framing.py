"""The format of what the daemon, the nursery and the workers say to each other.

A frame on the stream, all numbers little-endian::

    offset  bytes  field
    0       2      magic: "PF"
    2       1      flags: bit 0, the payload is in a memfd and not in the stream;
                   bit 1, the header is brief
    3       1      file descriptors that come with the frame, the memfd first
    4       4      header length
    8       8      payload length
    16      …      header: a message of pipelined.worker.v1, unless it is brief
            …      payload, unless it is in a memfd

File descriptors travel with SCM_RIGHTS beside the first bytes of their frame, so they have arrived
by the time the frame is whole, and in the order of the frames. Small payloads stay in the stream:
one system call to send, one to receive. Large ones go through shared memory, from which they are
read once (see ``shared_memory.py``).

What is said of nearly every run is brief: to the worker, that it is to execute it, as the run's id;
from the worker, that it has succeeded, as the seconds that its nodes took, a double, and the id.
Where there is more to say the header is a message.

This module does no input or output.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError

from pipelined.worker.shared_memory import ProtocolError, read_shared

PREFIX = Struct("<2sBBIQ")
MAGIC = b"PF"
PAYLOAD_IN_MEMFD = 1
BRIEF = 2
_FLAGS = PAYLOAD_IN_MEMFD | BRIEF
_SECONDS = Struct("<d")

MAX_INLINE_PAYLOAD = 64 * 1024
MAX_HEADER = 4 * 1024 * 1024
# A message at the limit of the wire API (64 MiB), with room for what the daemon adds to it.
MAX_PAYLOAD = 72 * 1024 * 1024
MAX_FDS = 8

_INITIAL_BUFFER = 80 * 1024


@dataclass(slots=True)
class Frame:
    """One frame as it arrived.

    Whoever gets a frame owns its file descriptors: ``take_fds`` hands them on, ``close`` closes
    what is left.
    """

    header: bytes
    inline: bytes = b""
    memory: int | None = None
    size: int = 0
    fds: list[int] = field(default_factory=list)
    brief: bool = False

    def payload(self) -> bytes:
        """Return the payload, copying it out of shared memory if it is there.

        Raises:
            ProtocolError: The shared memory could change its length, or is shorter than announced.
        """
        if self.memory is None:
            return self.inline
        memory, self.memory = self.memory, None
        try:
            self.inline = read_shared(memory, self.size)
        finally:
            os.close(memory)
        return self.inline

    def take_fds(self) -> list[int]:
        """Return the file descriptors that are not the payload; the caller closes them."""
        fds, self.fds = self.fds, []
        return fds

    def close(self) -> None:
        """Close the file descriptors that nobody took."""
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None
        for fd in self.take_fds():
            os.close(fd)


def brief_success(run_id: str, seconds: float) -> bytes:
    """Return the brief header that says that a run has succeeded."""
    return _SECONDS.pack(seconds) + run_id.encode()


def read_brief_success(header: bytes) -> tuple[str, float]:
    """Return the run's id and the seconds of what ``brief_success`` has made.

    Raises:
        ProtocolError: It has not.
    """
    try:
        return header[_SECONDS.size :].decode(), _SECONDS.unpack_from(header)[0]
    except (StructError, UnicodeDecodeError):
        raise ProtocolError("a brief header that says nothing") from None


def prefix(
    header: bytes, size: int, *, fds: int = 0, in_memfd: bool = False, brief: bool = False
) -> bytes:
    """Return the prefix of a frame whose payload has ``size`` bytes.

    Raises:
        ProtocolError: The frame would exceed a limit, so the other side would refuse it.
    """
    if len(header) > MAX_HEADER or size > MAX_PAYLOAD or fds > MAX_FDS:
        raise ProtocolError(f"frame too large: header {len(header)}, payload {size}, {fds} fds")
    flags = (PAYLOAD_IN_MEMFD if in_memfd else 0) | (BRIEF if brief else 0)
    return PREFIX.pack(MAGIC, flags, fds, len(header), size)


class FrameDecoder:
    """Makes frames of the bytes and file descriptors that arrive on one stream.

    Receive into ``space()``, then call ``received``, then take frames with ``next_frame`` until it
    returns None. After a ProtocolError the stream is of no use any more; ``close`` the decoder.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_INITIAL_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._fds: deque[int] = deque()
        # Of the frame at _start, once its prefix is there: flags, fds, header and payload length.
        self._head: tuple[int, int, int, int] | None = None

    @property
    def idle(self) -> bool:
        """Whether the stream is between two frames, so that it may end here."""
        return self._start == self._end and not self._fds

    def space(self) -> memoryview:
        """Return the memory that the next bytes go into, at least one byte.

        To be called once ``next_frame`` has returned None; release it before the next call.
        """
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _INITIAL_BUFFER:
                self._replace(bytearray(_INITIAL_BUFFER))
        needed = PREFIX.size if self._head is None else self._frame_size(self._head)
        if self._start + needed > len(self._buffer):
            # A new buffer, since the old one may still be exported by a memoryview.
            buffer = bytearray(max(needed, _INITIAL_BUFFER))
            kept = self._end - self._start
            buffer[:kept] = self._view[self._start : self._end]
            self._replace(buffer)
            self._start, self._end = 0, kept
        return self._view[self._end :]

    def received(self, count: int, fds: Iterable[int] = ()) -> None:
        """Take note of what was received; the decoder owns the file descriptors from here on."""
        self._end += count
        self._fds.extend(fds)

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None if more bytes are needed.

        Raises:
            ProtocolError: The bytes are not a frame, or a limit is exceeded.
        """
        start = self._start
        available = self._end - start
        head = self._head
        if head is None:
            if available < PREFIX.size:
                if self._fds:
                    self._check_surplus(MAX_FDS if available else 0)
                return None
            head = self._parse_prefix()
        flags, fd_count, header_size, payload_size = head
        in_memfd = flags & PAYLOAD_IN_MEMFD
        payload_at = start + PREFIX.size + header_size
        end = payload_at if in_memfd else payload_at + payload_size
        if self._end < end:
            self._head = head
            # All of a frame's descriptors come with its first byte, and no later frame is here yet.
            self._check_surplus(fd_count)
            return None
        if len(self._fds) < fd_count:
            raise ProtocolError(f"{fd_count} file descriptors announced, {len(self._fds)} came")
        self._head = None
        self._start = end
        view = self._view
        header = bytes(view[start + PREFIX.size : payload_at])
        brief = bool(flags & BRIEF)
        fds = [self._fds.popleft() for _ in range(fd_count)] if fd_count else []
        if in_memfd:
            return Frame(header, b"", fds[0], payload_size, fds[1:], brief)
        return Frame(header, bytes(view[payload_at:end]), None, payload_size, fds, brief)

    def _replace(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)

    def close(self) -> None:
        """Close the file descriptors of frames that never became whole."""
        while self._fds:
            os.close(self._fds.popleft())

    def _parse_prefix(self) -> tuple[int, int, int, int]:
        magic, flags, fds, header_size, payload_size = PREFIX.unpack_from(self._buffer, self._start)
        if magic != MAGIC or flags & ~_FLAGS:
            raise ProtocolError(f"not a frame: it begins with {magic!r}, flags {flags:#x}")
        if header_size > MAX_HEADER or payload_size > MAX_PAYLOAD or fds > MAX_FDS:
            raise ProtocolError(
                f"frame too large: header {header_size}, payload {payload_size}, {fds} fds"
            )
        if flags & PAYLOAD_IN_MEMFD:
            if fds == 0:
                raise ProtocolError("a payload in shared memory, without the shared memory")
        elif payload_size > MAX_INLINE_PAYLOAD:
            raise ProtocolError(f"a payload of {payload_size} bytes in the stream")
        return flags, fds, header_size, payload_size

    def _check_surplus(self, allowed: int) -> None:
        if len(self._fds) > allowed:
            raise ProtocolError("file descriptors that belong to no frame")

    @staticmethod
    def _frame_size(head: tuple[int, int, int, int]) -> int:
        flags, _, header_size, payload_size = head
        inline = 0 if flags & PAYLOAD_IN_MEMFD else payload_size
        return PREFIX.size + header_size + inline
