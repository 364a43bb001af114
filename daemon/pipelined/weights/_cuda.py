"""Which devices are ours: what torch calls a CUDA device, where it has one."""

from __future__ import annotations

import re
import sys

from safetensors import SafetensorError

_CUDA = re.compile("cuda(?::(0|[1-9][0-9]{0,9}))?")
# The driver counts devices in 32 bits.
_END = 1 << 31


def named_ordinal(device: object) -> int | None:
    """Return the ordinal of the CUDA device that is named; None for the CPU.

    Takes "cpu" or None, "cuda", "cuda:1", 1 or a torch.device. "cuda" alone is torch's current
    device, or 0 where torch has no CUDA. Whether there is such a device is for the driver to say.
    Does not import torch: where nobody has, the current device is 0.

    Raises SafetensorError for everything else.
    """
    name = str(device) if _is_torch_device(device) else device
    if name is None or name == "cpu":
        return None
    ordinal = -1
    if isinstance(name, int) and not isinstance(name, bool):
        ordinal = name
    elif isinstance(name, str) and (parsed := _CUDA.fullmatch(name)):
        ordinal = _current_ordinal() if parsed[1] is None else int(parsed[1])
    if not 0 <= ordinal < _END:
        raise SafetensorError(f"weights load onto the CPU and CUDA devices, not {device!r}")
    return ordinal


def _is_torch_device(device: object) -> bool:
    if "torch" not in sys.modules:
        return False
    import torch

    return isinstance(device, torch.device)


def _current_ordinal() -> int:
    if "torch" not in sys.modules:
        return 0
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def cuda_ordinal(device: object) -> int | None:
    """Return the ordinal of a CUDA device that this torch can use; None for all else.

    Takes what safetensors takes: "cuda", "cuda:1", 1 or a torch.device. "cuda" alone is torch's
    current device. Imports torch only for what could be such a device.
    """
    if device is None or device == "cpu" or isinstance(device, bool):
        return None
    import torch

    if isinstance(device, int):
        ordinal: int | None = device
    elif isinstance(device, str | torch.device):
        try:
            parsed = torch.device(device)
        except RuntimeError:
            return None
        if parsed.type != "cuda":
            return None
        ordinal = parsed.index
    else:
        return None
    # What a torch for ROCm calls "cuda" has another driver.
    if torch.version.hip is not None or not torch.cuda.is_available():
        return None
    if ordinal is None:
        ordinal = torch.cuda.current_device()
    return ordinal if 0 <= ordinal < torch.cuda.device_count() else None
