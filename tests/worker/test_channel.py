"""Both kinds of channel over real sockets."""

import array
import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelined.worker.channel import AsyncChannel, Channel, ChannelClosed, socket_pair
from pipelined.worker.framing import MAX_INLINE_PAYLOAD, PREFIX, Frame
from pipelined.worker.shared_memory import SEALS, ProtocolError, seal


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def no_descriptor_is_leaked() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


class Peer:
    """An asynchronous channel that keeps what it receives."""

    def __init__(self, connection: socket.socket) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.closed: asyncio.Future[ProtocolError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.channel = AsyncChannel(connection, self.frames.put_nowait, self.closed.set_result)


def content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def null() -> BinaryIO:
    return Path(os.devnull).open("rb")


def pipe_with(data: bytes) -> int:
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


# Payloads by their sizes: hypothesis writes down what it tries.
messages = st.lists(
    st.tuples(
        st.binary(max_size=300),
        st.integers(0, 100)
        | st.integers(MAX_INLINE_PAYLOAD - 2, MAX_INLINE_PAYLOAD + 2)
        | st.integers(0, 3_000_000),
        st.lists(st.binary(max_size=10), max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@given(messages)
@settings(max_examples=40, deadline=None)
def test_what_is_sent_arrives_in_order_with_its_descriptors(
    messages: list[tuple[bytes, int, list[bytes]]],
) -> None:
    sent = [(header, os.urandom(size), pipes) for header, size, pipes in messages]

    async def echo() -> list[tuple[bytes, bytes, list[bytes]]]:
        ours, theirs = socket_pair()
        peer = Peer(ours)
        thread = threading.Thread(target=echo_frames, args=(Channel(theirs), len(sent)))
        thread.start()
        for header, payload, pipes in sent:
            fds = [pipe_with(data) for data in pipes]
            peer.channel.send(header, payload, fds)
            for fd in fds:
                os.close(fd)
        received = []
        for _ in sent:
            frame = await peer.frames.get()
            received.append((frame.header, frame.payload(), list(map(content, frame.take_fds()))))
        assert await peer.closed is None
        thread.join()
        return received

    assert asyncio.run(echo()) == sent


def echo_frames(channel: Channel, count: int) -> None:
    for _ in range(count):
        frame = channel.receive()
        fds = frame.take_fds()
        channel.send(frame.header, frame.payload(), fds)
        for fd in fds:
            os.close(fd)
    channel.close()


async def test_descriptors_close_on_exec() -> None:
    ours, theirs = socket_pair()
    sender, receiver = Channel(ours), Channel(theirs)
    with null() as file:
        sender.send(b"", fds=[file.fileno()])
    (fd,) = receiver.receive().take_fds()
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)
    sender.close()
    receiver.close()


async def test_a_slow_reader_makes_the_sender_wait_and_loses_nothing() -> None:
    ours, theirs = socket_pair()
    peer, reader = Peer(ours), Channel(theirs)
    bodies = [bytes([n]) * MAX_INLINE_PAYLOAD for n in range(40)]
    read_end = pipe_with(b"last")
    for body in bodies:
        peer.channel.send(b"", body)
    peer.channel.send(b"", b"", [read_end])
    os.close(read_end)
    draining = asyncio.create_task(peer.channel.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    frames = await asyncio.to_thread(lambda: [reader.receive() for _ in range(len(bodies) + 1)])
    await draining
    assert [frame.payload() for frame in frames[:-1]] == bodies
    assert content(*frames[-1].take_fds()) == b"last"
    peer.channel.close()
    reader.close()


async def test_closing_drops_what_is_queued() -> None:
    ours, theirs = socket_pair()
    peer = Peer(ours)
    with theirs, null() as file:
        for _ in range(20):
            peer.channel.send(b"", bytes(MAX_INLINE_PAYLOAD), [file.fileno()])
        peer.channel.close()
        peer.channel.send(b"after the end")
    assert not peer.closed.done()


async def test_the_end_of_the_other_side_is_told_once() -> None:
    ours, theirs = socket_pair()
    peer = Peer(ours)
    theirs.close()
    assert await peer.closed is None
    peer.channel.send(b"into the void")


def test_a_blocking_channel_says_when_the_other_side_is_gone() -> None:
    ours, theirs = socket_pair()
    channel = Channel(ours)
    theirs.close()
    with pytest.raises(ChannelClosed):
        channel.receive()
    with pytest.raises(ChannelClosed):
        channel.send(b"")
    channel.close()


def test_a_stream_that_ends_inside_a_frame_is_a_protocol_error() -> None:
    ours, theirs = socket_pair()
    channel = Channel(ours)
    theirs.send(PREFIX.pack(b"PF", 0, 0, 10, 0))
    theirs.close()
    with pytest.raises(ProtocolError):
        channel.receive()
    channel.close()


def unsealed(size: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def shrinkable(size: int) -> int:
    fd = unsealed(size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS & ~fcntl.F_SEAL_SHRINK & ~fcntl.F_SEAL_SEAL)
    return fd


def of_another_size(size: int) -> int:
    return seal(bytes(size - 1))


def no_memory(size: int) -> int:
    return os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("make", [unsealed, shrinkable, of_another_size, no_memory])
async def test_shared_memory_that_could_change_is_refused(make: Callable[[int], int]) -> None:
    ours, theirs = socket_pair()
    peer = Peer(ours)
    size = 100_000
    fd = make(size)
    send_raw(theirs, PREFIX.pack(b"PF", 1, 1, 0, size), [fd])
    frame = await peer.frames.get()
    with pytest.raises(ProtocolError):
        frame.payload()
    frame.close()
    os.close(fd)
    theirs.close()
    await peer.closed


@pytest.mark.parametrize(
    ("data", "descriptors"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 0),
        (b"GET / HTTP/1.1\r\n\r\n", 3),
        (PREFIX.pack(b"PF", 0, 0, 0, 0), 2),
        (PREFIX.pack(b"PF", 0, 2, 0, 0), 1),
        (PREFIX.pack(b"PF", 0, 1, 100, 0), 5),
        (b"PF", 9),
    ],
    ids=[
        "another protocol",
        "another protocol with descriptors",
        "surplus descriptors",
        "missing descriptor",
        "surplus descriptors, incomplete frame",
        "too many descriptors",
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_given_up_and_leaves_nothing(
    data: bytes, descriptors: int
) -> None:
    ours, theirs = socket_pair()
    peer = Peer(ours)
    with theirs, null() as file:
        send_raw(theirs, data, [file.fileno()] * descriptors)
        assert isinstance(await peer.closed, ProtocolError)
        assert theirs.recv(1) == b""


def send_raw(connection: socket.socket, data: bytes, fds: list[int]) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    connection.sendmsg([data], [rights] if fds else [])
