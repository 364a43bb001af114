"""Weights in the memory of the CPU: files that are mapped."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import accumulate
from typing import TYPE_CHECKING

from pipelined.weights import _moves
from pipelined.weights._arena import (
    MILLISECONDS_BETWEEN_LOOKS,
    Arena,
    ArenaStats,
    Entry,
    State,
    path_of,
)
from pipelined.weights._locks import ForkLock
from pipelined.weights._progress import FileProgress, LoadProgress
from pipelined.weights._tensors import adopt
from pipelined.weights.errors import LoadError

if TYPE_CHECKING:
    import torch

    from pipelined._weights import Checkpoint

# One at a time, so that two that are asked to put the same files to sleep and to wake them do not
# leave some asleep and some awake. It takes little time.
_transition = ForkLock()

# The state of several files is the first of these that one of them has.
_STATES: tuple[State, ...] = ("failed", "asleep", "loading", "awake")


class CpuArena(Arena):
    """Files that are mapped privately. Asleep, only what was written to is in memory."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        super().__init__([(path_of(one.path), one.entries()) for one in checkpoints])
        self._checkpoints = checkpoints

    @property
    def device(self) -> str:  # noqa: D102
        return "cpu"

    def address(self, name: str) -> int:  # noqa: D102
        return self._checkpoints[self._entry(name).file].address(name)

    def read_back(self, name: str) -> bytes:  # noqa: D102
        # Touches the pages, as whoever uses the tensor does. Other threads can run while they are
        # read from the disk, which they could not in string_at().
        nbytes = self._entry(name).nbytes
        buffer = ctypes.create_string_buffer(nbytes)
        ctypes.memmove(buffer, self.address(name), nbytes)
        return buffer.raw

    def cancel(self) -> None:  # noqa: D102
        for checkpoint in self._checkpoints:
            checkpoint.cancel()

    def sleep(self, *, unmodified: bool = False) -> None:  # noqa: D102
        # The kernel knows what was written to: there is nothing to save.
        del unmodified
        with _transition, ExitStack() as undo:
            for checkpoint in self._checkpoints:
                was_awake = checkpoint.state != "asleep"
                checkpoint.sleep()
                if was_awake:
                    undo.callback(_attempt, checkpoint.wake)
            undo.pop_all()

    def wake(self) -> None:  # noqa: D102
        with _transition, ExitStack() as undo:
            for checkpoint in self._checkpoints:
                if checkpoint.state == "asleep":
                    checkpoint.wake()
                    undo.callback(_attempt, checkpoint.sleep)
            undo.pop_all()

    def stats(self) -> ArenaStats:  # noqa: D102
        files = [checkpoint.stats() for checkpoint in self._checkpoints]
        return ArenaStats(
            state=_state_of([one["state"] for one in files]),
            tensor_bytes=sum(one["tensor_bytes"] for one in files),
            resident_bytes=sum(one["resident_bytes"] for one in files),
            saved_bytes=sum(one["saved_bytes"] for one in files),
            chunks=sum(one["chunks"] for one in files),
            buffered_bytes=sum(one["buffered_bytes"] for one in files),
            direct_bytes=sum(one["direct_bytes"] for one in files),
            # Files are read at the same time, and put to sleep one after the other.
            load_seconds=max((one["load_seconds"] for one in files), default=0.0),
            sleep_seconds=sum(one["sleep_seconds"] for one in files),
            wake_seconds=max((one["wake_seconds"] for one in files), default=0.0),
        )

    def _make_ready(self) -> None:
        _moves.watch()

    def _tensor(self, name: str, entry: Entry) -> torch.Tensor:
        return adopt(self._checkpoints[entry.file].tensor(name), entry.dtype)

    def _steps(self) -> Iterator[LoadProgress | None]:
        # The bytes come in steps from several threads: a tensor counts once as many bytes as end
        # with it have been read.
        ends: list[list[int]] = [[] for _ in self._checkpoints]
        for entry in self._entries.values():
            ends[entry.file].append(entry.nbytes)
        ends = [list(accumulate(sizes)) for sizes in ends]
        totals = [checkpoint.progress.total_bytes for checkpoint in self._checkpoints]
        for checkpoint in self._checkpoints:
            checkpoint.populate()
        seen: list[int] | None = None
        while True:
            # A look at all, then a wait for the first that is not finished.
            news = [checkpoint.news(0, 0) for checkpoint in self._checkpoints]
            loaded = [count for _, count in news]
            if loaded != seen:
                seen = loaded
                yield LoadProgress(
                    sum(loaded),
                    sum(totals),
                    sum(bisect_right(end, count) for end, count in zip(ends, loaded, strict=True)),
                    sum(map(len, ends)),
                    tuple(map(FileProgress, self._paths, loaded, totals)),
                )
            else:
                yield None
            states = [state for state, _ in news]
            if "failed" in states or "loading" not in states:
                return
            file = states.index("loading")
            self._checkpoints[file].news(loaded[file], MILLISECONDS_BETWEEN_LOOKS)

    def _check(self) -> None:
        for checkpoint in self._checkpoints:
            checkpoint.check()


def _attempt(action: Callable[[], None]) -> None:
    """Undo a file's part as far as it goes: it is the first error that is told."""
    with suppress(LoadError, OSError):
        action()


def _state_of(states: Sequence[State]) -> State:
    return min(states, key=_STATES.index, default="awake")
