"""What the timeline says of the weights that a startup loaded: one stage per file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelined.weights import Load


@dataclass(frozen=True, slots=True)
class FileStage:
    """One file, however often it was opened.

    Attributes:
        name: The file's, without its folder.
        started: CLOCK_MONOTONIC in seconds.
        seconds: Until the whole file was where it was loaded to, or until the startup's end if it
            was not by then. Of several loads the sum, where they overlap counted once.
        bytes: Of its tensors; of those that were asked for, if that was not all.
        source: Where they were when the file was opened first.
    """

    name: str
    started: float
    seconds: float
    bytes: int
    source: str


def of_files(loads: Iterable[Load], now: float) -> list[FileStage]:
    """Return a stage for each file, in the order in which they were begun; ``now`` is the end."""
    files: dict[str, list[Load]] = {}
    for load in loads:
        files.setdefault(load.path, []).append(load)
    return sorted((_of_file(of_one, now) for of_one in files.values()), key=lambda s: s.started)


def _of_file(loads: Sequence[Load], now: float) -> FileStage:
    first = min(loads, key=lambda load: load.started)
    # Beside one that brought the whole file, those that only took a tensor out of it never end.
    whole = [load for load in loads if load.seconds is not None] or loads
    started = min(load.started for load in whole)
    return FileStage(
        name=first.name,
        started=started,
        seconds=_covered(
            (load.started, now if load.seconds is None else load.started + load.seconds)
            for load in whole
        ),
        bytes=max(load.bytes for load in whole),
        source=first.source,
    )


def _covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return how much time intervals cover together."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered
