"""From the loader's capsules to torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from pipelined.weights.errors import UnsupportedDtype

if TYPE_CHECKING:
    import torch

    from pipelined._weights import _Capsule

# Element types that travel as integers of the same width, and what torch calls them. Not every
# torch has all of them.
_REINTERPRETED = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}


@cache
def _torch_dtype(dtype: str) -> torch.dtype:
    import torch

    found = getattr(torch, _REINTERPRETED[dtype], None)
    if not isinstance(found, torch.dtype):
        raise UnsupportedDtype(
            f"Dtype not understood: {dtype} (torch {torch.__version__} has no "
            f"{_REINTERPRETED[dtype]})"
        )
    return found


@cache
def _from_dlpack() -> Callable[[_Capsule], torch.Tensor]:
    # Once: for a file of many small tensors the import statement took as long as the tensors.
    import torch
    from torch.utils.dlpack import from_dlpack

    # What that ends in, without the questions that a capsule need not be asked: for 20,000 tensors
    # 15 ms instead of 26 ms, with torch 2.13.
    direct: Callable[[_Capsule], torch.Tensor] = getattr(torch._C, "_from_dlpack", from_dlpack)
    return direct


def adopt(capsule: _Capsule, dtype: str) -> torch.Tensor:
    """Make a tensor of a capsule, without a copy. `dtype` is the format's name of it."""
    tensor = _from_dlpack()(capsule)
    return tensor.view(_torch_dtype(dtype)) if dtype in _REINTERPRETED else tensor


def adopt_all(capsules: Iterable[tuple[str, str, _Capsule]]) -> dict[str, torch.Tensor]:
    """Make tensors by name of (name, dtype, capsule), like `adopt`."""
    from_dlpack = _from_dlpack()
    return {
        name: adopt(capsule, dtype) if dtype in _REINTERPRETED else from_dlpack(capsule)
        for name, dtype, capsule in capsules
    }
