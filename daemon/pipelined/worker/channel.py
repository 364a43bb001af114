"""Channels over AF_UNIX stream sockets: one that blocks, for the children, one for the event loop.

Both speak the format of ``framing.py``. File descriptors that are sent stay the caller's to close;
those that arrive belong to the frame. All are close-on-exec.
"""

from __future__ import annotations

import array
import asyncio
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from os import close, dup

from pipelined.worker.framing import MAX_FDS, MAX_INLINE_PAYLOAD, Frame, FrameDecoder, prefix
from pipelined.worker.shared_memory import MAX_KEPT, ProtocolError, Reused, seal

__all__ = ["AsyncChannel", "Channel", "ChannelClosed", "ProtocolError", "socket_pair"]

# As plain numbers: the enumeration's operators would take longer than the rest of the call.
_NO_SIGNAL = int(socket.MSG_NOSIGNAL)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_CTRUNC)
_ANCILLARY_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
# What a slow peer may leave unread before ``AsyncChannel.drain`` waits, in bytes.
_HIGH_WATER = 1024 * 1024


class ChannelClosed(Exception):
    """The other end is gone."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets for a channel, close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _receive(connection: socket.socket, decoder: FrameDecoder) -> int:
    """Receive once into the decoder and return the number of bytes; 0 at the end of the stream."""
    count, ancillary, message_flags, _ = connection.recvmsg_into(
        [decoder.space()], _ANCILLARY_SPACE, _CLOSE_ON_EXEC
    )
    if not ancillary and not message_flags & _TRUNCATED:
        decoder.received(count)
        return count
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            fds.extend(numbers)
    decoder.received(count, fds)
    if message_flags & _TRUNCATED:
        raise ProtocolError("more file descriptors than a frame may have")
    return count


def _rights(fds: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class Channel:
    """The blocking end, in the nursery and the workers.

    Any thread may send. One thread at a time may receive.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder = FrameDecoder()
        self._sending = threading.Lock()
        self._memory = Reused()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def fileno(self) -> int:
        """Return the socket's file descriptor, to poll; -1 once closed."""
        return self._connection.fileno()

    def send(
        self,
        header: bytes,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        *,
        reuse: bool = False,
        brief: bool = False,
    ) -> None:
        """Send one frame, waiting for room.

        With ``reuse`` a large payload goes into the memory of the one before that was sent so: the
        other end has to have read that. ``brief`` says what the header is; see ``framing``.

        Raises:
            ChannelClosed: The other end is gone.
            ProtocolError: The frame exceeds a limit; nothing was sent.
        """
        if len(payload) <= MAX_INLINE_PAYLOAD:
            head = prefix(header, len(payload), fds=len(fds), brief=brief)
            self._send([head, header, payload], fds)
            return
        head = prefix(header, len(payload), fds=len(fds) + 1, in_memfd=True, brief=brief)
        if reuse and len(payload) <= MAX_KEPT:
            self._send([head, header], [self._memory.hold(payload), *fds])
            return
        memory = seal(payload)
        try:
            self._send([head, header], [memory, *fds])
        finally:
            close(memory)

    def _send(self, parts: list[bytes], fds: Sequence[int]) -> None:
        with self._sending:
            try:
                if not fds:
                    self._connection.sendall(b"".join(parts), _NO_SIGNAL)
                    return
                sent = self._connection.sendmsg(parts, _rights(fds), _NO_SIGNAL)
                if sent < sum(map(len, parts)):
                    self._connection.sendall(b"".join(parts)[sent:], _NO_SIGNAL)
            except (BrokenPipeError, ConnectionResetError):
                raise ChannelClosed from None

    def receive(self) -> Frame:
        """Wait for the next frame.

        Raises:
            ChannelClosed: The other end is gone.
            ProtocolError: The other end does not keep to the format.
        """
        while (frame := self._decoder.next_frame()) is None:
            try:
                count = _receive(self._connection, self._decoder)
            except ConnectionResetError:
                raise ChannelClosed from None
            if count == 0:
                if not self._decoder.idle:
                    raise ProtocolError("the stream ended inside a frame")
                raise ChannelClosed
        return frame

    def is_readable(self) -> bool:
        """Whether bytes are here that have not been received, or the end of the stream."""
        return bool(self._poll.poll(0))

    def received(self) -> Frame | None:
        """Return the next frame if it arrived together with the one before, else None.

        To be called until it returns None before waiting for the socket to become readable.

        Raises:
            ProtocolError: The other end does not keep to the format.
        """
        return self._decoder.next_frame()

    def close(self) -> None:
        """Close the socket and whatever arrived and was not received."""
        self._connection.close()
        self._decoder.close()
        self._memory.close()


