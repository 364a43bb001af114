"""Upload a graph and run it, with the hosted service's names and argument forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.cloud._not_served import not_served
from pipeline.cloud.compute_requirements import Accelerator

if TYPE_CHECKING:
    from pipeline.client import Client
    from pipeline.objects import Graph

__all__ = ["Run", "UploadedPipeline", "run_pipeline", "stream_pipeline", "upload_pipeline"]


@dataclass(frozen=True)
class UploadedPipeline:
    """What an upload made.

    Attributes:
        id: what ``run_pipeline`` takes: the deployment's name.
        name: the same.
        version: of the deployment.

    """

    id: str
    name: str
    version: int


@dataclass(frozen=True)
class Run:
    """A run that has ended well; one that has not raises.

    Attributes:
        pipeline_id: the deployment's name.
        outputs: one item per output of the graph.

    """

    pipeline_id: str
    outputs: list[object]

    def outputs_formatted(self) -> list[object]:
        """Return the outputs: they are Python values already."""
        return list(self.outputs)


def upload_pipeline(
    graph: Graph,
    name: str,
    environment_id_or_name: str | int | None = None,
    required_gpu_vram_mb: int | None = None,
    minimum_cache_number: int | None = None,
    modules: Sequence[str] | None = None,
    accelerators: Sequence[Accelerator] | None = None,
) -> UploadedPipeline:
    """Deploy a graph under a name; see :meth:`pipeline.Client.deploy`.

    Args:
        graph: from ``Pipeline.get_pipeline()``.
        name: of the deployment.
        environment_id_or_name: not served.
        required_gpu_vram_mb: not served.
        minimum_cache_number: not served.
        modules: not served; the code of modules that are not installed packages always travels
            with the graph.
        accelerators: not served.

    Raises:
        errors.NotServed: an argument, or a pointer as the name.

    """
    refused = {
        "environment_id_or_name": environment_id_or_name,
        "required_gpu_vram_mb": required_gpu_vram_mb,
        "minimum_cache_number": minimum_cache_number,
        "modules": modules,
        "accelerators": accelerators,
    }
    for argument, value in refused.items():
        if value is not None:
            raise not_served(f"pipelines.upload_pipeline({argument}=…)")
    _check_name("upload_pipeline", name)
    with _client() as client:
        deployment = client.deploy(graph, name)
    return UploadedPipeline(deployment.name, deployment.name, deployment.version)


def run_pipeline(
    pipeline_id_or_pointer: str,
    *data: object,
    async_run: bool = False,
    return_response: bool = False,
) -> Run:
    """Run a deployment and wait for its outputs; see :meth:`pipeline.Client.run`.

    Raises:
        errors.NotServed: one of the two flags, or a pointer as the name.

    """
    if async_run:
        raise not_served("pipelines.run_pipeline(async_run=True)")
    if return_response:
        raise not_served(
            "pipelines.run_pipeline(return_response=True)", "there is no HTTP response"
        )
    _check_name("run_pipeline", pipeline_id_or_pointer)
    with _client() as client:
        return Run(pipeline_id_or_pointer, client.run(pipeline_id_or_pointer, *data))


def stream_pipeline(pipeline_id_or_pointer: str, *data: object) -> Iterator[object]:
    """Run a deployment and yield its outputs as they are made.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served("pipelines.stream_pipeline", "run_pipeline returns all outputs at once")


def _client() -> Client:
    # Programs that only build graphs import this module too: gRPC is not for them.
    from pipeline.client import Client

    return Client()


def _check_name(function: str, name: str) -> None:
    if ":" in name:
        raise not_served(f"pipelines.{function}", f"{name!r} is a pointer; use a plain name")
