"""How much of a serialised request is in tensors and bytes, and so needs no time to be parsed."""

from __future__ import annotations

from typing import TypeAlias

from pipelined_api.v1 import runs_pb2, values_pb2

# The length-delimited fields to look into, by number; None for contents.
_Fields: TypeAlias = "dict[int, _Fields | None]"
_VARINT, _LENGTH_DELIMITED = 0, 2
# A request of more fields than these has its bytes somewhere else.
_MOST_FIELDS = 256


def _number(message: type[object], field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    return number


_VALUE: _Fields = {
    _number(values_pb2.Value, "tensor_value"): {_number(values_pb2.Tensor, "data"): None},
    _number(values_pb2.Value, "bytes_value"): None,
}
# SubmitRequest and StreamRequest have the same.
_REQUEST: _Fields = {
    _number(runs_pb2.RunRequest, "inputs"): _VALUE,
    _number(runs_pb2.RunRequest, "named_inputs"): {_number(values_pb2.MapEntry, "value"): _VALUE},
}


def bytes_in_bulk(request: bytes) -> int:
    """Bytes of the contents of tensors and bytes that are inputs of a request.

    Of a request that is malformed, or has too many parts, it may be fewer.
    """
    # Where a message begins and ends, and which fields of it are of interest.
    messages: list[tuple[int, int, _Fields]] = [(0, len(request), _REQUEST)]
    fields = bulk = 0
    while messages:
        position, end, known = messages.pop()
        while position < end:
            fields += 1
            key, position = _varint(request, position, end)
            kind = key & 7
            if fields > _MOST_FIELDS or kind not in (_VARINT, _LENGTH_DELIMITED):
                return bulk
            size, position = _varint(request, position, end)
            if kind == _VARINT:
                continue
            if position + size > end:
                return bulk
            if (inner := known.get(key >> 3, {})) is None:
                bulk += size
            elif inner:
                messages.append((position, position + size, inner))
            position += size
    return bulk


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position, and where it ends: ``end`` and more if it is cut off."""
    number = shift = 0
    while position < end:
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            break
    return 0, end + 1
