"""Payloads in shared memory that is as long as its sender says, whatever that does.

The receiver reads it once, into memory of its own, and uses only that: what the sender changes
later, or meanwhile, changes nothing but what it has sent itself. The seals keep the memory as long
as it is, so that all of it can be read, and tell it from files that would take their time.

Getting memory costs more than copying into it: of 4 MiB the first touch of each page took 2 to
17 ms on a virtual machine whose host takes unused pages back, writing them again 0.3 ms. So a
sender that knows that its last payload has been read puts the next one into the same memory
(``Reused``).
"""

from __future__ import annotations

import fcntl
import os

_LENGTH = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | _LENGTH
# No more is kept for the next payload: each worker may have as much, twice.
MAX_KEPT = 16 * 1024 * 1024
_LEAST_KEPT = 1024 * 1024


class ProtocolError(Exception):
    """The other end of a channel does not keep to the format; it is given up."""


def seal(payload: bytes | memoryview) -> int:
    """Return a memfd that holds the payload, never to be changed; the caller closes it."""
    fd = _memory()
    try:
        view = memoryview(payload).cast("B")
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Reused:
    """Memory for one payload after the other.

    Attributes:
        fd: The memfd; -1 before the first.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._size = 0

    @classmethod
    def holding(cls, payload: bytes) -> Reused:
        """Return new memory that begins with the payload."""
        memory = cls()
        memory.hold(payload)
        return memory

    def has_room(self, size: int) -> bool:
        """Whether a payload of so many bytes fits into the memory that is there already."""
        return size <= self._size

    def hold(self, payload: bytes) -> int:
        """Return a memfd that begins with the payload, and keeps it until the next one is held.

        It stays this object's. Whoever was sent the payload before has to have read it.
        """
        if len(payload) > self._size:
            self._grow(len(payload))
        view = memoryview(payload)
        done = 0
        while done < len(view):
            done += os.pwrite(self.fd, view[done:], done)
        return self.fd

    def close(self) -> None:
        """Give the memory back."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self._size = -1, 0

    def _grow(self, size: int) -> None:
        self.close()
        # In few steps: each begins with new memory.
        capacity = max(_LEAST_KEPT, 1 << (size - 1).bit_length())
        fd = _memory()
        try:
            os.ftruncate(fd, capacity)
            # The receiver cannot keep its sender from writing either.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | _LENGTH)
        except BaseException:
            os.close(fd)
            raise
        self.fd, self._size = fd, capacity


def read_shared(fd: int, size: int) -> bytes:
    """Return the first ``size`` bytes of a memfd.

    It is read and not mapped, since all who use it (protobuf, gRPC) want a bytes object, which a
    mapping would have to be copied into just the same.

    Raises:
        ProtocolError: It is none, its length could change, or it is shorter.
    """
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _LENGTH != _LENGTH:
            raise ProtocolError("a payload in shared memory that is not sealed")
        if os.fstat(fd).st_size < size:
            raise ProtocolError("a payload of another size than announced")
        content = os.pread(fd, size, 0)
    except OSError as error:
        # A descriptor of another kind, or one that is not open for reading.
        raise ProtocolError(f"a payload that is in no readable memfd: {error.strerror}") from None
    if len(content) != size:
        raise ProtocolError("a payload that cannot be read whole")
    return content


def _memory() -> int:
    return os.memfd_create("pipelined-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
