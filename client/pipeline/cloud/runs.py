"""Runs of the hosted service that are looked up later."""

from __future__ import annotations

from pipeline.cloud._not_served import not_served
from pipeline.cloud.pipelines import Run

__all__ = ["get_run", "poll_for_run_completion"]


def get_run(run_id: str) -> Run:
    """Look up a run.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served("runs.get_run", "pipelines.run_pipeline waits and returns the outputs")


def poll_for_run_completion(
    run_id: str, timeout: float | None = None, interval: float = 1.0
) -> Run:
    """Wait for a run that was started without waiting for it.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served(
        "runs.poll_for_run_completion", "pipelines.run_pipeline waits and returns the outputs"
    )
