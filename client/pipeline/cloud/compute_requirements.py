"""Names of accelerators, as the hosted service has them."""

from __future__ import annotations

from enum import Enum

__all__ = ["Accelerator"]


class Accelerator(str, Enum):
    """What a pipeline may ask to run on. The daemon uses what its machine has."""

    nvidia_t4 = "nvidia_t4"
    nvidia_a100 = "nvidia_a100"
    nvidia_a100_80gb = "nvidia_a100_80gb"
    nvidia_v100 = "nvidia_v100"
    nvidia_v100_32gb = "nvidia_v100_32gb"
    nvidia_3090 = "nvidia_3090"
    nvidia_a16 = "nvidia_a16"
    nvidia_a5000 = "nvidia_a5000"
    nvidia_h100 = "nvidia_h100"
    nvidia_l4 = "nvidia_l4"
    nvidia_all = "nvidia_all"
    cpu = "cpu"
