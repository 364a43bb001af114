"""numpy arrays, torch tensors and PIL images to wire tensors and back. Part of ``_values``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipeline.errors import SerialisationError
from pipelined_api.v1.values_pb2 import DataType, Tensor

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

# What torch and numpy both call the types that both have.
_SHARED = {
    "bool": DataType.DATA_TYPE_BOOL,
    "uint8": DataType.DATA_TYPE_UINT8,
    "int8": DataType.DATA_TYPE_INT8,
    "uint16": DataType.DATA_TYPE_UINT16,
    "int16": DataType.DATA_TYPE_INT16,
    "uint32": DataType.DATA_TYPE_UINT32,
    "int32": DataType.DATA_TYPE_INT32,
    "uint64": DataType.DATA_TYPE_UINT64,
    "int64": DataType.DATA_TYPE_INT64,
    "float16": DataType.DATA_TYPE_FLOAT16,
    "float32": DataType.DATA_TYPE_FLOAT32,
    "float64": DataType.DATA_TYPE_FLOAT64,
    "complex64": DataType.DATA_TYPE_COMPLEX64,
    "complex128": DataType.DATA_TYPE_COMPLEX128,
}
_TORCH_ONLY = {
    "bfloat16": DataType.DATA_TYPE_BFLOAT16,
    "float8_e4m3fn": DataType.DATA_TYPE_FLOAT8_E4M3FN,
    "float8_e5m2": DataType.DATA_TYPE_FLOAT8_E5M2,
}
_DTYPES = _SHARED | _TORCH_ONLY
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Those whose mode follows from the number of channels, so that they come back as they were.
_IMAGE_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def encode(value: object, subject: str) -> Tensor | None:
    """Make a wire tensor; None if ``value`` is no array, tensor or image.

    Raises:
        SerialisationError: it is one that has no form on the wire.

    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _encode_numpy(value, subject)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _encode_torch(value, subject)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image):
        return _encode_image(value, subject)
    return None


def decode(tensor: Tensor) -> object:
    """Make an array, tensor or image of a wire tensor that has been checked."""
    name = _NAMES[tensor.dtype]
    shape = tuple(tensor.shape)
    if tensor.container == Tensor.CONTAINER_IMAGE:
        return _decode_image(tensor.data, shape)
    if tensor.container == Tensor.CONTAINER_TORCH or name in _TORCH_ONLY:
        return _decode_torch(tensor.data, name, shape)
    return _decode_numpy(tensor.data, name, shape)


def _encode_numpy(value: np.ndarray[Any, Any] | np.generic, subject: str) -> Tensor:
    import numpy

    if isinstance(value, numpy.ma.MaskedArray):
        raise SerialisationError(
            f"{subject}: a masked array would lose its mask; send its data and mask",
            subject=subject,
        )
    dtype = _SHARED.get(value.dtype.name)
    if dtype is None:
        raise SerialisationError(
            f"{subject}: numpy dtype {value.dtype} cannot cross the wire", subject=subject
        )
    little = numpy.asarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
    return Tensor(
        dtype=dtype,
        shape=value.shape,
        data=little.tobytes(order="C"),
        container=Tensor.CONTAINER_NUMPY,
    )


def _decode_numpy(data: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    import numpy

    little = numpy.dtype(name).newbyteorder("<")
    # A copy: an array over the message's bytes would be read-only.
    flat = numpy.frombuffer(bytearray(data), dtype=little)
    return flat.reshape(shape).astype(numpy.dtype(name), copy=False)


def _encode_torch(value: torch.Tensor, subject: str) -> Tensor:
    import torch

    name = str(value.dtype).removeprefix("torch.")
    dtype = _DTYPES.get(name)
    if dtype is None or value.layout != torch.strided or value.is_meta:
        what = f"dtype {name}" if dtype is None else f"layout {value.layout}"
        raise SerialisationError(
            f"{subject}: a torch tensor of {'no data' if value.is_meta else what} "
            "cannot cross the wire",
            subject=subject,
        )
    dense = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    data = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return Tensor(dtype=dtype, shape=value.shape, data=data, container=Tensor.CONTAINER_TORCH)


def _decode_torch(data: bytes, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, name)
    if not data:
        return torch.empty(shape, dtype=dtype)
    # A copy: torch cannot tell read-only memory and warns about it.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


def _encode_image(value: Image, subject: str) -> Tensor:
    channels = _IMAGE_MODES.get(value.mode)
    if channels is None:
        raise SerialisationError(
            f"{subject}: a PIL image of mode {value.mode!r} cannot cross the wire; "
            'convert it, for example with image.convert("RGB")',
            subject=subject,
        )
    size = (value.height, value.width)
    return Tensor(
        dtype=DataType.DATA_TYPE_UINT8,
        shape=size if channels == 1 else (*size, channels),
        data=value.tobytes() if 0 not in size else b"",
        container=Tensor.CONTAINER_IMAGE,
    )


def _decode_image(data: bytes, shape: tuple[int, ...]) -> Image:
    from PIL import Image

    channels = shape[2] if len(shape) == 3 else 1
    mode = next(mode for mode, count in _IMAGE_MODES.items() if count == channels)
    size = (shape[1], shape[0])
    if 0 in size:
        return Image.new(mode, size)
    return Image.frombytes(mode, size, data)
