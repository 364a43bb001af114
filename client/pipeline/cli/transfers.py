"""Bars of files on their way to a daemon and back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.spinner import Spinner

from pipeline.cli import terminal
from pipeline.objects.files import File

__all__ = ["TransferBars"]

T = TypeVar("T")


class TransferBars:
    """What is going on, and a bar for each file, on a terminal's stderr; elsewhere nothing.

    Args:
        what: is going on.

    """

    def __init__(self, what: str) -> None:
        self._spinner = Spinner("dots", what)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = terminal.stderr()
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console,
                get_renderable=self._render,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        self._tasks: dict[str, TaskID] = {}
        # Told from other threads than the command's.
        self._lock = threading.Lock()

    def __enter__(self) -> TransferBars:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Clear it all away, for what is to be printed. May be called again."""
        if self._live is not None:
            self._live.stop()

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the first one closes this."""
        for item in items:
            self.close()
            yield item

    def uploaded(self, file: File, sent: int, size: int) -> None:
        """Take note of an upload's progress; see ``Client(on_upload=…)``."""
        self.moved(file.name, sent, size)

    def moved(self, name: str, done: int, size: int) -> None:
        """Take note that so many bytes of a file have been moved."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=size)
            self._progress.update(self._tasks[name], completed=done, total=size)

    def _render(self) -> RenderableType:
        return Group(self._spinner, self._progress)
