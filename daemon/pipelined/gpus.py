"""What GPUs the machine has, found out without a driver's library: CUDA stays untouched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

UNKNOWN = "unknown"
_MODEL = re.compile(r"^Model:\s*(\S.*?)\s*$", re.MULTILINE)


def gpu_models(root: Path = Path("/")) -> Sequence[str]:
    """The model of each NVIDIA GPU, such as "NVIDIA L4"; "unknown" where the driver does not tell.

    Args:
        root: The file system to look into.
    """
    # One folder per GPU, with a file that the driver fills.
    folders = sorted(root.glob("proc/driver/nvidia/gpus/*"))
    models = [_model(folder / "information") for folder in folders]
    if models:
        return models
    # Some containers have the devices, but not what is told of them.
    return [UNKNOWN for _ in root.glob("dev/nvidia[0-9]*")]


def _model(information: Path) -> str:
    try:
        found = _MODEL.search(information.read_text(errors="replace"))
    except OSError:
        return UNKNOWN
    return UNKNOWN if found is None else found[1]
