"""Payloads in shared memory that nobody can change any more.

The receiver reads memory that the sender still has mapped. Without seals a sender could shrink it
under the reader, who would then get SIGBUS, or change it between check and use. Sealed memory can
neither shrink nor grow nor be written, so its content is as good as a copy.
"""

from __future__ import annotations

import fcntl
import os

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_REQUIRED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ProtocolError(Exception):
    """The other end of a channel does not keep to the format; it is given up."""


def seal(payload: bytes | memoryview) -> int:
    """Return a memfd that holds the payload, sealed; the caller closes it."""
    fd = os.memfd_create("pipelined-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(payload).cast("B")
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_sealed(fd: int, size: int) -> bytes:
    """Return the ``size`` bytes of a sealed memfd.

    It is read and not mapped, since all who use it (protobuf, gRPC) want a bytes object, which a
    mapping would have to be copied into just the same.

    Raises:
        ProtocolError: It is not sealed, or not of this size.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if seals & _REQUIRED != _REQUIRED:
            raise ProtocolError("a payload in shared memory that is not sealed")
        if os.fstat(fd).st_size != size:
            raise ProtocolError("a payload of another size than announced")
        content = os.pread(fd, size, 0)
    except OSError as error:
        # A descriptor of another kind, or one that is not open for reading.
        raise ProtocolError(f"a payload that is in no readable memfd: {error.strerror}") from None
    if len(content) != size:
        raise ProtocolError("a payload that cannot be read whole")
    return content
