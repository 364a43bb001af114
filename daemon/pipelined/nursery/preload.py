"""What the nursery imports before it forks, and the check that it can be forked afterwards."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# "module", or "module:attribute" where the module imports what it has on first use. Found by
# loading and running a StableDiffusionPipeline and a BERT encoder after the import of the first
# three, and noting what they imported; tests/nursery/test_preload.py does so again.
DEFAULT_PRELOAD: tuple[str, ...] = (
    "torch",
    "transformers",
    "diffusers",
    "numpy.random",
    "PIL.Image",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "transformers:AutoModel",
    "transformers:AutoTokenizer",
    "transformers:CLIPImageProcessor",
    "transformers:CLIPTextModel",
    "transformers:CLIPTokenizer",
    "transformers.generation.candidate_generator",
    "transformers.generation.stopping_criteria",
    "transformers.generation.utils",
    "transformers.models.align",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "diffusers:AutoencoderKL",
    "diffusers:StableDiffusionPipeline",
    "diffusers:UNet2DConditionModel",
    "diffusers.guiders",
    "diffusers.pipelines.stable_diffusion.safety_checker",
    "diffusers.schedulers.scheduling_ddim",
    "diffusers.schedulers.scheduling_ddpm",
    "diffusers.schedulers.scheduling_deis_multistep",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "diffusers.schedulers.scheduling_dpmsolver_singlestep",
    "diffusers.schedulers.scheduling_edm_euler",
    "diffusers.schedulers.scheduling_euler_ancestral_discrete",
    "diffusers.schedulers.scheduling_euler_discrete",
    "diffusers.schedulers.scheduling_heun_discrete",
    "diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete",
    "diffusers.schedulers.scheduling_k_dpm_2_discrete",
    "diffusers.schedulers.scheduling_lms_discrete",
    "diffusers.schedulers.scheduling_pndm",
    "diffusers.schedulers.scheduling_unipc_multistep",
)

_THREAD_EXIT_SECONDS = 0.5


@dataclass(slots=True)
class Preloading:
    """What came of a preload list.

    Attributes:
        seconds: How long it took.
        modules: Entries of the list that were imported.
        failed: Those that were not, each "entry: reason".
        exec_reason: Why this process must not be forked; empty if it may be.
    """

    seconds: float = 0.0
    modules: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    exec_reason: str = ""


def preload(entries: Sequence[str]) -> Preloading:
    """Import every entry, come what may, and check that the process can still be forked."""
    result = Preloading()
    began = time.monotonic()
    suspect = ""
    for entry in entries:
        module, _, attribute = entry.partition(":")
        try:
            imported = importlib.import_module(module)
            if attribute:
                getattr(imported, attribute)
        except BaseException as error:  # a module may raise anything, SystemExit too
            result.failed.append(f"{entry}: {type(error).__name__}: {error}"[:500])
        else:
            result.modules.append(entry)
        # The first since when there is a reason, unless it passes: threads end.
        suspect = (suspect or entry) if reason_not_to_fork() else ""
    if reason := lasting_reason_not_to_fork():
        result.exec_reason = f"after importing {suspect}: {reason}" if suspect else reason
    result.seconds = time.monotonic() - began
    return result


def reason_not_to_fork() -> str:
    """Return why a fork of this process would not work as a process of its own, or "".

    Only the thread that forks lives on in the child: locks that others hold stay locked, and a pool
    of threads that a library believes in is not there. Nor does a GPU context survive a fork.
    """
    if reason := other_threads():
        return reason
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := str(link.readlink())).startswith("/dev/nvidia"):
                return f"{target} is open"
    if "/dev/nvidia" in Path("/proc/self/maps").read_text():
        return "memory of a GPU is mapped"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "CUDA is initialised"
    return ""


def lasting_reason_not_to_fork() -> str:
    """Return the same, but give threads that have been joined a moment to vanish from /proc."""
    deadline = time.monotonic() + _THREAD_EXIT_SECONDS
    while (reason := reason_not_to_fork()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return reason


def other_threads() -> str:
    """Return which threads are running if there is more than this one, else ""."""
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) == 1:
        return ""
    names = []
    for thread in threads:
        with contextlib.suppress(OSError):
            names.append((thread / "comm").read_text().strip())
    return f"{len(threads)} threads are running ({', '.join(names)})"
