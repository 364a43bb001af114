"""The weight loader: safetensors files into torch tensors, without a copy, and ahead of time.

    tensors = weights.load_file("model.safetensors")
    with weights.safe_open("model.safetensors", framework="pt") as file: ...
    tensors = weights.load_checkpoint("folder", device="cuda:0", progress=show)
    weights.install()  # from here on, safetensors' own functions of these names are ours

For the CPU, a file is mapped privately and handed out at once, while a few threads read it into
memory from front to back; the tensors are writable, and what is written to them never reaches the
file. What the loader does not support goes to the safetensors package, and the log of
`pipelined.weights` says so.

For CUDA devices, it is streamed through a bounded ring of pinned memory.

Either way, tensors lie in an `Arena`, which can be put to `sleep`, so that it gives memory back,
and woken again: `begin` starts a load and returns its arena, `arenas` returns those there are.

Importing this package imports neither torch nor any model library; the first tensor does.
"""

from pipelined.weights._arena import Arena, ArenaStats
from pipelined.weights._begin import arenas, begin
from pipelined.weights._devices import Budgets, release_pinned_memory, set_budgets
from pipelined.weights._faults import report_faults
from pipelined.weights._install import install, uninstall
from pipelined.weights._load_checkpoint import load_checkpoint
from pipelined.weights._moves import device_moves
from pipelined.weights._progress import FileProgress, LoadProgress, ProgressCallback
from pipelined.weights._records import Load, loads, reset_loads
from pipelined.weights._safe_open import load_file, safe_open
from pipelined.weights.errors import (
    Asleep,
    Cancelled,
    CudaError,
    DriverMissing,
    DuplicateKey,
    FileChanged,
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
    LoadError,
    OverBudget,
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
    "Arena",
    "ArenaStats",
    "Asleep",
    "Budgets",
    "Cancelled",
    "CudaError",
    "DriverMissing",
    "DuplicateKey",
    "FileChanged",
    "FileProgress",
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
    "LoadError",
    "LoadProgress",
    "OverBudget",
    "ProgressCallback",
    "ShapeOverflow",
    "SizeMismatch",
    "TensorHole",
    "TensorOverlap",
    "TrailingBytes",
    "TruncatedFile",
    "UnknownDtype",
    "UnsupportedDtype",
    "arenas",
    "begin",
    "device_moves",
    "install",
    "load_checkpoint",
    "load_file",
    "loads",
    "release_pinned_memory",
    "report_faults",
    "reset_loads",
    "safe_open",
    "set_budgets",
    "uninstall",
]
