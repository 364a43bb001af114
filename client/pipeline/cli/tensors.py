"""Reads the elements of a wire tensor without numpy or torch, which take seconds to import."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from pipelined_api.v1.values_pb2 import DataType, Tensor

# Format characters of struct, for what it can read.
_FORMATS: dict[DataType.ValueType, str] = {
    DataType.DATA_TYPE_BOOL: "?",
    DataType.DATA_TYPE_UINT8: "B",
    DataType.DATA_TYPE_INT8: "b",
    DataType.DATA_TYPE_UINT16: "H",
    DataType.DATA_TYPE_INT16: "h",
    DataType.DATA_TYPE_UINT32: "I",
    DataType.DATA_TYPE_INT32: "i",
    DataType.DATA_TYPE_UINT64: "Q",
    DataType.DATA_TYPE_INT64: "q",
    DataType.DATA_TYPE_FLOAT16: "e",
    DataType.DATA_TYPE_FLOAT32: "f",
    DataType.DATA_TYPE_FLOAT64: "d",
}
_COMPLEX = {DataType.DATA_TYPE_COMPLEX64: "f", DataType.DATA_TYPE_COMPLEX128: "d"}
# Exponent bits, mantissa bits and bias (OCP 8-bit floating point specification 1.0).
_FLOAT8 = {
    DataType.DATA_TYPE_FLOAT8_E4M3FN: (4, 3, 7),
    DataType.DATA_TYPE_FLOAT8_E5M2: (5, 2, 15),
}


def elements(tensor: Tensor) -> list[object]:
    """Read all elements, in row-major order. A complex number is a list of two."""
    if tensor.dtype in _FORMATS:
        return _unpack(_FORMATS[tensor.dtype], tensor.data)
    if tensor.dtype in _COMPLEX:
        parts = _unpack(_COMPLEX[tensor.dtype], tensor.data)
        return [list(pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    if tensor.dtype == DataType.DATA_TYPE_BFLOAT16:
        # The upper half of a float32.
        words = struct.unpack(f"<{len(tensor.data) // 2}H", tensor.data)
        return _unpack("f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))
    exponent_bits, mantissa_bits, bias = _FLOAT8[tensor.dtype]
    return [_float8(byte, exponent_bits, mantissa_bits, bias) for byte in tensor.data]


def nested(tensor: Tensor) -> object:
    """Read a tensor as lists in lists; one without dimensions as its element."""
    flat = elements(tensor)
    return _nest(flat, tensor.shape) if tensor.shape else flat[0]


def dtype_name(tensor: Tensor) -> str:
    """Name the element type, such as ``float32``."""
    return DataType.Name(tensor.dtype).removeprefix("DATA_TYPE_").lower()


def _nest(flat: Sequence[object], shape: Sequence[int]) -> list[object]:
    if len(shape) == 1:
        return list(flat)
    step = len(flat) // shape[0] if shape[0] else 0
    rows: Iterable[int] = range(shape[0])
    return [_nest(flat[row * step : (row + 1) * step], shape[1:]) for row in rows]


def _unpack(character: str, data: bytes) -> list[object]:
    size = struct.calcsize(character)
    return list(struct.unpack(f"<{len(data) // size}{character}", data))


def _float8(byte: int, exponent_bits: int, mantissa_bits: int, bias: int) -> float:
    sign = -1.0 if byte & 0x80 else 1.0
    exponent = (byte >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = byte & ((1 << mantissa_bits) - 1)
    top = (1 << exponent_bits) - 1
    if exponent_bits == 5 and exponent == top:
        return sign * float("inf") if mantissa == 0 else float("nan")
    # E4M3FN has no infinities: only the largest pattern is no number.
    if exponent_bits == 4 and exponent == top and mantissa == (1 << mantissa_bits) - 1:
        return float("nan")
    if exponent == 0:
        return float(sign * mantissa * 2.0 ** (1 - bias - mantissa_bits))
    return float(sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias))
