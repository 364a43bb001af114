"""Weights in the memory of a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelined.weights._arena import MILLISECONDS_BETWEEN_LOOKS, Arena, ArenaStats, Entry, path_of
from pipelined.weights._noting import noting
from pipelined.weights._progress import FileProgress, LoadProgress
from pipelined.weights._tensors import adopt

if TYPE_CHECKING:
    import torch

    from pipelined._weights import DeviceCheckpoint


class CudaArena(Arena):
    """One range of a device's addresses. Asleep, there is no memory behind them."""

    def __init__(self, checkpoint: DeviceCheckpoint) -> None:
        paths = map(path_of, checkpoint.paths())
        super().__init__([(path, checkpoint.entries(file)) for file, path in enumerate(paths)])
        self._checkpoint = checkpoint

    @property
    def device(self) -> str:  # noqa: D102
        return f"cuda:{self._checkpoint.ordinal}"

    def address(self, name: str) -> int:  # noqa: D102
        entry = self._entry(name)
        return self._checkpoint.address(entry.file, entry.index)

    def read_back(self, name: str) -> bytes:  # noqa: D102
        entry = self._entry(name)
        return self._checkpoint.read_back(entry.file, entry.index)

    def cancel(self) -> None:  # noqa: D102
        self._checkpoint.cancel()

    def sleep(self, *, unmodified: bool = False) -> None:  # noqa: D102
        with noting(self._paths):
            self._checkpoint.sleep(unmodified)

    def wake(self) -> None:  # noqa: D102
        with noting(self._paths):
            self._checkpoint.wake()

    def stats(self) -> ArenaStats:  # noqa: D102
        return ArenaStats(**self._checkpoint.stats())

    def _make_ready(self) -> None:
        import torch

        ordinal = self._checkpoint.ordinal
        with noting(self._paths):
            self._checkpoint.wait_enqueued()
            self._checkpoint.make_wait(torch.cuda.current_stream(ordinal).cuda_stream)

    def _tensor(self, name: str, entry: Entry) -> torch.Tensor:
        return adopt(self._checkpoint.capsule(entry.file, entry.index), entry.dtype)

    def _steps(self) -> Iterator[LoadProgress | None]:
        state, loaded = "", -1
        while True:
            news = self._checkpoint.news(state, max(loaded, 0), MILLISECONDS_BETWEEN_LOOKS)
            state, changed = news[0], news[1] != loaded
            loaded = news[1]
            if changed and state != "failed":
                files = zip(self._paths, self._checkpoint.progress(), strict=True)
                yield LoadProgress(
                    *news[1:],
                    tuple(
                        FileProgress(path, min(one.loaded_bytes, one.total_bytes), one.total_bytes)
                        for path, one in files
                    ),
                )
            else:
                yield None
            if state not in ("loading", "enqueued"):
                return

    def _check(self) -> None:
        with noting(self._paths):
            self._checkpoint.wait()
