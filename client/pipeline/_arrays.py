"""numpy arrays, torch tensors and PIL images to wire tensors and back. Part of ``_values``."""

from __future__ import annotations

import sys
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

from pipeline.errors import SerialisationError
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value

if TYPE_CHECKING:
    from mmap import mmap

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
# What numpy calls the order of a type: little, none, and the machine's.
_LITTLE_ENDIAN = ("<", "|", "=" if sys.byteorder == "little" else "<")
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# What is made an array of; as numbers, since a name of the message takes longer to look up.
_NUMPY = int(Tensor.CONTAINER_NUMPY)
_OF_NUMPY = (_NUMPY, int(Tensor.CONTAINER_UNSPECIFIED))
# Channels of uint8 images by their mode; of those with the same number, one is not said.
_CHANNELS = {
    "L": 1, "LA": 2, "RGB": 3, "RGBA": 4,
    "CMYK": 4, "HSV": 3, "LAB": 3, "La": 2, "RGBX": 4, "RGBa": 4, "YCbCr": 3,
}  # fmt: skip
_UNSAID = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Modes with one channel of another element type, with the name that PIL's raw coder has for
# little-endian elements.
_SINGLE = {
    "1": (DataType.DATA_TYPE_BOOL, "1;8"),
    "I;16": (DataType.DATA_TYPE_UINT16, "I;16"),
    "I": (DataType.DATA_TYPE_INT32, "I"),
    "F": (DataType.DATA_TYPE_FLOAT32, "F"),
}
_SINGLE_MODES = {dtype: mode for mode, (dtype, _) in _SINGLE.items()}


def encode_small(value: Any, result: Value, limit: int) -> bool:
    """Make a wire tensor of a numpy array of up to ``limit`` bytes, which most arrays are.

    Returns:
        Whether it is one, with elements in the order that the wire has. If not, ``encode`` knows.

    """
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray or value.nbytes > limit:
        return False
    dtype = value.dtype
    wire = _numpy_dtypes().get(dtype)
    if wire is None or dtype.byteorder not in _LITTLE_ENDIAN:
        return False
    tensor = result.tensor_value
    tensor.dtype = wire
    tensor.shape.extend(value.shape)
    tensor.data = value.tobytes()
    tensor.container = _NUMPY  # type: ignore[assignment]  # a plain number
    return True


def encode(value: object, subject: str) -> tuple[Tensor, memoryview] | None:
    """Make a wire tensor without its data, and the data; None if this is no array, tensor or image.

    The data may be memory of ``value`` itself.

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


def decode_plain(tensor: Tensor) -> object | None:
    """Make the array of a wire tensor as most are: numpy's, with its data in it, and well formed.

    None if it is not such a one: ``check_tensor`` and ``decode`` know.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    orders = _numpy_orders().get(tensor.dtype)
    if orders is None or tensor.container not in _OF_NUMPY or tensor.HasField("stored"):
        return None
    little, native = orders
    data = tensor.data
    shape = tuple(tensor.shape)
    if not data or min(shape, default=0) < 0 or prod(shape) * little.itemsize != len(data):
        return None
    array = numpy.frombuffer(bytearray(data), little)
    if len(shape) != 1:
        array = array.reshape(shape)
    made: object = array if native is little else array.astype(native)
    return made


def decode(tensor: Tensor, data: bytes | bytearray | mmap) -> object:
    """Make an array, tensor or image of a wire tensor that has been checked, and of its data.

    Data that may be written becomes the memory of the result; bytes are copied: an array over them
    would be read-only.
    """
    name = _NAMES[tensor.dtype]
    shape = tuple(tensor.shape)
    if tensor.container == Tensor.CONTAINER_IMAGE:
        return _decode_image(tensor, memoryview(data), shape)
    owned = bytearray(data) if isinstance(data, bytes) else data
    if tensor.container == Tensor.CONTAINER_TORCH or name in _TORCH_ONLY:
        return _decode_torch(owned, name, shape)
    return _decode_numpy(owned, tensor.dtype, shape)


@cache
def _numpy_dtypes() -> dict[Any, DataType.ValueType]:
    """The types of numpy, in either byte order; their names take it longer to tell."""
    import numpy

    native = {numpy.dtype(name): dtype for name, dtype in _SHARED.items()}
    return native | {dtype.newbyteorder(): wire for dtype, wire in native.items()}


