"""What runs and startups printed."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline._graph.streams import Stream
from pipeline.cloud._connection import connected
from pipeline.cloud._names import unowned

__all__ = ["get_pipeline_startup_logs", "get_run_logs", "tail_run_logs"]


def get_run_logs(run_id: str) -> list[str]:
    """Return the lines that a run has printed until now.

    Raises:
        errors.NotFound: the daemon does not remember the run.

    """
    with connected().get_run(run_id).logs() as lines:
        return [line.text for line in lines]


def tail_run_logs(run_id: str) -> Stream[tuple[str, str]]:
    """Yield the lines that a run prints, until it ends or the Stream is closed.

    Returns:
        Pairs of the time, in nanoseconds since the epoch as a string of digits, and the text.

    Raises:
        errors.NotFound: the daemon does not remember the run.

    """
    lines = connected().get_run(run_id).logs(follow=True)

    def pairs() -> Iterator[tuple[str, str]]:
        with lines:
            for line in lines:
                # The daemon's times are in microseconds here.
                yield f"{round(line.time.timestamp() * 1_000_000)}000", line.text

    return Stream(pairs())


def get_pipeline_startup_logs(pipeline_id_or_pointer: str) -> list[str]:
    """Return what the workers of a pipeline printed outside of runs, such as in its startup.

    Raises:
        errors.NotFound: there is no such pipeline.

    """
    with connected().logs(unowned(pipeline_id_or_pointer)) as lines:
        return [line.text for line in lines if not line.run_id]
