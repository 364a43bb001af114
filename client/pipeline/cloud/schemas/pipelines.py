"""What an upload returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.cloud.compute_requirements import Accelerator

__all__ = ["PipelineGet"]


@dataclass(frozen=True)
class PipelineGet:
    """An uploaded pipeline: one version of a deployment.

    Attributes:
        id: of this version, ``"name:v3"``: what ``run_pipeline`` and ``create_pointer`` take.
        name: of the deployment.
        version: of the deployment.
        created_at: in UTC.
        minimum_cache_number: workers that run it at once.
        environment_id: of the environment that its requirements were taken from; None without one.
        gpu_memory_min: MB of GPU memory that it was uploaded with; the daemon does not keep it.
        accelerators: that it was uploaded with; the daemon does not keep them.

    """

    id: str
    name: str
    version: int
    created_at: datetime
    minimum_cache_number: int = 1
    environment_id: str | None = None
    gpu_memory_min: int | None = None
    accelerators: tuple[Accelerator, ...] = ()