@cache
def _numpy_orders() -> dict[DataType.ValueType, tuple[Any, Any]]:
    """The types of numpy as they are on the wire and in this machine."""
    import numpy

    native = {dtype: numpy.dtype(name) for name, dtype in _SHARED.items()}
    if sys.byteorder == "little":
        return {dtype: (each, each) for dtype, each in native.items()}
    return {dtype: (each.newbyteorder("<"), each) for dtype, each in native.items()}


def _encode_numpy(
    value: np.ndarray[Any, Any] | np.generic, subject: str
) -> tuple[Tensor, memoryview]:
    import numpy

    if isinstance(value, numpy.ma.MaskedArray):
        raise SerialisationError(
            f"{subject}: a masked array would lose its mask; send its data and mask",
            subject=subject,
        )
    dtype = _numpy_dtypes().get(value.dtype)
    if dtype is None:
        raise SerialisationError(
            f"{subject}: numpy dtype {value.dtype} cannot cross the wire", subject=subject
        )
    little = numpy.asarray(value)
    if little.dtype.byteorder not in _LITTLE_ENDIAN:
        little = little.astype(value.dtype.newbyteorder("<"))
    tensor = Tensor(dtype=dtype, shape=value.shape, container=Tensor.CONTAINER_NUMPY)
    if not little.size:
        return tensor, memoryview(b"")
    dense = numpy.ascontiguousarray(little).reshape(-1)
    return tensor, dense.view(numpy.uint8).data.toreadonly()


def _decode_numpy(
    data: bytearray | mmap, dtype: DataType.ValueType, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    import numpy

    little, native = _numpy_orders()[dtype]
    flat = numpy.frombuffer(data, dtype=little)
    if len(shape) != 1:
        flat = flat.reshape(shape)
    return flat if native is little else flat.astype(native)


def _encode_torch(value: torch.Tensor, subject: str) -> tuple[Tensor, memoryview]:
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
    tensor = Tensor(dtype=dtype, shape=value.shape, container=Tensor.CONTAINER_TORCH)
    if not dense.numel():
        return tensor, memoryview(b"")
    return tensor, dense.reshape(-1).view(torch.uint8).numpy().data.toreadonly()


def _decode_torch(data: bytearray | mmap, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, name)
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(shape)


def _encode_image(value: Image, subject: str) -> tuple[Tensor, memoryview]:
    mode = value.mode
    size = (value.height, value.width)
    tensor = Tensor(dtype=DataType.DATA_TYPE_UINT8, shape=size, container=Tensor.CONTAINER_IMAGE)
    raw = mode
    if mode in _SINGLE:
        tensor.dtype, raw = _SINGLE[mode]
    elif (channels := _CHANNELS.get(mode)) is None:
        raise SerialisationError(
            f"{subject}: a PIL image of mode {mode!r} cannot cross the wire; "
            'convert it, for example with image.convert("RGB")',
            subject=subject,
        )
    else:
        if channels > 1:
            tensor.shape.append(channels)
        if _UNSAID[channels] != mode:
            tensor.image_mode = mode
    if mode == "1":
        # PIL packs eight of them into a byte, and unpacks them as 0 and 255.
        grey = value.convert("L").point([0] + [1] * 255)
        return tensor, memoryview(grey.tobytes() if 0 not in size else b"")
    return tensor, memoryview(value.tobytes("raw", raw) if 0 not in size else b"")


def _decode_image(tensor: Tensor, data: memoryview, shape: tuple[int, ...]) -> Image:
    from PIL import Image

    channels = shape[2] if len(shape) == 3 else 1
    mode = _SINGLE_MODES.get(tensor.dtype, _UNSAID[channels])
    if _CHANNELS.get(tensor.image_mode) == channels and tensor.dtype == DataType.DATA_TYPE_UINT8:
        mode = tensor.image_mode
    size = (shape[1], shape[0])
    if 0 in size:
        return Image.new(mode, size)
    if mode == "1":
        grey = Image.frombytes("L", size, data)
        return grey.point([0] + [255] * 255, "1")
    raw = _SINGLE[mode][1] if mode in _SINGLE else mode
    return Image.frombytes(mode, size, data, "raw", raw)
