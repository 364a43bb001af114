"""What a run printed."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.cloud._not_served import not_served

__all__ = ["get_run_logs"]


def get_run_logs(run_id: str) -> Iterator[str]:
    """Return what a run printed, line by line.

    Raises:
        errors.NotServed: always, in this version.

    """
    raise not_served("logs.get_run_logs", "the daemon's own log has what its workers print")
