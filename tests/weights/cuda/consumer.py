"""What takes capsules of device tensors over, as torch with CUDA does, and looks at their bytes."""

from __future__ import annotations

import ctypes
import math
import weakref
from dataclasses import dataclass
from typing import Any

from tests.weights.cuda.fake_driver import FakeDriver

_CUDA = 2


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]

_get = ctypes.pythonapi.PyCapsule_GetPointer
_get.restype = ctypes.POINTER(_Managed)
_get.argtypes = [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]


def managed_tensor(capsule: Any) -> Any:
    """A pointer to what a capsule has, which stays the capsule's."""
    return _get(capsule, b"dltensor")


@dataclass(eq=False)
class DeviceTensor:
    """A tensor on the fake device. Keeps its memory until it dies."""

    driver: FakeDriver
    dtype: str
    address: int
    device: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    nbytes: int

    def raw(self) -> bytes:
        return self.driver.read(self.address, self.nbytes) if self.nbytes else b""


class Consumer:
    """In the place of `adopt`."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver

    def __call__(self, capsule: Any, dtype: str) -> DeviceTensor:
        managed = _get(capsule, b"dltensor")
        _rename(capsule, b"used_dltensor")
        tensor = managed.contents.tensor
        assert tensor.device_type == _CUDA
        assert tensor.byte_offset == 0
        shape = tuple(tensor.shape[: tensor.rank])
        result = DeviceTensor(
            self._driver,
            dtype,
            tensor.data,
            tensor.device_id,
            shape,
            tuple(tensor.strides[: tensor.rank]),
            math.prod(shape) * tensor.bits // 8,
        )
        weakref.finalize(result, managed.contents.deleter, managed)
        return result
