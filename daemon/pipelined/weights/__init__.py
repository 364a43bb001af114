"""The weight loader: safetensors files into torch tensors, without a copy, and ahead of time.

    tensors = weights.load_file("model.safetensors")
    with weights.safe_open("model.safetensors", framework="pt") as file: ...
    weights.install()  # from here on, safetensors' own functions of these names are ours

A file is mapped privately and handed out at once, while a few threads read it into memory from
front to back; the tensors are writable, and what is written to them never reaches the file. What
the loader does not support goes to the safetensors package, and the log of `pipelined.weights`
says so.

Importing this package imports neither torch nor any model library; the first tensor does.
"""

from pipelined.weights._install import install, uninstall
from pipelined.weights._records import Load, loads, reset_loads
from pipelined.weights._safe_open import load_file, safe_open
from pipelined.weights.errors import (
    DuplicateKey,
    FormatError,
    HeaderTooLarge,
    HeaderTooSmall,
    HeaderTruncated,
    InvalidHeaderStart,
    InvalidJson,
    InvalidMetadata,
    InvalidOffsets,
    InvalidTensorInfo,
    InvalidUtf8,
    JsonTooDeep,
    ShapeOverflow,
    SizeMismatch,
    TensorHole,
    TensorOverlap,
    TrailingBytes,
    TruncatedFile,
    UnknownDtype,
    UnsupportedDtype,
)

__all__ = [
    "DuplicateKey",
    "FormatError",
    "HeaderTooLarge",
    "HeaderTooSmall",
    "HeaderTruncated",
    "InvalidHeaderStart",
    "InvalidJson",
    "InvalidMetadata",
    "InvalidOffsets",
    "InvalidTensorInfo",
    "InvalidUtf8",
    "JsonTooDeep",
    "Load",
    "ShapeOverflow",
    "SizeMismatch",
    "TensorHole",
    "TensorOverlap",
    "TrailingBytes",
    "TruncatedFile",
    "UnknownDtype",
    "UnsupportedDtype",
    "install",
    "load_file",
    "loads",
    "reset_loads",
    "safe_open",
    "uninstall",
]
