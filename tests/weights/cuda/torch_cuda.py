"""What a CPU-only torch lacks of CUDA: one device, whose memory is the fake driver's.

Tensors on it say that they are on the CPU, and are real ones, which models take and which compare
with others. Those that the loader made are views of the very bytes in the fake device's memory.
Where torch itself would copy to the device, from pageable memory, it is written down and done on
the CPU.
"""

from __future__ import annotations

import ctypes
import inspect
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipelined.weights import _cuda_arena, _tensors
from tests.weights.cuda.consumer import Deleter, managed_tensor
from tests.weights.cuda.fake_driver import FakeDriver

_DL_CPU = 1
_DL_CUDA = 2


class TorchCuda:
    """Replaces what torch has of these functions for the length of a test. Thread-safe.

    `copied` has the sizes of what torch copied to the device itself; `cached` is how many bytes its
    allocator holds without using them, which is what a warm-up leaves, and `cached_peak` how many
    it has held at most.
    """

    def __init__(self, driver: FakeDriver, patch: pytest.MonkeyPatch) -> None:
        self.driver = driver
        self.copied: list[int] = []
        self.cached = self.cached_peak = 0
        self._lock = threading.Lock()
        # Where tensors on the device begin, and for how many bytes.
        self._views: dict[int, int] = {}
        self._own: dict[int, torch.Tensor] = {}
        # A callback must not be freed while it runs.
        self._deleters: list[Any] = []
        self._adopt = _tensors.adopt
        patch.setattr(_cuda_arena, "adopt", self._adopted)
        for name, replacement in {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "current_stream": lambda *_: _DefaultStream,
            "empty_cache": self._empty_cache,
            "mem_get_info": lambda *_: (8 << 30, 8 << 30),
            "memory_reserved": lambda *_: 0,
            "memory_allocated": lambda *_: 0,
        }.items():
            patch.setattr(torch.cuda, name, replacement)
        patch.setattr(torch.Tensor, "to", self._to(torch.Tensor.to), raising=False)
        patch.setattr(torch.Tensor, "cuda", self._cuda, raising=False)
        patch.setattr(torch, "empty", self._created(torch.empty))
        patch.setattr(torch, "empty_like", self._created(torch.empty_like))

    def from_loader(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is the memory that the loader filled."""
        return tensor.numel() == 0 or tensor.data_ptr() in self._views

    def on_device(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is on the device at all."""
        return self.from_loader(tensor) or tensor.untyped_storage().data_ptr() in self._own

    def forget(self) -> None:
        """Let go of what torch copied."""
        self._own.clear()
        self.copied.clear()

    def _empty_cache(self) -> None:
        self.cached = 0

    def _adopted(self, capsule: Any, dtype: str) -> torch.Tensor:
        # What the consumer's stream would wait for.
        self.driver.drain()
        managed = managed_tensor(capsule)
        tensor = managed.contents.tensor
        assert (tensor.device_type, tensor.byte_offset) == (_DL_CUDA, 0)
        size = math.prod(tensor.shape[: tensor.rank]) * tensor.bits // 8
        if size:
            view = self.driver.open_view(tensor.data, size)
            tensor.data = view
            self._views[view] = size
            # By its address: the field itself is about to be ours.
            original = Deleter(ctypes.cast(managed.contents.deleter, ctypes.c_void_p).value or 0)

            def delete(managed: Any) -> None:
                del self._views[view]
                self.driver.close_view(view, size)
                original(managed)

            deleter = Deleter(delete)
            self._deleters.append(deleter)
            managed.contents.deleter = deleter
        tensor.device_type, tensor.device_id = _DL_CPU, 0
        return self._adopt(capsule, dtype)

    def _copy(self, tensor: torch.Tensor, dtype: torch.dtype | None, copy: bool) -> torch.Tensor:
        if self.on_device(tensor) and dtype in (None, tensor.dtype) and not copy:
            return tensor
        with self._lock:
            if not self.on_device(tensor):
                self.copied.append(tensor.nbytes)
            result = self._cpu_to(tensor, dtype or tensor.dtype, copy=True)
            self._own[result.untyped_storage().data_ptr()] = result.detach()
        return result

    def _to(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        self._cpu_to = original

        def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            wanted = {**dict(zip(("device", "dtype"), args, strict=False)), **kwargs}
            device = wanted.get("device")
            if _is_cuda(device):
                return self._copy(tensor, wanted.get("dtype"), kwargs.get("copy", False))
            result = original(tensor, *args, **kwargs)
            # A conversion does not leave the device.
            if (
                self.on_device(tensor)
                and isinstance(device, (torch.dtype, type(None)))
                and result is not tensor
            ):
                self._own[result.untyped_storage().data_ptr()] = result.detach()
            return result

        return to

    def _cuda(self, tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self._copy(tensor, None, False)

    def _created(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def create(*args: Any, **kwargs: Any) -> torch.Tensor:
            if not _is_cuda(kwargs.get("device")):
                return original(*args, **kwargs)
            result = original(*args, **{**kwargs, "device": "cpu"})
            caller = inspect.stack()[1].function
            if "warmup" in caller:
                self.cached += result.nbytes
                self.cached_peak = max(self.cached, self.cached_peak)
            else:
                self._own[result.untyped_storage().data_ptr()] = result
            return result

        return create


class _DefaultStream:
    cuda_stream = 0


def _is_cuda(device: object) -> bool:
    if isinstance(device, torch.device):
        return device.type == "cuda"
    if isinstance(device, str):
        return device.startswith("cuda")
    return isinstance(device, int) and not isinstance(device, bool)