class AsyncChannel:
    """The daemon's end, on an event loop; to be used on that loop's thread only.

    Frames are handed to ``on_frame`` as they arrive, without a task in between. ``on_closed`` is
    called once, from the loop: with None when the other end is gone, or with the ProtocolError. It
    is not called after ``close``.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_frame: Callable[[Frame], None],
        on_closed: Callable[[ProtocolError | None], None],
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._decoder = FrameDecoder()
        self._loop = asyncio.get_running_loop()
        self._memory = Reused()
        # What the socket had no room for: bytes, and the descriptors that go with the first one.
        self._unsent: deque[tuple[memoryview, list[int]]] = deque()
        self._unsent_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._loop.add_reader(connection, self._readable)

    def send(
        self,
        header: bytes,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        *,
        reuse: bool = False,
        brief: bool = False,
    ) -> None:
        """Send one frame, or queue what the socket has no room for, in order.

        After ``close`` and when the other end is gone, nothing happens: ``on_closed`` tells. For
        ``reuse`` and ``brief`` see ``Channel.send``.

        Raises:
            ProtocolError: The frame exceeds a limit; nothing was sent.
        """
        if self._closed:
            return
        if len(payload) <= MAX_INLINE_PAYLOAD:
            head = prefix(header, len(payload), fds=len(fds), brief=brief)
            self._send([head, header, payload], fds)
            return
        head = prefix(header, len(payload), fds=len(fds) + 1, in_memfd=True, brief=brief)
        if reuse and len(payload) <= MAX_KEPT:
            self._send([head, header], [self._memory.hold(payload), *fds])
            return
        memory = seal(payload)
        try:
            self._send([head, header], [memory, *fds])
        finally:
            close(memory)

    def has_room(self, size: int) -> bool:
        """Whether a payload of so many bytes can be sent, with ``reuse``, without new memory."""
        return self._memory.has_room(size)

    def send_held(self, header: bytes, memory: Reused, size: int) -> None:
        """Send one frame with the payload in memory that is this channel's from now on.

        It is as if the payload had been sent with ``reuse``.
        """
        if self._closed:
            memory.close()
            return
        self._memory.close()
        self._memory = memory
        self._send([prefix(header, size, fds=1, in_memfd=True), header], [memory.fd])
        if size > MAX_KEPT:
            memory.close()

    async def drain(self) -> None:
        """Wait while more is queued than a peer that reads would leave."""
        await self._room.wait()

    def close(self) -> None:
        """Close the socket and everything that is queued or was not received."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self._connection.close()
        self._decoder.close()
        self._memory.close()
        for _, fds in self._unsent:
            for fd in fds:
                close(fd)
        self._unsent.clear()
        self._room.set()

    def receive_rest(self) -> None:
        """Hand out what a peer that is known to be dead has left in the socket."""
        # Bounded, since a child of the peer may have the socket too.
        for _ in range(64):
            if self._closed or not self._receive_once():
                return

    def _send(self, parts: list[bytes], fds: Sequence[int]) -> None:
        if self._closed:
            return
        data = b"".join(parts)
        sent = 0
        if not self._unsent:
            try:
                if fds:
                    sent = self._connection.sendmsg([data], _rights(fds), _NO_SIGNAL)
                else:
                    sent = self._connection.send(data, _NO_SIGNAL)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                return
            if sent == len(data):
                return
            self._loop.add_writer(self._connection, self._writable)
        rest = memoryview(data)[sent:]
        # The descriptors went with the first byte; if it did not go, they wait here as copies.
        self._unsent.append((rest, [] if sent else [dup(fd) for fd in fds]))
        self._unsent_bytes += len(rest)
        if self._unsent_bytes > _HIGH_WATER:
            self._room.clear()

    def _writable(self) -> None:
        while self._unsent:
            rest, fds = self._unsent[0]
            try:
                sent = self._connection.sendmsg([rest], _rights(fds), _NO_SIGNAL)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                # The reader finds out, too, and after it has read what the peer said last.
                self._loop.remove_writer(self._connection)
                return
            for fd in fds:
                close(fd)
            self._unsent_bytes -= sent
            if sent < len(rest):
                self._unsent[0] = (rest[sent:], [])
            else:
                self._unsent.popleft()
            if self._unsent_bytes <= _HIGH_WATER:
                self._room.set()
        self._loop.remove_writer(self._connection)

    def _readable(self) -> None:
        self._receive_once()

    def _receive_once(self) -> bool:
        """Receive once and hand out the frames; return whether there may be more."""
        try:
            count = _receive(self._connection, self._decoder)
            if count == 0:
                self._end(None)
                return False
            while not self._closed and (frame := self._decoder.next_frame()) is not None:
                self._on_frame(frame)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            self._end(None)
            return False
        except ProtocolError as error:
            self._end(error)
            return False
        return True

    def _end(self, error: ProtocolError | None) -> None:
        if not self._closed:
            # Before the other end can notice, so that it can be dealt with first.
            self._on_closed(error)
            self.close()
