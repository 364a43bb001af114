"""From the loader's capsules to torch tensors."""

from __future__ import annotations

from collections.abc import Callable
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
    from torch.utils.dlpack import from_dlpack

    return from_dlpack


def adopt(capsule: _Capsule, dtype: str) -> torch.Tensor:
    """Make a tensor of a capsule, without a copy. `dtype` is the format's name of it."""
    tensor = _from_dlpack()(capsule)
    return tensor.view(_torch_dtype(dtype)) if dtype in _REINTERPRETED else tensor
