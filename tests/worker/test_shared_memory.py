"""Memory that is used for one payload after the other."""

from __future__ import annotations

import fcntl
import os

import pytest

from pipelined.worker.channel import Channel, socket_pair
from pipelined.worker.shared_memory import MAX_KEPT, ProtocolError, Reused, read_shared


def test_each_payload_is_read_as_it_was_held_and_the_memory_stays_the_same() -> None:
    memory = Reused()
    payloads = [bytes([n]) * (1_000_000 - n * 10_000) for n in range(1, 5)]
    descriptors = set()
    for payload in payloads:
        descriptor = memory.hold(payload)
        descriptors.add(os.fstat(descriptor).st_ino)
        assert read_shared(descriptor, len(payload)) == payload
    assert len(descriptors) == 1
    assert memory.has_room(len(payloads[0]))
    memory.close()
    assert not memory.has_room(1)


def test_memory_that_is_too_small_is_replaced_and_what_was_sent_before_is_not_touched() -> None:
    memory = Reused()
    first = os.dup(memory.hold(b"a" * 100_000))
    large = memory.hold(b"b" * 3_000_000)
    assert read_shared(first, 100_000) == b"a" * 100_000
    assert read_shared(large, 3_000_000) == b"b" * 3_000_000
    os.close(first)
    memory.close()


def test_the_receiver_can_neither_change_the_length_nor_keep_its_sender_from_writing() -> None:
    memory = Reused()
    descriptor = os.dup(memory.hold(b"a" * 100_000))
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with pytest.raises(ProtocolError):
        read_shared(descriptor, 1 << 30)
    os.close(descriptor)
    memory.close()


@pytest.mark.parametrize("size", [100_000, MAX_KEPT + 1])
def test_payloads_of_any_size_go_through_a_channel_one_after_the_other(size: int) -> None:
    ours, theirs = map(Channel, socket_pair())
    for n in range(3):
        ours.send(b"header", bytes([n]) * size, reuse=True)
        frame = theirs.receive()
        assert frame.payload() == bytes([n]) * size
        frame.close()
    ours.close()
    theirs.close()
