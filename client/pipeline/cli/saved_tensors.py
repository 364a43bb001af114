"""Writes tensors too large to print as safetensors files, without the library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pipeline import errors
from pipeline.cli.tensors import dtype_name
from pipelined_api.v1.values_pb2 import DataType, Tensor

# What the format calls the element types (safetensors, README, "Format").
_DTYPES: dict[DataType.ValueType, str] = {
    DataType.DATA_TYPE_BOOL: "BOOL",
    DataType.DATA_TYPE_UINT8: "U8",
    DataType.DATA_TYPE_INT8: "I8",
    DataType.DATA_TYPE_UINT16: "U16",
    DataType.DATA_TYPE_INT16: "I16",
    DataType.DATA_TYPE_UINT32: "U32",
    DataType.DATA_TYPE_INT32: "I32",
    DataType.DATA_TYPE_UINT64: "U64",
    DataType.DATA_TYPE_INT64: "I64",
    DataType.DATA_TYPE_FLOAT16: "F16",
    DataType.DATA_TYPE_BFLOAT16: "BF16",
    DataType.DATA_TYPE_FLOAT32: "F32",
    DataType.DATA_TYPE_FLOAT64: "F64",
    DataType.DATA_TYPE_COMPLEX64: "C64",
    DataType.DATA_TYPE_FLOAT8_E4M3FN: "F8_E4M3",
    DataType.DATA_TYPE_FLOAT8_E5M2: "F8_E5M2",
}
_ALIGNMENT = 8


def write(path: Path, tensor: Tensor, content: Path) -> None:
    """Write a file with one tensor, called ``tensor``, whose elements are in another file.

    Raises:
        errors.SerialisationError: the format has no such element type.

    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        name = dtype_name(tensor)
        raise errors.SerialisationError(
            f"a tensor of {name} is too large to print, and safetensors has no such type",
            subject=name,
        )
    size = content.stat().st_size
    entry = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [0, size]}
    header = json.dumps({"tensor": entry}).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    with path.open("wb") as target, content.open("rb") as source:
        target.write(len(header).to_bytes(8, "little") + header)
        shutil.copyfileobj(source, target, 1 << 20)
