"""The frame format, without any input or output but the descriptors themselves."""

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelined.worker.framing import (
    MAX_FDS,
    MAX_HEADER,
    MAX_INLINE_PAYLOAD,
    MAX_PAYLOAD,
    PREFIX,
    Frame,
    FrameDecoder,
    brief_success,
    prefix,
    read_brief_success,
)
from pipelined.worker.shared_memory import ProtocolError


def decode(decoder: FrameDecoder, data: bytes) -> list[Frame]:
    """Put bytes into the decoder as a socket would, as many as it has space for at a time."""
    frames = []
    while data:
        with decoder.space() as space:
            count = min(len(space), len(data))
            space[:count] = data[:count]
        decoder.received(count)
        data = data[count:]
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


# Header and payload by their sizes: hypothesis writes down what it tries.
sizes = st.lists(
    st.tuples(
        st.integers(0, 200) | st.integers(0, 300_000),
        st.integers(0, 200) | st.integers(MAX_INLINE_PAYLOAD - 2, MAX_INLINE_PAYLOAD),
    ),
    max_size=6,
)


@given(sizes, st.lists(st.integers(0, 2_000_000), max_size=8))
@settings(deadline=None)
def test_frames_arrive_whole_however_the_stream_is_cut(
    sizes: list[tuple[int, int]], cuts: list[int]
) -> None:
    sent = [
        (bytes([n]) * header, bytes([n + 100]) * body) for n, (header, body) in enumerate(sizes)
    ]
    stream = b"".join(prefix(header, len(body)) + header + body for header, body in sent)
    points = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    decoder = FrameDecoder()
    received: list[Frame] = []
    for start, end in pairwise(points):
        received += decode(decoder, stream[start:end])
    assert [(frame.header, frame.payload()) for frame in received] == sent
    assert decoder.idle


@given(st.binary(min_size=PREFIX.size, max_size=64))
def test_arbitrary_bytes_are_frames_or_a_protocol_error(data: bytes) -> None:
    try:
        frames = decode(FrameDecoder(), data)
    except ProtocolError:
        return
    assert data.startswith(b"PF")
    assert sum(len(f.header) + len(f.inline) + PREFIX.size for f in frames) <= len(data)


@pytest.mark.parametrize(
    ("magic", "flags", "fds", "header", "payload"),
    [
        (b"XX", 0, 0, 0, 0),
        (b"PF", 4, 0, 0, 0),
        (b"PF", 0, MAX_FDS + 1, 0, 0),
        (b"PF", 0, 0, MAX_HEADER + 1, 0),
        (b"PF", 0, 0, 0, MAX_INLINE_PAYLOAD + 1),
        (b"PF", 1, 1, 0, MAX_PAYLOAD + 1),
        (b"PF", 1, 0, 0, 100),
        (b"PF", 0, 1, 0, 0),
    ],
    ids=[
        "magic",
        "unknown flag",
        "too many descriptors",
        "header too long",
        "large payload in the stream",
        "payload too large",
        "shared memory without a descriptor",
        "a descriptor that did not come",
    ],
)
def test_malformed_prefixes_are_refused(
    magic: bytes, flags: int, fds: int, header: int, payload: int
) -> None:
    with pytest.raises(ProtocolError):
        decode(FrameDecoder(), PREFIX.pack(magic, flags, fds, header, payload))


@pytest.mark.parametrize(
    ("header", "payload", "fds"),
    [(b"h" * (MAX_HEADER + 1), 0, 0), (b"", MAX_PAYLOAD + 1, 0), (b"", 0, MAX_FDS + 1)],
    ids=["header", "payload", "descriptors"],
)
def test_frames_beyond_a_limit_are_not_made(header: bytes, payload: int, fds: int) -> None:
    with pytest.raises(ProtocolError):
        prefix(header, payload, fds=fds)


def test_descriptors_that_belong_to_no_frame_are_refused_and_closed() -> None:
    decoder = FrameDecoder()
    fd = os.open(os.devnull, os.O_RDONLY)
    decoder.received(0, [fd])
    with pytest.raises(ProtocolError):
        decode(decoder, prefix(b"", 0))
    decoder.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@given(st.text(st.characters(codec="utf-8"), max_size=64), st.floats(allow_nan=False))
def test_a_brief_header_says_the_run_and_its_seconds(run_id: str, seconds: float) -> None:
    header = brief_success(run_id, seconds)
    data = prefix(header, 3, brief=True) + header + b"out" + prefix(b"header", 0) + b"header"
    brief, long = decode(FrameDecoder(), data)
    assert (brief.brief, long.brief) == (True, False)
    assert read_brief_success(brief.header) == (run_id, seconds)
    assert brief.payload() == b"out"


@pytest.mark.parametrize("header", [b"", b"short", bytes(8) + b"\xff"])
def test_a_brief_header_that_says_nothing_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_brief_success(header)
