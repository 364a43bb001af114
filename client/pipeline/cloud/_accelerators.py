"""Whether a machine has what a pipeline was uploaded for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.cloud.compute_requirements import Accelerator

__all__ = ["accelerator_warnings"]

_WORD = re.compile(r"[a-z0-9]+")


def accelerator_warnings(wanted: Sequence[Accelerator], gpus: Sequence[str]) -> list[str]:
    """Tell that a machine has none of the accelerators.

    Args:
        wanted: any of which will do.
        gpus: the models of the machine's GPUs, as ``DaemonInfo`` has them.

    Raises:
        ValueError: one is no Accelerator.

    """
    accelerators = [Accelerator(each) for each in wanted]
    known = [gpu for gpu in gpus if gpu != "unknown"]
    if any(_is_there(each, gpus, known) for each in accelerators):
        return []
    names = ", ".join(each.value for each in accelerators)
    if len(known) < len(gpus):
        return [f"it was uploaded for {names}; of what model the daemon's GPUs are is not known"]
    there = ", ".join(sorted(set(known))) if known else "no GPU"
    return [f"it was uploaded for {names}, but the daemon's machine has {there} and runs it there"]


def _is_there(accelerator: Accelerator, gpus: Sequence[str], known: Sequence[str]) -> bool:
    if accelerator is Accelerator.cpu:
        return True
    if accelerator is Accelerator.nvidia_all:
        return bool(gpus)
    # "nvidia_a100_80gb": the model, and its memory if there are several, in the drivers' words.
    words = set(accelerator.value.split("_")[1:])
    return any(words <= set(_WORD.findall(gpu.lower())) for gpu in known)
