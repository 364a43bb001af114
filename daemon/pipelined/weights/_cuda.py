"""Which devices are ours: what torch calls a CUDA device, where it has one."""

from __future__ import annotations


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
