"""What a startup has failed of: the one place where exceptions become the wire's causes."""

from __future__ import annotations

import sys

from safetensors import SafetensorError

from pipelined import weights
from pipelined.worker.failures import chain, describe, text
from pipelined_api.worker.v1 import worker_pb2

Cause = worker_pb2.StartFailed.Cause
_CUDA_ERROR_OUT_OF_MEMORY = 2


def of_code(error: BaseException) -> worker_pb2.StartFailed:
    """Return the account of code that could not be loaded."""
    for link in chain(error):
        if isinstance(link, ModuleNotFoundError):
            return worker_pb2.StartFailed(
                cause=Cause.CAUSE_MISSING_IMPORT, failure=describe(link), subject=link.name or ""
            )
    return worker_pb2.StartFailed(cause=Cause.CAUSE_CODE, failure=describe(error))


def of_node(error: BaseException, node: str) -> worker_pb2.StartFailed:
    """Return the account of a startup node that raised; ``node`` is empty after the last one."""
    causes = (_cause(link) for link in chain(error))
    cause = next((cause for cause in causes if cause is not None), Cause.CAUSE_NODE)
    return worker_pb2.StartFailed(cause=cause, failure=describe(error, node))


def of_run(error: BaseException) -> worker_pb2.RunFailed.Cause.ValueType:
    """Return what a node that raised in a run stands for."""
    for link in chain(error):
        if _no_host_memory(link):
            return worker_pb2.RunFailed.CAUSE_OUT_OF_MEMORY
        if _no_device_memory(link):
            return worker_pb2.RunFailed.CAUSE_DEVICE_OUT_OF_MEMORY
    return worker_pb2.RunFailed.CAUSE_NODE


def _no_host_memory(error: BaseException) -> bool:
    # Torch has no class of its own for what its allocator does not get.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in text(error)
    )


def _no_device_memory(error: BaseException) -> bool:
    return isinstance(error, _of_torch("OutOfMemoryError")) or (
        isinstance(error, weights.CudaError) and error.code == _CUDA_ERROR_OUT_OF_MEMORY
    )


def _cause(error: BaseException) -> Cause.ValueType | None:
    """Return what an exception stands for by itself; None if that depends on what it came from."""
    if isinstance(error, (weights.Cancelled, weights.Asleep)):
        # The node's own doing.
        return Cause.CAUSE_NODE
    if isinstance(error, weights.OverBudget) or _no_host_memory(error):
        return Cause.CAUSE_OUT_OF_MEMORY
    if _no_device_memory(error):
        return Cause.CAUSE_DEVICE_OUT_OF_MEMORY
    if isinstance(error, weights.CudaError):
        return Cause.CAUSE_DEVICE
    if isinstance(error, (weights.DriverMissing, *_of_torch("AcceleratorError"))):
        return Cause.CAUSE_DEVICE
    return Cause.CAUSE_WEIGHTS if isinstance(error, SafetensorError) else None


def _of_torch(name: str) -> tuple[type[BaseException], ...]:
    """Return a class of torch, if torch is there and has it."""
    found = getattr(sys.modules.get("torch"), name, None)
    return (found,) if isinstance(found, type) else ()
