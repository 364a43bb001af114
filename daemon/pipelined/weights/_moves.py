"""`.to("cuda")` of tensors that are still what the file says: through the pinned ring, not torch.

Models are loaded onto the CPU and moved tensor by tensor, from pageable memory: by
`module.to("cuda")`, by the threads of transformers, by accelerate. All of these end in
`torch.Tensor.to` or `torch.Tensor.cuda`, and it is there that the tensor is known for what it is.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

from pipelined.weights import _mapped_files
from pipelined.weights._cuda import cuda_ordinal
from pipelined.weights._device_load import DeviceLoad
from pipelined.weights._locks import ForkLock
from pipelined.weights._tensors import adopt

if TYPE_CHECKING:
    import torch

    from pipelined._weights import Checkpoint

_lock = ForkLock()
_depth = 0
_wrappers: list[_Wrapper] = []
# Each with its file: the arenas are held until all of their tensors were given out.
_held: dict[DeviceLoad, _mapped_files.MappedFile] = {}


@contextmanager
def device_moves() -> Iterator[None]:
    """Have tensors that were loaded from files reach CUDA devices through the loader.

    While it is active, in any thread, `tensor.to(device)` and `tensor.cuda()`, and all that is made
    of them, such as `module.to("cuda")`, give out tensors of an `Arena`: the first one of a file
    has the whole file streamed to the device, straight from the open file. That is so for a tensor
    (a plain one or a Parameter) that is, whole and as it was, the tensor of a file that the loader
    has mapped, and where autograd has no part in the call. What was written to, views, second
    copies, other layouts and everything else take torch's way, with the arguments untouched; so
    does a file of which nobody asked for a second tensor, and one for which there is no room, of
    which the log tells. With another floating-point dtype, torch converts on the device.

    Unless `non_blocking` is true, the call returns when the bytes are there, as torch's does.

    An arena is held until each of its tensors was given out or the context ends; from there on the
    tensors keep it, each of them all of it: of a file of which only some tensors are moved, all of
    it stays on the device with them. Before it is allocated, torch's cache of unused memory is
    emptied.

    Such a `.to` raises, besides what torch does, FileChanged, CudaError and OSError.

    Does not import torch: the methods are replaced when torch is there, at the latest with the
    first tensor of ours. At the end they are put back; where somebody has wrapped them meanwhile,
    ours stay below and do nothing. Contexts may be nested and overlap.
    """
    global _depth
    with _lock:
        _depth += 1
    if "torch" in sys.modules:
        watch()
    try:
        yield
    finally:
        with _lock:
            _depth = max(0, _depth - 1)
            ended = _remove() if _depth == 0 else []
        # Freed outside of the lock: it may take a while.
        del ended


def watch() -> None:
    """Wrap torch's methods if a context is active; to be called before tensors are handed out."""
    if _depth and not _wrappers:
        import torch

        with _lock:
            if _depth and not _wrappers:
                for name, target in (("to", _target_of_to), ("cuda", _target_of_cuda)):
                    wrapper = _Wrapper(name, target)
                    setattr(torch.Tensor, name, wrapper)
                    _wrappers.append(wrapper)


def _remove() -> list[DeviceLoad]:
    for wrapper in _wrappers:
        wrapper.remove()
    _wrappers.clear()
    ended = list(_held)
    _held.clear()
    return ended


# What a call asks for: the device, the dtype, and whether it may return before the bytes are there;
# None where it is not for us to answer.
_Target = tuple[Any, "torch.dtype | None", bool] | None


