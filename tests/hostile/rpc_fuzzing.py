"""Messages that nobody would send, for every method of the daemon: made from the descriptors.

A call is a method with any number of messages. Each is one that fits the method's type, filled with
what is at the edge of what fields take; one of those with bytes changed; or no message at all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from pipelined.rpc.roles import ROLES
from pipelined.rpc.server import REFLECTION, SERVICES
from tests.hostile.traversal import TEXTS
from tests.hostile.wire import Answer, answer

DEPLOYMENT = "fuzzed"
# Ends the daemon, as it should.
LEFT_OUT = {"/pipelined.v1.Daemon/Drain"}
# That end only with the caller's patience.
ENDLESS = ("/Watch", "/Logs")
SECONDS, PATIENCE = 20.0, 0.05
_DEEPEST = 6
_PICKLE = b"cos\nsystem\n(S'touch /tmp/pipelined-fuzz-canary'\ntR."
_NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}

texts = st.one_of(
    st.sampled_from([DEPLOYMENT, f"{DEPLOYMENT}:v1", f"{DEPLOYMENT}:p", *TEXTS]),
    st.text(st.characters(codec="utf-8"), max_size=50),
)
contents = st.one_of(
    st.sampled_from([b"", bytes(32), b"\xff" * 32, _PICKLE, bytes(70_000)]),
    st.binary(max_size=64),
)


def methods() -> dict[str, MethodDescriptor]:
    """All methods that are served, but those that are left out."""
    pool = descriptor_pool.Default()
    found = {}
    for name in SERVICES:
        known = (
            name.replace("reflection.v1.", "reflection.v1alpha.") if name == REFLECTION else name
        )
        for method in pool.FindServiceByName(known).methods:
            found[f"/{name}/{method.name}"] = method
    assert set(found) == set(ROLES)
    return {path: method for path, method in found.items() if path not in LEFT_OUT}


@st.composite
def filled(draw: st.DrawFn, kind: Descriptor, depth: int = 0) -> Message:
    """A message of a type, with any of its fields."""
    message = message_factory.GetMessageClass(kind)()
    fields = [field for field in kind.fields if depth < _DEEPEST or field.message_type is None]
    if not fields:
        return message
    for field in draw(st.lists(st.sampled_from(fields), max_size=6)):
        _fill(draw, message, field, depth)
    return message


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        entries = getattr(message, field.name)
        key = draw(_scalar(kind.fields_by_name["key"]))
        value = kind.fields_by_name["value"]
        if value.message_type is None:
            entries[key] = draw(_scalar(value))
        else:
            entries[key].CopyFrom(draw(filled(value.message_type, depth + 1)))
        return
    count = draw(st.integers(0, 3)) if field.is_repeated else 1
    for _ in range(count):
        made: Any = draw(_scalar(field) if kind is None else filled(kind, depth + 1))
        if field.is_repeated:
            getattr(message, field.name).append(made)
        elif kind is None:
            setattr(message, field.name, made)
        else:
            getattr(message, field.name).CopyFrom(made)


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return contents if field.type == FieldDescriptor.TYPE_BYTES else texts
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.floats(width=32)
    least, most = _BITS[kind]
    edges = st.sampled_from([number for number in _NUMBERS if least <= number <= most])
    return st.one_of(st.integers(0, 5), edges)


@st.composite
def damaged(draw: st.DrawFn, kind: Descriptor) -> bytes:
    """A message with some of its bytes changed, left out or doubled."""
    data = bytearray(draw(filled(kind)).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(st.binary(max_size=8))
    return bytes(data)


def messages(method: MethodDescriptor) -> st.SearchStrategy[list[bytes]]:
    """What is sent in one call."""
    kind = method.input_type
    one = st.one_of(
        filled(kind).map(lambda made: made.SerializeToString()),
        damaged(kind),
        st.binary(max_size=99),
    )
    return st.lists(one, min_size=0 if method.client_streaming else 1, max_size=3)


class Fuzzer:
    """Makes calls, and finds fault with answers.

    Args:
        channel: To the daemon.

    Attributes:
        counts: Of answers, by method and code.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.counts: Counter[tuple[str, str]] = Counter()

    def call(self, path: str, sent: list[bytes]) -> Answer:
        """Make a call; fails if the answer is none that a caller should get."""
        seconds = PATIENCE if path.endswith(ENDLESS) else SECONDS
        found = answer(self._channel, path, *sent, seconds=seconds)
        self.counts[path, found.code.name] += 1
        told = (path, found.code.name, found.message, sent)
        if path.startswith("/pipelined."):
            assert found.code is not grpc.StatusCode.UNKNOWN, told
            assert found.code is not grpc.StatusCode.INTERNAL or found.reason, told
        assert found.code is not grpc.StatusCode.UNAVAILABLE or found.reason, told
        assert found.code is not grpc.StatusCode.DEADLINE_EXCEEDED or seconds == PATIENCE, told
        return found
