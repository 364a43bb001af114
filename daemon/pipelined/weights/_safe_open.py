"""The drop-in for `safetensors.safe_open` and `safetensors.torch.load_file`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors import safe_open as stock_safe_open

from pipelined.weights._checkpoint import OpenCheckpoint, takes_all
from pipelined.weights._cuda import cuda_ordinal
from pipelined.weights._device_file import DeviceFile
from pipelined.weights.errors import UnknownDtype

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("pipelined.weights")

_TORCH_FRAMEWORKS = ("pt", "torch", "pytorch")


class safe_open:
    """Opens a weights file, with the contract of `safetensors.safe_open`.

    `with` is optional, and tensors outlive the handle: they keep the file mapped. The second tensor
    that is asked for, or `get_tensors`, starts to read the whole file into memory.

    Only torch tensors on the CPU and on CUDA devices come from here; on the latter, the tensors of
    a file lie in one `Arena`. Another framework, device or backend, arguments that we do not know
    and an element type that only a newer safetensors has are passed to the safetensors package,
    whose handle is returned, or whose error raised; so are members that we do not have.

    Raises OSError, `FormatError` (a SafetensorError) for a malformed file, SafetensorError for a
    name that is not in the file and after it was closed. Thread-safe.
    """

    _file: OpenCheckpoint | None
    _opens_stock: Callable[[], Any]

    def __new__(
        cls,
        filename: str | os.PathLike[str],
        framework: str,
        device: str | int | None = "cpu",
        **options: Any,
    ) -> Any:
        """Open the file, or have safetensors open it."""
        path = _supported_path(filename)
        reason = _unsupported(path, framework, device, options)
        if path is None or reason is not None:
            _log.debug("safetensors opens %r: %s", filename, reason)
            return stock_safe_open(filename, framework, device, **options)
        opens_stock = partial(stock_safe_open, filename, framework, device, **options)
        try:
            ordinal = cuda_ordinal(device)
            file = OpenCheckpoint(path) if ordinal is None else DeviceFile(path, ordinal)
        except FileNotFoundError as error:
            # In the words of safetensors, which callers compare.
            raise FileNotFoundError(f"No such file or directory: {path}") from error
        except UnknownDtype as error:
            _log.info("safetensors opens %r: %s", filename, error)
            try:
                return opens_stock()
            except SafetensorError:
                raise error from None
        self = super().__new__(cls)
        self._file = file
        self._opens_stock = opens_stock
        return self

    def __getattr__(self, name: str) -> Any:
        # What only another version of safetensors has.
        if name.startswith("_") or not hasattr(stock_safe_open, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._open()
        _log.debug("safetensors provides %s", name)
        return getattr(self._opens_stock(), name)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, exc_type: object, exc_value: object, traceback: object, /) -> None:
        self._file = None

    def keys(self) -> list[str]:
        """Return the tensors' names in alphabetical order."""
        return self._open().names()

    def offset_keys(self) -> list[str]:
        """Return the tensors' names in the order in which they lie in the file."""
        return self._open().names_by_offset()

    def metadata(self) -> dict[str, str] | None:
        """Return the free-form part of the header, or None where there is none."""
        return self._open().metadata()

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return a tensor that shares the file's memory, copy-on-write."""
        return self._open().tensor(name)

    def get_tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors, in the order of the file."""
        return self._open().tensors()

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor that is made when it is indexed."""
        file = self._open()
        file.want(name)
        return TensorSlice(file, name, file.dtype(name))

    def _open(self) -> OpenCheckpoint:
        file = self._file
        if file is None:
            raise SafetensorError("File is closed")
        return file


class TensorSlice:
    """A tensor that is made when it is indexed. Outlives the handle it is from. Thread-safe."""

    def __init__(self, file: OpenCheckpoint, name: str, dtype: str) -> None:
        self._file = file
        self._name = name
        self._dtype = dtype

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor, in elements."""
        return self._file.shape(self._name)

    def get_dtype(self) -> str:
        """Return the dtype as the format spells it, such as "BF16"."""
        return self._dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        if self._dtype == "F4" and not takes_all(index):
            # torch counts pairs of elements, the header counts elements: either reading of an index
            # would be wrong for somebody.
            raise SafetensorError(f"tensor {self._name} of dtype F4 can only be taken whole")
        return self._file.part(self._name, index)


def load_file(
    filename: str | os.PathLike[str], device: str | int | None = "cpu", **options: Any
) -> dict[str, torch.Tensor]:
    """Load a file, with the contract of `safetensors.torch.load_file`.

    Returns before the bytes are in memory: they are read from front to back meanwhile. Raises what
    `safe_open` does.
    """
    with safe_open(filename, framework="pt", device=device, **options) as file:
        if hasattr(file, "get_tensors"):
            tensors: dict[str, torch.Tensor] = file.get_tensors()
            return tensors
        # A handle of a safetensors older than 0.8.
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _supported_path(filename: object) -> str | None:
    if not isinstance(filename, str | os.PathLike):
        return None
    path = os.fspath(filename)
    return path if isinstance(path, str) and "\0" not in path else None


def _unsupported(
    path: str | None, framework: object, device: object, options: dict[str, Any]
) -> str | None:
    if path is None:
        return "its name is no path"
    if framework not in _TORCH_FRAMEWORKS:
        return f"framework {framework!r}"
    if device is not None and device != "cpu" and cuda_ordinal(device) is None:
        return f"device {device!r}"
    if options.get("backend", "mmap") != "mmap":
        return f"backend {options['backend']!r}"
    unknown = sorted(options.keys() - {"backend"})
    return f"arguments {unknown}" if unknown else None