class _Wrapper:
    """In the place of a method of `torch.Tensor`.

    Equal to what it replaces: libraries keep tables by `torch.Tensor.to` (for subclasses that
    override it) and look up what torch calls them with, which is the original.
    """

    def __init__(self, name: str, target: Callable[..., _Target]) -> None:
        import torch

        self._name = name
        self._original = getattr(torch.Tensor, name)
        functools.update_wrapper(self, self._original)
        self._target = target
        self._active = True

    def remove(self) -> None:
        import torch

        self._active = False
        if vars(torch.Tensor).get(self._name) is self:
            # The original is inherited, unless somebody had wrapped it before.
            delattr(torch.Tensor, self._name)
            if getattr(torch.Tensor, self._name) is not self._original:
                setattr(torch.Tensor, self._name, self._original)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Wrapper):
            return bool(self._original == other._original)
        return bool(self._original == other)

    def __hash__(self) -> int:
        return hash(self._original)

    def __reduce__(self) -> Any:
        # Copied and pickled as the original would be.
        import torch

        return getattr, (torch._C.TensorBase, self._name)

    def __repr__(self) -> str:
        return repr(self._original)

    def __getattr__(self, name: str) -> Any:
        if name == "_original":  # not there yet: it is being made
            raise AttributeError(name)
        return getattr(self._original, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._active and args:
            moved = _moved(args[0], self._original, lambda: self._target(*args[1:], **kwargs))
            if moved is not None:
                return moved
        return self._original(*args, **kwargs)


def _target_of_to(*args: Any, copy: bool = False, **kwargs: Any) -> _Target:
    import torch

    # `copy` makes no difference to a move between devices.
    if len(args) == 4 and isinstance(args[3], bool):
        args = args[:3]
    # For torch's parser a number is a device only where it has one itself.
    if args and isinstance(args[0], int) and not isinstance(args[0], bool):
        args = (torch.device("cuda", args[0]), *args[1:])
    if isinstance(kwargs.get("device"), int) and not isinstance(kwargs["device"], bool):
        kwargs = {**kwargs, "device": torch.device("cuda", kwargs["device"])}
    device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    return (device, dtype, non_blocking) if _keeps_order(memory_format) else None


def _target_of_cuda(
    device: Any = None, non_blocking: bool = False, *, memory_format: Any = None
) -> _Target:
    if not _keeps_order(memory_format):
        return None
    return ("cuda" if device is None else device, None, non_blocking)


def _keeps_order(memory_format: Any) -> bool:
    import torch

    return memory_format in (None, torch.preserve_format, torch.contiguous_format)


def _moved(tensor: Any, original: Any, target: Callable[[], _Target]) -> torch.Tensor | None:
    """Return the tensor on the device that is asked for, or None if that is torch's to do."""
    found = _file_of(tensor)
    if found is None:
        return None
    file, checkpoint, name = found
    try:
        wanted = target()
    except (TypeError, ValueError, RuntimeError):
        # Torch will say what it thinks of the arguments.
        return None
    if wanted is None:
        return None
    device, dtype, non_blocking = wanted
    ordinal = cuda_ordinal(device)
    if ordinal is None or not _may_convert(tensor.dtype, dtype) or not file.wants_all:
        return None
    if not _is_as_in_file(tensor, checkpoint, name):
        return None
    load = _load(file, ordinal)
    moved = None if load is None else load.take(checkpoint, name, wait=not non_blocking)
    if load is None or moved is None or dtype is None or dtype == tensor.dtype:
        return moved
    return _converted(moved, dtype, original, load)


def _load(file: _mapped_files.MappedFile, ordinal: int) -> DeviceLoad | None:
    load = file.load_onto(ordinal)
    if load is not None:
        ended = []
        with _lock:
            if _depth == 0:
                return None
            if load not in _held:
                ended = [one for one, its in _held.items() if its.mapped() is None]
                for other in ended:
                    del _held[other]
                _held[load] = file
        # Freed outside of the lock: it may take a while.
        del ended
    return load


def _file_of(tensor: Any) -> tuple[_mapped_files.MappedFile, Checkpoint, str] | None:
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return None
    if not tensor.is_cpu or tensor.layout != torch.strided:
        return None
    if tensor.requires_grad and torch.is_grad_enabled():
        return None
    try:
        address = tensor.data_ptr()
    except RuntimeError:
        # Stands for another tensor, as in torch.func, and has no memory.
        return None
    return None if address == 0 else _mapped_files.find(address)


def _is_as_in_file(tensor: torch.Tensor, checkpoint: Checkpoint, name: str) -> bool:
    if tensor.is_conj() or tensor.is_neg() or _is_intercepted():
        return False
    whole = adopt(checkpoint.tensor(name), checkpoint.dtype(name))
    return (tensor.dtype, tensor.shape, tensor.stride()) == (
        whole.dtype,
        whole.shape,
        whole.stride(),
    ) and checkpoint.untouched(name)


def _is_intercepted() -> bool:
    """Whether somebody (a mode, a transformation, a compiler) wants to see torch's own call."""
    import torch
    from torch.utils._device import DeviceContext

    return (
        torch.is_inference_mode_enabled()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        # The one of `with torch.device(...)`, which is about new tensors alone.
        or any(type(mode) is not DeviceContext for mode in _function_modes())
    )


def _function_modes() -> list[Any]:
    import torch

    count = torch._C._len_torch_function_stack()
    return [torch._C._get_function_stack_at(index) for index in range(count)]


def _may_convert(source: torch.dtype, target: torch.dtype | None) -> bool:
    """Whether devices convert as the CPU does, which is the one that torch has do it."""
    import torch

    if target is None or target == source:
        return True
    exact = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return source.is_floating_point and target in exact


def _converted(
    moved: torch.Tensor, dtype: torch.dtype, original: Any, load: DeviceLoad
) -> torch.Tensor | None:
    import torch

    try:
        converted: torch.Tensor = original(moved, dtype)
    except torch.OutOfMemoryError:
        # The arena and the result are there at once, which torch's own way avoids.
        load.give_up(f"no room to convert a tensor to {dtype}")
        return None
    return converted


def _after_fork() -> None:
    # A forked child cannot use the parent's devices: torch says so itself.
    global _depth
    _depth = 0
    _remove()


os.register_at_fork(after_in_child=_after_fork)
